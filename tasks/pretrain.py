"""Pretraining: token shards to a base model.

In: a `TokenizedCorpus` and the `Tokenizer` it was made with. Out: a `Checkpoint` whose `model/` is a `transformers` folder.
Invariant: tokenizer and corpus belong together; training runs in a child process and goes on where it was cut off.
"""

from typing import Annotated, Self

from pydantic import Field, model_validator

from tasks.contracts import Checkpoint, TokenizedCorpus, Tokenizer
from tasks.core.errors import ContractError, RecipeError
from tasks.core.stage import CHILD, StageContext, stage
from tasks.modeling.job import Execution, PretrainJob, TrainResult, read_result
from tasks.modeling.objectives import ObjectiveSpec
from tasks.modeling.objectives.causal import CausalSpec
from tasks.modeling.specs import AdamWSpec, ModelSpec, OptimSpec, PrecisionSpec, TrainSpec

_MANY_EPOCHS = 4.0  # up to four passes repeated text is worth about as much as new text (Muennighoff et al., arXiv:2305.16264)


class PretrainSpec(PrecisionSpec):
    """A model and how it is pretrained."""

    model: Annotated[ModelSpec, Field(description="Size and architecture.")] = ModelSpec()
    objective: Annotated[ObjectiveSpec, Field(description="What the model learns to predict.")] = CausalSpec(kind="causal")
    optim: Annotated[OptimSpec, Field(description="Optimiser and schedule.")] = AdamWSpec(kind="adamw")
    train: Annotated[TrainSpec, Field(description="Budget, batches, looks and checkpoints.")] = TrainSpec(num_tokens=1_000_000)
    seed: Annotated[int, Field(ge=0, lt=1 << 31, description="Seed of weights, data order and masks.")] = 0

    @model_validator(mode="after")
    def _objective_fits(self) -> Self:
        self.objective.check(self.model)
        return self


@stage(version=2, retry=CHILD, packages=("torch", "transformers"))
def pretrain(spec: PretrainSpec, corpus: TokenizedCorpus, tokenizer: Tokenizer, *, ctx: StageContext) -> Checkpoint:
    """Trains a model from scratch on the train split; looks at the validation split; never sees the test split."""
    _check(spec, corpus, tokenizer)
    job = PretrainJob(
        execution=Execution.of(ctx.dir, ctx.site),
        corpus_dir=corpus.path,
        tokenizer_dir=tokenizer.path,
        tokenizer_digest=tokenizer.digest,
        special_tokens=tokenizer.special_tokens,
        vocab_size=tokenizer.vocab_size,
        validation_bytes=corpus.bytes_by_split["validation"],
        **spec.model_dump(),
    )
    ctx.run_child("tasks.modeling.train:pretrain_main", job, torchrun=True)
    result = read_result(ctx)
    return ctx.commit(
        Checkpoint,
        method="pretrain",
        tokenizer_digest=tokenizer.digest,
        num_parameters=result.num_parameters,
        num_trained_parameters=result.num_trained_parameters,
        num_steps=result.num_steps,
        num_tokens=result.num_tokens,
        precision=spec.precision,
        train_loss=result.train_loss,
        validation_loss=result.validation_loss,
        validation_bits_per_byte=result.validation_bits_per_byte,
        held_out=result.figures,
        warnings=(*corpus.warnings, *_warnings(result)),
    )


def _check(spec: PretrainSpec, corpus: TokenizedCorpus, tokenizer: Tokenizer) -> None:
    if spec.optim.learning_rate is None:
        raise RecipeError("pretrain.optim.learning_rate is off, and there is no base to derive it from; set one, e.g. 3e-3")
    if lacking := [role for role in spec.objective.special_tokens() if role not in tokenizer.special_tokens]:
        raise ContractError(
            f"objective {spec.objective.kind!r} needs tokens that {tokenizer.address} lacks: {', '.join(lacking[:4])}"
            f"{' ...' if len(lacking) > 4 else ''}; with tokenizer.source.kind = train they are added, an adopted tokenizer must "
            "have them: adopt another one, or set another pretrain.objective.kind"
        )
    if corpus.tokenizer_digest != tokenizer.digest:
        raise ContractError(
            f"{corpus.address} was encoded with tokenizer {corpus.tokenizer_digest[:12]}, but {tokenizer.address} is "
            f"{tokenizer.digest[:12]}; encode the corpus again with this tokenizer"
        )
    for split in ("train", "validation"):
        if not corpus.tokens_by_split.get(split):
            raise ContractError(f"{corpus.address} has no {split} tokens; give dedup a larger share for it, or more text")


def _warnings(result: TrainResult) -> list[str]:
    warnings = []
    if result.num_epochs > _MANY_EPOCHS:
        warnings.append(f"the text was read {result.num_epochs:.1f} times; beyond {_MANY_EPOCHS:.0f} repeats teach ever less")
    return warnings
