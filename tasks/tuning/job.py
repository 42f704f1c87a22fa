"""What the tuning child is told.

In: a `TuneSpec` and its inputs. Out: a `TuneJob` that crosses as JSON. Invariant: nothing here imports torch.
"""

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from tasks.modeling.chat import TooLong
from tasks.modeling.job import Execution
from tasks.modeling.specs import OptimSpec, ResolvedPrecision, TrainSpec
from tasks.tuning.ewc import EwcSpec
from tasks.tuning.methods import MethodSpec
from tasks.tuning.replay import ReplaySpec

FIGURES_NAME = "figures.json"


class TuneJob(BaseModel):
    """What to tune, on which files, and where."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    execution: Execution
    base_dir: Path
    base_digest: str
    conversations_dir: Path
    corpus_dir: Path
    fisher_dir: Path
    tokenizer_digest: str
    method: MethodSpec
    optim: OptimSpec
    train: TrainSpec
    row_tokens: int | None
    too_long: TooLong
    replay: ReplaySpec | None
    ewc: EwcSpec | None
    embedding_noise: float | None
    precision: ResolvedPrecision
    seed: int
