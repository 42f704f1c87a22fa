"""Full fine-tuning: every weight is trained.

In: the base model. Out: the same model, trained. Invariant: nothing is added, so nothing has to be merged.
"""

from pathlib import Path
from typing import Any, Literal

from tasks.core.artifact import Spec
from tasks.tuning.prepared import Prepared


class FullSpec(Spec):
    """Train all weights."""

    kind: Literal["full"]

    def prepare(self, model: Any, seed: int) -> Prepared:
        """Returns the model as it is."""

        def finish(folder: Path) -> Any:
            return model

        return Prepared(model, finish)
