"""What the child that tunes on labelled text is told.

In: a `TuneLabelledSpec` and its inputs. Out: a `TuneLabelledJob` that crosses as JSON. Invariant: nothing here imports torch.
"""

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from tasks.modeling.job import Execution
from tasks.modeling.labels import ClassWeights, Criterion, HeadFacts, TooLong
from tasks.modeling.specs import OptimSpec, ResolvedPrecision, TrainSpec
from tasks.tuning.labelled_methods import LabelledMethodSpec


class TuneLabelledJob(BaseModel):
    """What to tune, on which items, and where."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    execution: Execution
    base_dir: Path
    base_digest: str
    items: Path
    facts: HeadFacts
    method: LabelledMethodSpec
    optim: OptimSpec
    train: TrainSpec
    criterion: Criterion
    class_weights: ClassWeights | None
    label_smoothing: float
    dropout: float | None
    max_tokens: int | None
    too_long: TooLong
    num_folds: int | None
    precision: ResolvedPrecision
    seed: int
