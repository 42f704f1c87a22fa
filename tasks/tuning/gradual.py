"""Gradual unfreezing: from the top, one layer more each period (Howard and Ruder, arXiv:1801.06146).

In: the base model. Out: the same model. Invariant: what is trained at a step is a function of the step, so a training
resumed in the middle ends with the same bits. Gradients of what still stands are made and dropped: it saves no time.
"""

from typing import Annotated, Any, Literal

from pydantic import Field

from tasks.core.artifact import Spec
from tasks.modeling.layers import depths
from tasks.modeling.plan import WeightPlan
from tasks.tuning.prepared import Method, Prepared, unchanged


class EpochsPeriod(Spec):
    """A layer more every so many passes over the data."""

    kind: Literal["epochs"]
    epochs: Annotated[float, Field(gt=0, description="Passes over the data a layer waits for the one above it.")] = 1.0

    def num_passed(self, step: int, epochs: float) -> int:
        """Returns the periods that are over."""
        return int(epochs / self.epochs)


class StepsPeriod(Spec):
    """A layer more every so many steps."""

    kind: Literal["steps"]
    steps: Annotated[int, Field(ge=1, description="Steps a layer waits for the one above it.")] = 50

    def num_passed(self, step: int, epochs: float) -> int:
        """Returns the periods that are over."""
        return step // self.steps


Period = Annotated[EpochsPeriod | StepsPeriod, Field(discriminator="kind")]


class GradualSpec(Method):
    """Train the top layer first, then one more below each period, the embeddings last."""

    kind: Literal["gradual"]
    period: Annotated[Period, Field(description="When the next layer joins.")] = EpochsPeriod(kind="epochs")

    def prepare(self, model: Any, seed: int) -> Prepared:
        """Plans what stands still when."""
        found, num_layers = depths(model)

        def frozen(step: int, epochs: float) -> set[str]:
            lowest = num_layers - self.period.num_passed(step, epochs)
            return {name for name, depth in found.items() if depth < lowest}

        notes = (f"layer {num_layers} and what is above it first, then one layer more each period: {self.period}",)
        return Prepared(model, unchanged(model), WeightPlan(frozen=frozen), notes)
