"""What the tuning children are told.

In: a spec and its inputs. Out: a job that crosses as JSON. Invariant: nothing here imports torch.
"""

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from tasks.modeling import labels
from tasks.modeling.chat import TooLong
from tasks.modeling.job import Execution
from tasks.modeling.labels import ClassWeights, Criterion, HeadFacts
from tasks.modeling.specs import OptimSpec, ResolvedPrecision, TrainSpec
from tasks.tuning.ewc import EwcSpec
from tasks.tuning.labelled_methods import LabelledMethodSpec
from tasks.tuning.methods import MethodSpec
from tasks.tuning.preference_losses import PreferenceLoss
from tasks.tuning.replay import ReplaySpec

FIGURES_NAME = "figures.json"


class TuningJob(BaseModel):
    """What every tuning is told: the base, the method, how it trains, and where."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    execution: Execution
    base_dir: Path
    base_digest: str
    method: MethodSpec
    optim: OptimSpec
    train: TrainSpec
    precision: ResolvedPrecision
    seed: int


class TuneJob(TuningJob):
    """What to tune on conversations, on which files."""

    conversations_dir: Path
    row_tokens: int | None
    corpus_dir: Path
    fisher_dir: Path
    tokenizer_digest: str
    too_long: TooLong
    replay: ReplaySpec | None
    ewc: EwcSpec | None
    embedding_noise: float | None


class PreferJob(TuningJob):
    """What to train on pairs of answers."""

    preferences_dir: Path
    row_tokens: int | None
    loss: PreferenceLoss


class TuneLabelledJob(TuningJob):
    """What to tune on labelled text, on which items."""

    method: LabelledMethodSpec
    items: Path
    facts: HeadFacts
    criterion: Criterion
    class_weights: ClassWeights | None
    label_smoothing: float
    dropout: float | None
    max_tokens: int | None
    too_long: labels.TooLong
    num_folds: int | None
