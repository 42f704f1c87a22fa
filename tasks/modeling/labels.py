"""What a labelled training tells of its labels: the task, names, weights, and what the best look is chosen by.

In: fields of a recipe. Out: frozen values. Invariant: nothing here imports torch.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from tasks.contracts import LabelledTask
from tasks.core.artifact import Spec

Criterion = Literal["loss", "accuracy", "f1", "macro_f1", "micro_f1", "mcc", "pearson", "spearman", "rmse"]
LOWER_IS_BETTER: tuple[Criterion, ...] = ("loss", "rmse")
FIGURES: dict[LabelledTask, tuple[Criterion, ...]] = {
    "classification": ("accuracy", "macro_f1", "mcc"),
    "multi_label": ("accuracy", "macro_f1", "micro_f1"),
    "regression": ("pearson", "rmse"),
    "token_classification": ("accuracy", "macro_f1", "mcc"),
}


def figures_of(task: LabelledTask, num_labels: int) -> tuple[Criterion, ...]:
    """Returns what a look at the validation items measures; F1 of the second label only where there are two."""
    return (*FIGURES[task], "f1") if task == "classification" and num_labels == 2 else FIGURES[task]


# What a model's configuration says of its head (`problem_type` of transformers, which knows none for words).
PROBLEMS: dict[LabelledTask, str] = {
    "classification": "single_label_classification",
    "multi_label": "multi_label_classification",
    "regression": "regression",
    "token_classification": "token_classification",
}
TooLong = Literal["truncate", "drop"]


class BalancedWeights(Spec):
    """Each class weighs n / (K n_c), so that all K classes weigh alike; of many labels, each one's yes as much as its no."""

    kind: Literal["balanced"]


class GivenWeights(Spec):
    """Each label weighs what is said here."""

    kind: Literal["given"]
    weights: Annotated[dict[str, float], Field(min_length=1, description="Weight by name of the label; 1 for those not named.")]


ClassWeights = Annotated[BalancedWeights | GivenWeights, Field(discriminator="kind")]


class HeadFacts(BaseModel):
    """What a head says.

    Attributes:
        label_names: Names in the order of their numbers; none for regression.
        mean, spread: What a regression's values were shifted and divided by; the head says (value - mean) / spread.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: LabelledTask
    label_names: tuple[str, ...] = ()
    mean: float = 0.0
    spread: float = 1.0

    @property
    def num_outputs(self) -> int:
        """Numbers it gives for an item, or for a word."""
        return max(1, len(self.label_names))

    def value(self, said: Any) -> Any:
        """Returns what the head of a regression says as values."""
        return said * self.spread + self.mean
