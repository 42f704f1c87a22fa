"""What is asked of a model and of its training: size, optimiser, schedule, budget, precision.

In: fields of a recipe. Out: frozen specs and pure functions of them. Invariant: everything here is identity; what does not
change the result (devices, processes, micro-batches) lives in `Site`. Nothing here imports torch.
"""

import math
from contextlib import suppress
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from tasks.core.artifact import Spec
from tasks.core.errors import RecipeError
from tasks.core.site import Precision, Site

ResolvedPrecision = Literal["fp32", "bf16", "fp16"]
ResidualInit = Literal["same", "scaled", "zero"]

Family = Literal["llama", "qwen3", "gpt2", "bert", "modernbert", "t5", "bart"]
# Encoders whose states and masked head are known; others are tuned on labels only, by their own forward pass.
ENCODERS = ("bert", "ernie", "roberta", "xlm-roberta", "camembert", "modernbert")
_GATED: tuple[Family, ...] = ("llama", "qwen3", "modernbert")  # feed-forward layers of three matrices
_PLAIN_RESIDUALS = ("llama", "qwen3")
_ROTARY: tuple[Family, ...] = ("llama", "qwen3", "modernbert")
_GROUPED: tuple[Family, ...] = ("llama", "qwen3")  # may have fewer key and value heads than heads

_TWO_PARTS: tuple[Family, ...] = ("t5", "bart")

_HEAD_WIDTH = 64
_MAX_DEPTH = 128


