"""What is asked of an evaluation on labelled text.

In: fields of a recipe. Out: frozen specs. Invariant: nothing here imports torch or pandas.
"""

from typing import Annotated

from pydantic import Field

from tasks.contracts import Role
from tasks.core.artifact import Spec
from tasks.evaluation.specs import BootstrapSpec
from tasks.modeling.labels import Criterion

# The first of these that a task has is the one its gate asks about.
DEFAULT_METRICS = ("pearson", "micro_f1", "macro_f1")


class EvaluateLabelledSpec(Spec):
    """How each model is scored; products are in fp32, as a labelled model is served."""

    bootstrap: Annotated[BootstrapSpec, Field(description="Intervals.")] = BootstrapSpec()


class ScoreLabelsSpec(Spec):
    """Which part a model plays, and how it is scored."""

    role: Role
    settings: EvaluateLabelledSpec


class CompareLabelsSpec(Spec):
    """How models are compared."""

    bootstrap: Annotated[BootstrapSpec, Field(description="Intervals of the paired differences.")] = BootstrapSpec()
    num_samples: Annotated[int, Field(ge=0, le=200, description="Test items shown that the tuned model gets wrong.")] = 20


class LabelGateSpec(Spec):
    """What the tuned model must reach on test items; each rule is about a whole interval, see `evaluate.bootstrap`."""

    metric: Annotated[
        Criterion | None,
        Field(description="Metric of the rules; none: macro_f1, of multi-label micro_f1, of scores pearson, of GLUE its own."),
    ] = None
    min_items: Annotated[int, Field(ge=1, description="Fewer groups of test items than this give no verdict.")] = 100
    gain_over_base: Annotated[
        float, Field(ge=0, description="By which the tuned model must beat what can be said without reading, see score_majority.")
    ] = 0.0
    champion_loss: Annotated[float, Field(ge=0, description="By which the tuned model may be worse than the champion.")] = 0.0
    calibration: Annotated[
        float | None, Field(gt=0, le=1, description="Largest calibration error of one label an item; none: not asked.")
    ] = None
