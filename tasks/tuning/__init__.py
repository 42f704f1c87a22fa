"""Tuning: a base model and conversations to a model that answers. The ways: `methods.py`.

In: a `Checkpoint` and `Conversations`; its old text and the `Fisher` information on it, which are read where the recipe holds
against forgetting. Out: a `Checkpoint`. Invariants: of conversations only answers are learned; the validation split selects, the
test split is never seen; a method is one file with its difference and one line there.
"""

import json
from typing import Annotated

from pydantic import Field

from tasks.contracts import Checkpoint, Conversations, Fisher, TokenizedCorpus
from tasks.core.artifact import EXTRA_DIR
from tasks.core.errors import ContractError, RecipeError
from tasks.core.site import Site
from tasks.core.stage import CHILD, StageContext, stage
from tasks.core.store import read_manifest
from tasks.modeling.adapted import require_plain
from tasks.modeling.architecture import is_encoder_decoder
from tasks.modeling.chat import TooLong
from tasks.modeling.job import Execution, TrainResult, read_result
from tasks.modeling.scaling import peak_of
from tasks.modeling.specs import AdamWSpec, CosineSchedule, OptimSpec, PrecisionSpec, TrainSpec
from tasks.tuning.ewc import EwcSpec
from tasks.tuning.fisher import FisherSpec, estimate_fisher, require_same_tokenizer
from tasks.tuning.full import FullSpec
from tasks.tuning.job import FIGURES_NAME, TuneJob
from tasks.tuning.lora import LoraSpec
from tasks.tuning.methods import MethodSpec
from tasks.tuning.rates import matrix_rate_warning, rate_warning, with_rate
from tasks.tuning.replay import ReplaySpec

__all__ = ["EwcSpec", "FisherSpec", "FullSpec", "LoraSpec", "ReplaySpec", "TuneSpec", "estimate_fisher", "tune"]

_MANY_DROPPED = 0.05


class TuneSpec(PrecisionSpec):
    """A method and how it trains."""

    method: Annotated[MethodSpec, Field(description="What is trained: all weights, or an adapter.")] = LoraSpec(kind="lora")
    optim: Annotated[OptimSpec, Field(description="Optimiser and schedule.")] = AdamWSpec(
        kind="adamw",
        learning_rate=None,
        weight_decay=0.0,
        schedule=CosineSchedule(kind="cosine", warmup_share=0.1, final_share=0.0),
    )
    train: Annotated[TrainSpec, Field(description="Budget, batches, looks and checkpoints.")] = TrainSpec(
        batch_rows=8, num_epochs=3, eval_every_steps=20, checkpoint_every_steps=20, patience_evals=3, select="best"
    )
    row_tokens: Annotated[
        int | None,
        Field(ge=16, description="Tokens a row holds; none: those of the longest conversation, 1,024 at least, in the context."),
    ] = None
    too_long: Annotated[
        TooLong, Field(description="Conversations longer than a row: dropped, or cut at the end of the last answer.")
    ] = "drop"
    replay: Annotated[ReplaySpec | None, Field(description="Pretraining text among the conversations; none: no replay.")] = None
    ewc: Annotated[EwcSpec | None, Field(description="Hold weights that the pretraining text hangs on; none: all are free.")] = (
        None
    )
    embedding_noise: Annotated[
        float | None, Field(gt=0, description="NEFTune's alpha, 5 to 15: noise on embeddings while training; none: no noise.")
    ] = None
    seed: Annotated[int, Field(ge=0, lt=1 << 31, description="Seed of the adapter, data order and dropout.")] = 0

    @property
    def fisher(self) -> FisherSpec:
        """What is to be known of the base's weights before they move."""
        if self.ewc is None:
            return FisherSpec()
        return FisherSpec(num_rows=self.ewc.num_rows, row_tokens=self.row_tokens, seed=self.seed)

    def check_site(self, site: Site) -> None:
        """Raises RecipeError where this machine cannot do it; asked before any work."""
        self.method.check_site(site)
        if self.ewc is not None and site.num_shards > 1:
            raise RecipeError("tune.ewc needs whole weights in each process; set TEXTMILL_SHARDING to ddp, or tune.ewc to off")

    def forewarnings(self, base_rate: float | None, *, has_two_parts: bool = False) -> list[str]:
        """Returns what should be known before it runs.

        Args:
            base_rate: Peak of the base's learning rate, where one is known.
            has_two_parts: Whether the base reads by an encoder and writes by a decoder.
        """
        found = [rate_warning(self.method, self.optim.learning_rate, base_rate), matrix_rate_warning(self.method, self.optim)]
        if has_two_parts:
            found.append("an encoder-decoder is tuned: MLflow's scoring server answers, no OpenAI API")
        elif not self.method.has_plain_form:
            found.append(f"tune.method {self.method.kind} does not merge: MLflow's scoring server answers, no OpenAI API")
        return [text for text in found if text is not None]


