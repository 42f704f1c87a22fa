"""What the artifact types share: splits, roles, counts and that they add up, a figure with its interval."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
Count = Annotated[int, Field(ge=0)]
Counts = dict[str, Count]
Role = Literal["base", "tuned", "champion"]
LabelledTask = Literal["classification", "multi_label", "regression", "token_classification"]
LABEL_METRICS = ("accuracy", "macro_f1", "pearson", "rmse")

_SHOWN_REASONS = 4


class Interval(BaseModel):
    """A figure with its 95% bootstrap interval over `num_items` items; those of one group count as one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mean: float
    low: float
    high: float
    num_items: Count

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


def check_conserved(what: str, num_in: int, kept: int, lost: Counts) -> None:
    """Raises ValueError where what came in is not what was kept and what was lost."""
    if num_in != kept + sum(lost.values()):
        raise ValueError(f"{what}: {num_in} in, but {kept} kept + {sum(lost.values())} accounted for: {lost}")


def reasons(counts: Counts, lost: str = "dropped") -> str:
    """Says what was lost, the most frequent reasons first, the rest as one number."""
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    shown = [f"{count:,} {name}" for name, count in ordered[:_SHOWN_REASONS]]
    if rest := sum(count for _, count in ordered[_SHOWN_REASONS:]):
        shown.append(f"{rest:,} for other reasons")
    return f"{lost}: {', '.join(shown)}" if shown else f"none {lost}"
