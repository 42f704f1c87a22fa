"""The Fisher information of a base on its old text: which weights that text hangs on.

In: a `Checkpoint` and the corpus it was pretrained on. Out: `Fisher`, which holds nothing where the tuning asks for none.
Invariant: F_i is the mean over rows of the squared gradient of the row's mean loss, for the tokens that stand there (the
empirical diagonal).
"""

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from tasks.contracts import Checkpoint, Fisher, TokenizedCorpus
from tasks.core.artifact import EXTRA_DIR, Spec
from tasks.core.errors import ContractError, RecipeError
from tasks.core.stage import CHILD, StageContext, stage
from tasks.modeling.architecture import is_encoder_decoder

FISHER_NAME = "fisher.safetensors"
FACTS_NAME = "fisher.json"


class FisherSpec(Spec):
    """How much text is looked at."""

    num_rows: Annotated[int | None, Field(ge=1, description="Rows of text; none: nothing is measured.")] = None
    row_tokens: Annotated[int | None, Field(ge=16, description="Tokens a row holds; none: 1,024, or the base's context.")] = None
    seed: Annotated[int, Field(ge=0, lt=1 << 31, description="Seed of the draw of rows.")] = 0


class FisherJob(BaseModel):
    """What the child looks at."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    base_dir: Path
    corpus_dir: Path
    tokenizer_digest: str
    num_rows: int
    row_tokens: int | None
    seed: int
    device: str
    dir: Path


class FisherFacts(BaseModel):
    """What the child found."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    num_rows: int
    num_weights: int
    trace: float


@stage(version=6, name="fisher", retry=CHILD, packages=("torch", "transformers"))
def estimate_fisher(spec: FisherSpec, base: Checkpoint, corpus: TokenizedCorpus, *, ctx: StageContext) -> Fisher:
    """Measures the diagonal Fisher information of a base on a sample of the train split.

    Raises:
        RecipeError: The base is an encoder-decoder.
        ContractError: Base and corpus have different tokenizers.
    """
    if spec.num_rows is None:
        return ctx.commit(Fisher, base_digest=base.digest)
    if is_encoder_decoder(base.path / "model"):
        raise RecipeError(f"tune.ewc reads text on and on, which {base.address}, an encoder-decoder, does not: set it to off")
    require_same_tokenizer(base, corpus)
    job = FisherJob(
        base_dir=base.path / "model",
        corpus_dir=corpus.path,
        tokenizer_digest=corpus.tokenizer_digest,
        num_rows=spec.num_rows,
        row_tokens=spec.row_tokens,
        seed=spec.seed,
        device=ctx.site.resolved_device,
        dir=ctx.dir,
    )
    ctx.run_child("tasks.tuning.curvature:fisher_main", job)
    facts = FisherFacts.model_validate_json((ctx.dir / EXTRA_DIR / FACTS_NAME).read_bytes())
    return ctx.commit(Fisher, base_digest=base.digest, **facts.model_dump())


def require_same_tokenizer(base: Checkpoint, corpus: TokenizedCorpus) -> None:
    """Checks that the old text is in the tokens of the base.

    Raises:
        ContractError: It is not.
    """
    if base.tokenizer_digest != corpus.tokenizer_digest:
        raise ContractError(
            f"{corpus.address} was encoded with tokenizer {corpus.tokenizer_digest[:12]}, but {base.address} has "
            f"{base.tokenizer_digest[:12]}; give the corpus that was encoded for this base"
        )