@stage(version=13, retry=CHILD, packages=("torch", "transformers", "peft"))
def tune(
    spec: TuneSpec,
    base: Checkpoint,
    conversations: Conversations,
    corpus: TokenizedCorpus,
    fisher: Fisher,
    *,
    ctx: StageContext,
) -> Checkpoint:
    """Tunes a model on the train split of the conversations.

    Raises:
        RecipeError: This machine, or this base, cannot do what is asked.
        ContractError: The inputs do not belong together, or hold nothing to learn from.
    """
    _check(base, conversations)
    _check_old(spec, base, corpus, fisher)
    spec.check_site(ctx.site)
    base_rate = peak_of(read_manifest(base.path))
    has_two_parts = is_encoder_decoder(base.path / "model")
    for warning in spec.forewarnings(base_rate, has_two_parts=has_two_parts):
        ctx.log.warning("%s", warning)
    job = TuneJob(
        execution=Execution.of(ctx.dir, ctx.site),
        base_dir=base.path / "model",
        base_digest=base.digest,
        conversations_dir=conversations.path,
        corpus_dir=corpus.path,
        fisher_dir=fisher.path,
        tokenizer_digest=corpus.tokenizer_digest,
        **with_rate(spec, base_rate).model_dump(),
    )
    ctx.run_child("tasks.tuning.train:tune_main", job, torchrun=True)
    result = read_result(ctx)
    return ctx.commit(
        Checkpoint,
        method=spec.method.kind,
        tokenizer_digest=base.tokenizer_digest,
        base_digest=base.digest,
        **result.facts(),
        precision=spec.precision,
        context_tokens=base.context_tokens,
        licence=base.licence,
        held_out=result.figures,
        warnings=(*base.warnings, *_warnings(result)),
        figures=json.loads((ctx.dir / EXTRA_DIR / FIGURES_NAME).read_text(encoding="utf-8")),
    )


def _check(base: Checkpoint, conversations: Conversations) -> None:
    require_plain(base)
    for split in ("train", "validation"):
        if not conversations.items_by_split.get(split):
            raise ContractError(
                f"{conversations.address} has no {split} conversations; add some, or raise instructions.validation_share"
            )


def _check_old(spec: TuneSpec, base: Checkpoint, corpus: TokenizedCorpus, fisher: Fisher) -> None:
    if spec.replay is not None:
        require_same_tokenizer(base, corpus)
    if spec.ewc is not None and (fisher.base_digest, fisher.num_rows > 0) != (base.digest, True):
        raise ContractError(
            f"{fisher.address} is of {fisher.num_rows} rows and checkpoint {fisher.base_digest[:12]}, but tune.ewc asks for that "
            f"of {base.address}; pass artifacts of one run"
        )


def _warnings(result: TrainResult) -> list[str]:
    num_lost, num_seen, num_dropped = (result.notes[name] for name in ("too_long", "items", "dropped"))
    if num_lost <= _MANY_DROPPED * num_seen:
        return []
    return [
        f"{num_lost} of {num_seen} tuning conversations are longer than a row: {num_dropped} dropped, {num_lost - num_dropped} "
        "cut; raise tune.row_tokens, or take a base with a longer context"
    ]
