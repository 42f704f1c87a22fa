"""Full fine-tuning: every weight is trained.

In: the base model. Out: the same model, trained. Invariant: nothing is added, so nothing has to be merged.
"""

from typing import Any, Literal

from tasks.tuning.prepared import Method, Prepared, unchanged


class FullSpec(Method):
    """Train all weights."""

    kind: Literal["full"]

    def prepare(self, model: Any, seed: int) -> Prepared:
        """Returns the model as it is."""
        return Prepared(model, unchanged(model))
