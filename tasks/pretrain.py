"""Pretraining: token shards to a base model, from scratch or on from a given one.

In: a `TokenizedCorpus`, the `Tokenizer` it was made with, and a given base, or the checkpoint that says there is none. Out: a
`Checkpoint` whose `model/` is a `transformers` folder. Invariants: tokenizer, corpus and base belong together; training runs in a
child process and goes on where it was cut off; a base that is taken as it is keeps its digest.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Self, get_args

from pydantic import Field, model_validator

from tasks.contracts import Checkpoint, TokenizedCorpus, Tokenizer
from tasks.core.errors import ContractError, RecipeError
from tasks.core.links import link_tree
from tasks.core.site import Site
from tasks.core.stage import CHILD, StageContext, stage
from tasks.core.store import Store, read_manifest
from tasks.modeling.architecture import is_encoder_decoder
from tasks.modeling.job import Execution, PretrainJob, ReplayJob, TrainResult, read_result, speed_figures
from tasks.modeling.objectives import ObjectiveSpec
from tasks.modeling.objectives.causal import CausalSpec
from tasks.modeling.scaling import MANY_PASSES, Scaled, adamw_peak, matrix_rate_warning, peak_of, scaled
from tasks.modeling.specs import ENCODERS, AdamWSpec, BudgetSpec, Family, ModelSpec, OptimSpec, PrecisionSpec
from tasks.modeling.start import AsGiven, Continued, FromScratch, ReplaySpec, Start

_ASKED_AT = {"pretrain": "pretrain", "pretrain_further": "unlabelled.further"}  # where a recipe has what a stage is told


class PretrainSpec(PrecisionSpec):
    """A model and how it is pretrained."""

    start: Annotated[Start, Field(description="New weights, a given base trained on, or the base as it is.")] = FromScratch(
        kind="scratch"
    )
    model: Annotated[ModelSpec, Field(description="Size and architecture.")] = ModelSpec()
    objective: Annotated[ObjectiveSpec, Field(description="What the model learns to predict.")] = CausalSpec(kind="causal")
    optim: Annotated[OptimSpec, Field(description="Optimiser and schedule.")] = AdamWSpec(kind="adamw")
    train: Annotated[BudgetSpec, Field(description="Budget, batches, looks and checkpoints.")] = BudgetSpec()
    seed: Annotated[int, Field(ge=0, lt=1 << 31, description="Seed of weights, data order and masks.")] = 0

    @model_validator(mode="after")
    def _objective_fits(self) -> Self:
        if isinstance(self.start, FromScratch):
            self.objective.check(self.model)
        elif isinstance(self.start, Continued):  # the family is the base's
            self.objective.check_rows(self.model.context_tokens)
        return self

    @property
    def peak(self) -> float | None:
        """Peak learning rate that a tuning is measured by; none where nothing is trained, or it depends on unknown text."""
        if isinstance(self.start, AsGiven):
            return None
        if self.optim.kind == "adamw":
            return self.optim.learning_rate
        found = self.scaled(None) if isinstance(self.start, FromScratch) else None
        return None if found is None else self.peak_of(found)

    def peak_of(self, scale: Scaled) -> float | None:
        """Returns the peak learning rate that a tuning is measured by, of a training with every number known."""
        return adamw_peak(self.optim.kind, scale.learning_rate, scale.flops)

    def scaled(self, train_tokens: int | None, where: str = "pretrain") -> Scaled | None:
        """Returns the training with every number known; nothing where nothing is trained, or where it depends on unknown text.

        Args:
            train_tokens: Tokens of the training split; none where they are not known.
            where: The part of the recipe that asks for it.

        Raises:
            RecipeError: A number is left to the rules, which are for new weights, and these are a base's.
        """
        if isinstance(self.start, AsGiven):
            return None
        if isinstance(self.start, FromScratch):
            return scaled(self.model, self.train, self.optim.learning_rate, train_tokens)
        given = {
            "train.batch_rows": self.train.batch_rows,
            "train.num_tokens (or num_epochs)": self.train.num_tokens or self.train.num_epochs,
            "optim.learning_rate": self.optim.learning_rate,
        }
        if lacking := [name for name, value in given.items() if value is None]:
            raise RecipeError(
                f"{where}.start.kind is continued, and {where}.{f', {where}.'.join(lacking)} not set; set them: the rules that "
                "derive them are for new weights"
            )
        read = None if train_tokens is None else self.start.tokens_a_pass(train_tokens)
        found = scaled(self.model, self.train, self.optim.learning_rate, read)
        return None if found is None else replace(found, flops=None)  # the sizes are those of the base

    def check_site(self, site: Site, where: str = "pretrain") -> None:
        """Raises RecipeError where this machine cannot do it; asked before any work."""
        self.pinned(site)
        if not isinstance(self.start, AsGiven):
            self.train.check_site(site, f"{where}.train")

    def forewarnings(self, where: str = "pretrain") -> list[str]:
        """Returns what should be known before it runs; `where` is the part of the recipe that asks for it."""
        warning = matrix_rate_warning(self.optim, where) if isinstance(self.start, Continued) else None
        return [] if warning is None else [warning]

    def pinned(self, site: Site) -> Self:
        """Makes the precision definite, and fills in what is replayed."""
        spec = super().pinned(site)
        if not isinstance(spec.start, Continued) or spec.start.replay is None:
            return spec
        return spec.model_copy(update={"start": spec.start.model_copy(update={"replay": spec.start.replay.pinned(site)})})

    def identity(self) -> dict[str, Any]:
        """Returns the choices; of what is replayed the digest, not the address."""
        return self.model_dump(mode="json", exclude={"start": {"replay": {"corpus"}}})


@stage(version=13, retry=CHILD, packages=("torch", "transformers"))
def pretrain(
    spec: PretrainSpec, corpus: TokenizedCorpus, tokenizer: Tokenizer, base: Checkpoint, *, ctx: StageContext
) -> Checkpoint:
    """Trains a model on the train split; looks at the validation split; never sees the test split.

    Raises:
        RecipeError: Batch, budget or rate of a continued training is not set, a row is longer than the base's context, or the
            processes cannot share a batch evenly.
        ContractError: Corpus, tokenizer and base do not belong together, or a split is empty.
    """
    where = _ASKED_AT[ctx.stage.name]
    _check_base(spec, tokenizer, base, where)
    if isinstance(spec.start, AsGiven):
        link_tree(base.path / "model", ctx.dir / "model")
        return ctx.commit(Checkpoint, **base.facts())
    _check(spec, corpus, tokenizer, where)
    for warning in spec.forewarnings(where):
        ctx.log.warning("%s", warning)
    found = spec.scaled(corpus.tokens_by_split["train"], where)
    assert found is not None, "an encoded corpus knows its tokens"
    found.train.check_site(ctx.site, f"{where}.train")
    job = PretrainJob(
        execution=Execution.of(ctx.dir, ctx.site),
        corpus_dir=corpus.path,
        tokenizer_dir=tokenizer.path,
        tokenizer_digest=tokenizer.digest,
        special_tokens=tokenizer.special_tokens,
        vocab_size=tokenizer.vocab_size,
        validation_bytes=corpus.bytes_by_split["validation"],
        base_dir=base.path / "model" if isinstance(spec.start, Continued) else None,
        replay=_replay(spec.start.replay, tokenizer, ctx) if isinstance(spec.start, Continued) else None,
        **_settings(spec, found),
    )
    ctx.run_child("tasks.modeling.train:pretrain_main", job, torchrun=True)
    result = read_result(ctx)
    return ctx.commit(
        Checkpoint,
        method="pretrain",
        tokenizer_digest=tokenizer.digest,
        base_digest=base.digest if isinstance(spec.start, Continued) else None,
        **result.facts(),
        precision=spec.precision,
        context_tokens=base.context_tokens if isinstance(spec.start, Continued) else spec.model.context_tokens,
        licence=base.licence,
        validation_bits_per_byte=result.validation_bits_per_byte,
        held_out=result.figures,
        figures=found.figures() | _first_peak(base) | speed_figures(ctx),
        warnings=(*corpus.warnings, *_warnings(result)),
    )


# The same on task text, before a labelled tuning: a stage of its own, so that `--until` can tell it from the base's. It is a
# version ahead, for it began to record its base's peak, and the bases of `pretrain` have none.
pretrain_further = stage(version=pretrain.version + 1, name="pretrain_further", retry=CHILD, packages=pretrain.packages)(
    pretrain.fn
)


def _first_peak(base: Checkpoint) -> dict[str, float]:
    """Returns the peak that a tuning is measured by still, after a training at a lower one, if the base records any."""
    peak = peak_of(read_manifest(base.path))
    return {} if peak is None else {"base_learning_rate": peak}


def _check_base(spec: PretrainSpec, tokenizer: Tokenizer, base: Checkpoint, where: str) -> None:
    """Checks that there is a base where one is needed, and none where it would be passed over."""
    is_given, is_needed = base.method != "none", not isinstance(spec.start, FromScratch)
    if is_given != is_needed:
        wrong = "and no base is given" if is_needed else f"and {base.address} is given, which it would not use"
        raise RecipeError(
            f"{where}.start.kind is {spec.start.kind}, {wrong}; set base.source and {where}.start.kind = continued or as_given "
            "together, or neither"
        )
    if is_needed and base.tokenizer_digest != tokenizer.digest:
        raise ContractError(
            f"{base.address} has the tokenizer {base.tokenizer_digest[:12]}, but {tokenizer.address} is {tokenizer.digest[:12]}; "
            "set tokenizer.source.kind to base"
        )
    if isinstance(spec.start, Continued):
        _check_continued(spec, base, where)


def _check_continued(spec: PretrainSpec, base: Checkpoint, where: str) -> None:
    family = json.loads((base.path / "model" / "config.json").read_text(encoding="utf-8"))["model_type"]
    if _learns_as(family, base.path / "model") not in spec.objective.families:
        raise RecipeError(
            f"objective {spec.objective.kind!r} does not train a {family}, which {base.address} is; set another "
            f"{where}.objective.kind or another base"
        )
    if base.context_tokens is not None and spec.model.context_tokens > base.context_tokens:
        raise RecipeError(
            f"{where}.model.context_tokens is {spec.model.context_tokens}, but {base.address} was made for "
            f"{base.context_tokens}; set that or less"
        )


def _learns_as(family: str, folder: Path) -> str | None:
    """Returns the family of ours that a model learns as, whatever its own name; none of an encoder nobody knows the states of."""
    if family in get_args(Family):
        return family
    if is_encoder_decoder(folder):
        return "t5"
    if (folder / "generation_config.json").exists():
        return "llama"
    return "modernbert" if family in ENCODERS else None  # by masks alone: only a BERT knows next sentences


def _replay(spec: ReplaySpec | None, tokenizer: Tokenizer, ctx: StageContext) -> ReplayJob | None:
    """Returns the earlier corpus after a look at every byte of it.

    Raises:
        ContractError: It was encoded with another tokenizer, or is damaged.
    """
    if spec is None:
        return None
    store = Store(ctx.site.store_dir)
    earlier = store.load(TokenizedCorpus, ctx.site.store_dir / spec.corpus)
    _check_encoding(earlier, tokenizer)
    store.verify(earlier)
    return ReplayJob(corpus_dir=earlier.path, share=spec.share)


def _settings(spec: PretrainSpec, found: Scaled) -> dict[str, Any]:
    """Returns the spec as the child is told it, with nothing left to derive."""
    optim = spec.optim.model_copy(update={"learning_rate": found.learning_rate})
    return spec.model_copy(update={"optim": optim, "train": found.train}).model_dump(exclude={"start"})


def _check(spec: PretrainSpec, corpus: TokenizedCorpus, tokenizer: Tokenizer, where: str) -> None:
    if lacking := [role for role in spec.objective.special_tokens() if role not in tokenizer.special_tokens]:
        remedy = (
            "with tokenizer.source.kind = train they are added, an adopted tokenizer must have them: adopt another one"
            if isinstance(spec.start, FromScratch)
            else "a base keeps its own tokenizer: take another base"
        )
        raise ContractError(
            f"objective {spec.objective.kind!r} needs tokens that {tokenizer.address} lacks: {', '.join(lacking[:4])}"
            f"{' ...' if len(lacking) > 4 else ''}; {remedy}, or set another {where}.objective.kind"
        )
    _check_encoding(corpus, tokenizer)
    for split in ("train", "validation"):
        if not corpus.tokens_by_split.get(split):
            raise ContractError(f"{corpus.address} has no {split} tokens; give dedup a larger share for it, or more text")


def _check_encoding(corpus: TokenizedCorpus, tokenizer: Tokenizer) -> None:
    if corpus.tokenizer_digest != tokenizer.digest:
        raise ContractError(
            f"{corpus.address} was encoded with tokenizer {corpus.tokenizer_digest[:12]}, but {tokenizer.address} is "
            f"{tokenizer.digest[:12]}; encode the corpus again with this tokenizer"
        )


def _warnings(result: TrainResult) -> list[str]:
    warnings = []
    if result.num_epochs > 1.05 * MANY_PASSES:  # a budget of so many passes ends with a whole step
        warnings.append(f"the text was read {result.num_epochs:.1f} times; beyond {MANY_PASSES:.0f} repeats teach ever less")
    return warnings
