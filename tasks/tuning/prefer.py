"""Preference learning: a model that answers, and pairs of answers, to one that prefers the better.

In: a `Checkpoint` and paired `Preferences`. Out: a `Checkpoint`, which goes on to name the base that was tuned, so that it is
judged against that. Invariants: the reference is the model itself as it comes, whose log-probabilities are computed once and
kept; the validation split selects, the test split is never seen.
"""

import json
from typing import Annotated, Self

from pydantic import Field, model_validator

from tasks.contracts import Checkpoint, Preferences
from tasks.core.artifact import EXTRA_DIR
from tasks.core.errors import ContractError, RecipeError
from tasks.core.stage import CHILD, StageContext, stage
from tasks.modeling.adapted import require_plain
from tasks.modeling.architecture import is_encoder_decoder
from tasks.modeling.job import Execution, TrainResult, read_result
from tasks.modeling.specs import AdamWSpec, CosineSchedule, OptimSpec, PrecisionSpec, TrainSpec
from tasks.tuning.job import FIGURES_NAME, PreferJob
from tasks.tuning.lora import LoraSpec
from tasks.tuning.methods import MethodSpec
from tasks.tuning.preference_losses import DpoSpec, PreferenceLoss
from tasks.tuning.rates import matrix_rate_warning

_MANY_DROPPED = 0.05


class PreferSpec(PrecisionSpec):
    """A loss, what it trains, and how."""

    loss: Annotated[PreferenceLoss, Field(description="What is asked of the two answers.")] = DpoSpec(kind="dpo")
    method: Annotated[MethodSpec, Field(description="What is trained: all weights, or an adapter.")] = LoraSpec(kind="lora")
    optim: Annotated[OptimSpec, Field(description="Optimiser and schedule; rates are a tenth of tuning's and less.")] = AdamWSpec(
        kind="adamw",
        learning_rate=2e-5,
        weight_decay=0.0,
        schedule=CosineSchedule(kind="cosine", warmup_share=0.1, final_share=0.0),
    )
    train: Annotated[TrainSpec, Field(description="Budget, batches of pairs, looks and checkpoints.")] = TrainSpec(
        batch_rows=8, num_epochs=1, eval_every_steps=20, checkpoint_every_steps=20, select="best"
    )
    row_tokens: Annotated[
        int | None,
        Field(ge=16, description="Tokens of a prompt with one answer; pairs with a longer one are dropped; none: context."),
    ] = None
    seed: Annotated[int, Field(ge=0, lt=1 << 31, description="Seed of the adapter, data order and dropout.")] = 0

    @model_validator(mode="after")
    def _likelihoods_alone(self) -> Self:
        if self.train.z_loss is not None:
            raise ValueError("preferences compare the likelihoods of answers, which train.z_loss would change; set it off")
        return self

    def forewarnings(self) -> list[str]:
        """Returns what should be known before it runs."""
        warning = matrix_rate_warning(self.method, self.optim, where="preference.learn")
        return [] if warning is None else [warning]


@stage(version=11, retry=CHILD, packages=("torch", "transformers", "peft"))
def prefer(spec: PreferSpec, base: Checkpoint, preferences: Preferences, *, ctx: StageContext) -> Checkpoint:
    """Teaches a model on the train split of the pairs to prefer the better answers.

    Raises:
        RecipeError: No learning rate is set, or this machine cannot do the method.
        ContractError: The preferences come without pairs, or the base has no plain form.
    """
    _check(spec, base, preferences)
    spec.method.check_site(ctx.site)
    for warning in spec.forewarnings():
        ctx.log.warning("%s", warning)
    job = PreferJob(
        execution=Execution.of(ctx.dir, ctx.site),
        base_dir=base.path / "model",
        base_digest=base.digest,
        preferences_dir=preferences.path,
        **spec.model_dump(),
    )
    ctx.run_child("tasks.tuning.prefer_train:prefer_main", job, torchrun=True)
    result = read_result(ctx)
    return ctx.commit(
        Checkpoint,
        method=f"{spec.loss.kind}, {spec.method.kind}",
        tokenizer_digest=base.tokenizer_digest,
        base_digest=base.base_digest or base.digest,
        **result.facts(),
        precision=spec.precision,
        context_tokens=base.context_tokens,
        licence=base.licence,
        warnings=(*base.warnings, *_warnings(result)),
        figures=result.figures | json.loads((ctx.dir / EXTRA_DIR / FIGURES_NAME).read_text(encoding="utf-8")),
    )


def _warnings(result: TrainResult) -> list[str]:
    num_dropped, num_seen = result.notes["dropped"], result.notes["items"]
    if num_dropped <= _MANY_DROPPED * num_seen:
        return []
    return [f"{num_dropped} of {num_seen} pairs of answers have a text longer than a row and were dropped"]


def _check(spec: PreferSpec, base: Checkpoint, preferences: Preferences) -> None:
    if spec.optim.learning_rate is None:
        raise RecipeError("preference.learn.optim.learning_rate is off, and there is no rule to derive it by; set one, e.g. 2e-5")
    require_plain(base)
    if is_encoder_decoder(base.path / "model"):
        raise RecipeError(f"{base.address} is an encoder-decoder, and pairs are learned by models that read on: leave them out")
    if preferences.form != "paired":
        raise ContractError(f"{preferences.address} is {preferences.form}, but {spec.loss.kind} learns from pairs of answers")
    for split in ("train", "validation"):
        if not preferences.items_by_split.get(split):
            raise ContractError(f"{preferences.address} has no {split} pairs; add some")
