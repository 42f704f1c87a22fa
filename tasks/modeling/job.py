"""What every training child is told about where and how it runs, and what it leaves behind.

In: a stage's context. Out: an `Execution` that crosses as JSON, and a `TrainResult` read back. Invariant: nothing in an
`Execution` changes what is learned, but for rounding. Nothing here imports torch.
"""

from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from tasks.core.artifact import EXTRA_DIR
from tasks.core.site import Sharding, Site
from tasks.modeling.objectives import ObjectiveSpec
from tasks.modeling.records import read_records
from tasks.modeling.specs import ModelSpec, OptimSpec, ResolvedPrecision, TrainSpec

if TYPE_CHECKING:
    from tasks.core.stage import StageContext

RESULT_NAME = "result.json"
METRICS_NAME = "metrics.jsonl"


class Compute(BaseModel):
    """How a model is computed while it is trained; the fields are those of `Site`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    compile: bool = False
    recompute_activations: bool = False
    loss_chunk_tokens: int | None = None

    @classmethod
    def of(cls, site: Site) -> "Compute":
        """Takes what concerns the computation from the site."""
        return cls(**{name: getattr(site, name) for name in cls.model_fields})


class Execution(BaseModel):
    """Where a training works.

    Attributes:
        dir: Folder of the artifact that is being made.
        device: `cpu` or `cuda`.
        sharding: How the weights lie on many processes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    dir: Path
    device: str
    sharding: Sharding
    micro_batch_rows: int | None
    compute: Compute = Compute()

    @classmethod
    def of(cls, folder: Path, site: Site) -> "Execution":
        """Takes what a training needs to know from the site."""
        return cls(
            dir=folder,
            device=site.resolved_device,
            sharding=site.sharding,
            micro_batch_rows=site.micro_batch_rows,
            compute=Compute.of(site),
        )

    @property
    def extra(self) -> Path:
        """Folder of what is kept beside the model: records, curve, checkpoints."""
        return self.dir / EXTRA_DIR

    @property
    def model(self) -> Path:
        """Folder of the model."""
        return self.dir / "model"


class ReplayJob(BaseModel):
    """Which earlier corpus stands among the new text, with which share of the rows."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    corpus_dir: Path
    share: float


class PretrainJob(BaseModel):
    """What to pretrain, from which files, and where; `base_dir` is the model it goes on from, where it does."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    execution: Execution
    corpus_dir: Path
    tokenizer_dir: Path
    tokenizer_digest: str
    special_tokens: dict[str, str]
    vocab_size: int
    validation_bytes: int
    base_dir: Path | None = None
    replay: ReplayJob | None = None
    model: ModelSpec
    objective: ObjectiveSpec
    optim: OptimSpec
    train: TrainSpec
    precision: ResolvedPrecision
    seed: int


class TrainResult(BaseModel):
    """What a training ended with.

    Attributes:
        selected_step: Step whose weights became the model.
        train_loss: Mean of the latest steps, of all that is minimised: penalties, smoothing and old text among them.
        first_validation_loss: Loss before the first step, on the rows of the looks.
        validation_loss: Mean over all targets of the validation rows, for the weights that were selected.
        judged: The loss, and the figures of the task's watch, on the rows that are judged by; see `Task`.
        notes: What was left out, cut, passed over or done with less memory, counted.
        figures: What the model, and what counting words, makes of held-out text; see `Checkpoint`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    num_parameters: int
    num_trained_parameters: int
    num_steps: int
    num_tokens: int
    selected_step: int
    num_epochs: float
    train_loss: float
    first_validation_loss: float
    validation_loss: float
    validation_bits_per_byte: float | None
    judged: dict[str, float] = {}
    notes: dict[str, int] = {}
    figures: dict[str, float] = {}

    def facts(self) -> dict[str, Any]:
        """Returns what every `Checkpoint` says of the training that made it."""
        names = ("num_parameters", "num_trained_parameters", "num_steps", "num_tokens", "train_loss", "validation_loss")
        return {name: getattr(self, name) for name in names}


def write_result(execution: Execution, result: TrainResult) -> None:
    """Leaves the result where the stage reads it."""
    (execution.extra / RESULT_NAME).write_text(result.model_dump_json(indent=1), encoding="utf-8")


def read_result(ctx: "StageContext") -> TrainResult:
    """Reads what the training child wrote, draws its curve, and lets the log know."""
    from tasks.modeling.curve import draw_curve

    extra = ctx.dir / EXTRA_DIR
    result = TrainResult.model_validate_json((extra / RESULT_NAME).read_bytes())
    levels = {name.removesuffix("_nats"): value for name, value in result.figures.items() if name.endswith("_nats")}
    draw_curve(extra / METRICS_NAME, extra / "curve.svg", title=ctx.stage.name, levels=levels)
    ctx.log.info("%s: validation loss %.3f, at first %.3f", ctx.stage.name, result.validation_loss, result.first_validation_loss)
    return result


def speed_figures(ctx: "StageContext") -> dict[str, float]:
    """Returns the medians of targets a second and of the device's utilisation over the steps of a training."""
    records = read_records(ctx.dir / EXTRA_DIR / METRICS_NAME)
    found = {name: [record[name] for record in records if name in record] for name in ("tokens_per_s", "mfu")}
    return {name: median(values) for name, values in found.items() if values}