class ModelSpec(Spec):
    """A model from one size dial; every derived size can be set instead.

    Rules: width = 64 * depth (nanochat's aspect ratio), heads of 64 (Llama, Qwen), feed-forward 4 times the width, or 8/3 of it
    where it is gated (Shazeer, arXiv:2002.05202: three matrices cost what two of 4x would), rounded up to 64.
    """

    family: Annotated[
        Family,
        Field(
            description="Architecture. Decoders: llama, qwen3 (adds a norm on queries and keys), gpt2; encoders: bert, "
            "modernbert; encoder-decoders: t5, bart (as many layers in each part as depth says)."
        ),
    ] = "llama"
    depth: Annotated[int, Field(ge=1, le=_MAX_DEPTH, description="Layers: the size dial; the other sizes follow from it.")] = 4
    num_parameters: Annotated[
        int | None,
        Field(ge=1, description="The dial in hidden weights, embeddings apart: depth is what comes nearest; none: by depth."),
    ] = None
    width: Annotated[int | None, Field(ge=16, description="Hidden size; none: 64 a layer.")] = None
    num_heads: Annotated[int | None, Field(ge=1, description="Attention heads; none: one for 64 of width.")] = None
    num_kv_heads: Annotated[int | None, Field(ge=1, description="Key and value heads; none: as many as heads.")] = None
    ffn_width: Annotated[int | None, Field(ge=16, description="Feed-forward size; none: 4 times the width, 8/3 where gated.")] = (
        None
    )
    context_tokens: Annotated[int, Field(ge=16, le=1 << 20, description="Tokens a row holds.")] = 256
    tie_embeddings: Annotated[bool, Field(description="Share the input embedding with the output layer.")] = True
    rope_theta: Annotated[float, Field(gt=1, description="Base of the rotary position angles.")] = 10_000.0
    init_std: Annotated[float, Field(gt=0, le=1, description="Standard deviation of the initial weights.")] = 0.02
    residual_init: Annotated[
        ResidualInit,
        Field(description="Layers that write to the residual stream start as the others, over sqrt(2 * depth) (GPT-2), or at 0."),
    ] = "same"

    @property
    def sizes(self) -> "ModelSizes":
        """Every size, derived where it was not set."""
        width = self.width or _HEAD_WIDTH * self.depth
        heads = self.num_heads or max(1, width // _HEAD_WIDTH)
        return ModelSizes(
            width=width,
            num_heads=heads,
            num_kv_heads=self.num_kv_heads or heads,
            ffn_width=self.ffn_width or _HEAD_WIDTH * math.ceil(width * (8 / 3 if self.family in _GATED else 4) / _HEAD_WIDTH),
        )

    @property
    def num_matrix_weights(self) -> int:
        """Weights of the matrices of all layers: neither embeddings nor output layer nor vectors."""
        sizes = self.sizes
        attention = 2 * sizes.width * sizes.head_width * (sizes.num_heads + sizes.num_kv_heads)
        ffn = (3 if self.family in _GATED else 2) * sizes.width * sizes.ffn_width
        if self.family in _TWO_PARTS:  # an encoder, and a decoder that also attends to it
            return self.depth * (3 * attention + 2 * ffn)
        return self.depth * (attention + ffn)

    @model_validator(mode="before")
    @classmethod
    def _depth_by_weights(cls, values: Any) -> Any:
        wanted = values.get("num_parameters") if isinstance(values, dict) else None
        if not isinstance(wanted, int | float):
            return values
        models = []
        for depth in range(1, _MAX_DEPTH + 1):
            with suppress(ValidationError):  # a depth whose sizes do not fit; where none fits, the fields themselves say why
                models.append(cls.model_validate(values | {"num_parameters": None, "depth": depth}))
        nearest = min(models, key=lambda model: abs(model.num_matrix_weights - wanted), default=None)
        return values if nearest is None else values | {"depth": nearest.depth}

    @model_validator(mode="after")
    def _check_sizes(self) -> Self:
        sizes = self.sizes
        if sizes.width % (2 * sizes.num_heads):
            raise ValueError(f"width {sizes.width} must be an even multiple of num_heads {sizes.num_heads}")
        if sizes.num_heads % sizes.num_kv_heads:
            raise ValueError(f"num_heads {sizes.num_heads} must be a multiple of num_kv_heads {sizes.num_kv_heads}")
        return self

    @model_validator(mode="after")
    def _check_family(self) -> Self:
        if self.family not in _ROTARY and self.rope_theta != type(self).model_fields["rope_theta"].default:
            raise ValueError(f"{self.family} has no rotary positions: leave rope_theta out, or take {', '.join(_ROTARY)}")
        if self.family not in _GROUPED and self.sizes.num_kv_heads != self.sizes.num_heads:
            raise ValueError(f"{self.family} has a kv_head for each head: leave num_kv_heads out, or take {', '.join(_GROUPED)}")
        if self.family == "t5" and not self.tie_embeddings:
            raise ValueError("t5 shares its input embedding with the output layer: leave tie_embeddings out, or take bart")
        if self.residual_init != "same" and self.family not in _PLAIN_RESIDUALS:
            raise ValueError(
                f"residual_init {self.residual_init} is for {' and '.join(_PLAIN_RESIDUALS)}; "
                f"{self.family} has its own: set it to same"
            )
        return self


class ModelSizes(Spec):
    """The sizes of a model, all of them known."""

    width: int
    num_heads: int
    num_kv_heads: int
    ffn_width: int

    @property
    def head_width(self) -> int:
        """Size of one head."""
        return self.width // self.num_heads


class CosineSchedule(Spec):
    """Half a cosine from the peak to `final_share` of it (Loshchilov and Hutter, arXiv:1608.03983)."""

    kind: Literal["cosine"]
    warmup_share: Annotated[float, Field(ge=0, lt=1, description="Share of the steps that warm up.")] = 0.05
    final_share: Annotated[float, Field(ge=0, le=1, description="Share of the peak at the end.")] = 0.1

    def factor(self, progress: float) -> float:
        """Returns the share of the peak at `progress` in [0, 1] of what follows the warm-up."""
        return self.final_share + (1 - self.final_share) * 0.5 * (1 + math.cos(math.pi * progress))


class WarmupStableDecaySchedule(Spec):
    """Flat, then a line down to `final_share` (Hu et al., arXiv:2404.06395): the flat part can be run on or branched."""

    kind: Literal["warmup_stable_decay"]
    warmup_share: Annotated[float, Field(ge=0, lt=1, description="Share of the steps that warm up.")] = 0.05
    decay_share: Annotated[float, Field(gt=0, le=1, description="Share of the steps after the warm-up that decay.")] = 0.4
    final_share: Annotated[float, Field(ge=0, le=1, description="Share of the peak at the end.")] = 0.0

    def factor(self, progress: float) -> float:
        """Returns the share of the peak at `progress` in [0, 1] of what follows the warm-up."""
        decayed = max(0.0, (progress - (1 - self.decay_share)) / self.decay_share)
        return 1 - (1 - self.final_share) * decayed


Schedule = Annotated[CosineSchedule | WarmupStableDecaySchedule, Field(discriminator="kind")]


class _Optimizer(Spec):
    """What every optimiser is told: AdamW's numbers, for it trains at least the vectors, and the learning rate's course."""

    learning_rate: Annotated[
        float | None, Field(ge=0, le=1, description="Peak learning rate; 0 trains nothing; none: derived by the stage.")
    ] = None
    beta1: Annotated[float, Field(ge=0, lt=1, description="Decay of the mean of the gradient.")] = 0.9
    beta2: Annotated[float, Field(ge=0, lt=1, description="Decay of the mean of its square.")] = 0.95
    epsilon: Annotated[float, Field(gt=0, description="Added to the denominator.")] = 1e-8
    weight_decay: Annotated[float, Field(ge=0, description="Decoupled decay of matrices.")] = 0.1
    clip_norm: Annotated[float | None, Field(gt=0, description="Largest norm of the gradient; none: not clipped.")] = 1.0
    schedule: Annotated[Schedule, Field(description="Learning rate over the steps.")] = CosineSchedule(kind="cosine")

    @property
    def peak(self) -> float:
        """The peak learning rate, which a stage has derived by now where the recipe set none."""
        assert self.learning_rate is not None
        return self.learning_rate


class AdamWSpec(_Optimizer):
    """AdamW (Loshchilov and Hutter, arXiv:1711.05101); vectors (norms, biases) are not decayed."""

    kind: Literal["adamw"]


class MuonSpec(_Optimizer):
    """Muon (Jordan et al., kellerjordan.github.io/posts/muon) on hidden matrices, AdamW on all other weights.

    The update of a matrix is scaled to the size of AdamW's (Liu et al., arXiv:2502.16982), so that both rates are of one kind.
    """

    kind: Literal["muon"]
    matrix_learning_rate: Annotated[float, Field(ge=0, le=1, description="Peak learning rate of the hidden matrices.")] = 1e-2
    momentum: Annotated[float, Field(ge=0, lt=1, description="Decay of the hidden matrices' mean gradient.")] = 0.95


OptimSpec = Annotated[AdamWSpec | MuonSpec, Field(discriminator="kind")]


def learning_rate(peak: float, schedule: Schedule, step: int, num_steps: int) -> float:
    """Returns the learning rate of the update that leads from `step` to `step + 1`, of `num_steps` in all."""
    num_warmup = math.ceil(schedule.warmup_share * num_steps)
    if step < num_warmup:
        return peak * (step + 1) / num_warmup
    return peak * schedule.factor((step - num_warmup) / max(1, num_steps - num_warmup))


class AnomalySpec(Spec):
    """What becomes of a batch whose loss or gradient is no number, or whose loss jumps.

    Rolling back goes on from the latest checkpoint with the batches after the bad one (Chowdhery et al., arXiv:2204.02311).
    """

    action: Annotated[
        Literal["stop", "skip", "roll_back"],
        Field(description="End the training, leave the update out, or go back to the checkpoint and pass these batches over."),
    ] = "stop"
    spike_multiple: Annotated[
        float | None, Field(gt=1, description="A loss above so many times the median of the latest 20 is one; none: no loss is.")
    ] = None
    max_count: Annotated[int, Field(ge=1, description="Batches passed over in a training; one more ends it.")] = 10

    @property
    def looks_at_each_step(self) -> bool:
        """Whether an update has to wait for the figures of its step."""
        return self.action != "stop" or self.spike_multiple is not None


class BudgetSpec(Spec):
    """How long, in which batches, and how often to look and to save; what is not set is derived from the model's size."""

    batch_rows: Annotated[
        int | None, Field(ge=1, description="Rows of an optimiser step, over all devices; none: by the size of the training.")
    ] = None
    num_tokens: Annotated[
        int | None, Field(ge=1, description="Budget in tokens; or set num_epochs; neither: by the size of the model.")
    ] = None
    num_epochs: Annotated[float | None, Field(gt=0, description="Budget in passes over the data; or set num_tokens.")] = None
    eval_every_steps: Annotated[
        int, Field(ge=1, description="Steps between looks at the validation split; each checkpoint is followed by one too.")
    ] = 50
    eval_rows: Annotated[int | None, Field(ge=1, description="Validation rows of a look on the way; none: all.")] = None
    checkpoint_every_steps: Annotated[
        int, Field(ge=1, description="Steps between checkpoints; before each look there is one too.")
    ] = 50
    keep_last: Annotated[int, Field(ge=1, description="Latest checkpoints kept; the best and the final one always are.")] = 2
    patience_evals: Annotated[
        int | None, Field(ge=1, description="Stop after so many looks without a gain; none: never early.")
    ] = None
    select: Annotated[Literal["last", "best"], Field(description="Weights that become the model, by validation loss.")] = "last"
    ema_decay: Annotated[
        float | None,
        Field(gt=0, lt=1, description="Decay of a running mean of the weights, which is evaluated and kept; none: no mean."),
    ] = None
    z_loss: Annotated[
        float | None, Field(gt=0, description="Weight of log(Z)^2 of the output layer in the training loss; none: left out.")
    ] = None
    anomalies: Annotated[AnomalySpec, Field(description="Batches that the training cannot learn from.")] = AnomalySpec()

    @model_validator(mode="after")
    def _one_budget(self) -> Self:
        if self.num_tokens is not None and self.num_epochs is not None:
            raise ValueError("set one of num_tokens and num_epochs, not both")
        return self

    def check_site(self, site: Site, where: str) -> None:
        """Checks that the processes of a site can share a batch; `where` is what the recipe calls this.

        Raises:
            RecipeError: It is known, and cannot be divided evenly.
        """
        num_processes = site.num_nodes * site.num_processes
        if self.batch_rows is not None and self.batch_rows % num_processes:
            raise RecipeError(
                f"{where}.batch_rows {self.batch_rows} cannot be divided among {num_processes} processes; set a multiple"
            )


class TrainSpec(BudgetSpec):
    """A training whose batch and budget are known."""

    batch_rows: Annotated[int, Field(ge=1, description="Rows of an optimiser step, over all devices.")] = 32
    num_tokens: Annotated[int | None, Field(ge=1, description="Budget in tokens; or set num_epochs.")] = None

    @model_validator(mode="after")
    def _has_budget(self) -> Self:
        if self.num_tokens is None and self.num_epochs is None:
            raise ValueError("set num_tokens or num_epochs")
        return self

    def num_steps(self, num_rows: int, row_tokens: int) -> int:
        """Returns the steps the budget allows on `num_rows` rows of `row_tokens` tokens."""
        if self.num_tokens is not None:
            return math.ceil(self.num_tokens / (self.batch_rows * row_tokens))
        assert self.num_epochs is not None
        return math.ceil(self.num_epochs * num_rows / self.batch_rows)

    def is_due(self, step: int, num_steps: int) -> bool:
        """Says whether a training of `num_steps` saves and looks after `step`."""
        return step == num_steps or any(step % every == 0 for every in (self.eval_every_steps, self.checkpoint_every_steps))


class PrecisionSpec(Spec):
    """A spec with a precision; `auto` is made definite, so that what was used enters the fingerprint."""

    precision: Annotated[
        Precision,
        Field(description="Number format of products; weights and optimiser are fp32. auto: bf16 where native; fp16: GPUs only."),
    ] = "auto"

    def pinned(self, site: Site) -> Self:
        """Returns the spec with the precision that `auto` means on this machine."""
        return self.model_copy(update={"precision": site.resolve_precision(self.precision)})
