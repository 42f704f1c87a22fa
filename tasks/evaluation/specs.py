"""What is asked of an evaluation: what is scored, how sure one wants to be, what a model must reach.

In: fields of a recipe. Out: frozen specs. Invariant: nothing here imports torch or pandas.
"""

from typing import Annotated, Self

from pydantic import Field

from tasks.contracts import Role
from tasks.core.artifact import Spec
from tasks.core.site import Site
from tasks.modeling.specs import PrecisionSpec


class BootstrapSpec(Spec):
    """Percentile bootstrap over documents or items (Efron, 1979); items of one group are drawn together."""

    num_resamples: Annotated[int, Field(ge=100, le=100_000, description="Times the items are drawn again.")] = 2_000
    confidence: Annotated[float, Field(gt=0.5, lt=1, description="Share of the resamples an interval holds.")] = 0.95
    seed: Annotated[int, Field(ge=0, lt=1 << 31, description="Seed of the draws.")] = 0


class EvaluateSpec(PrecisionSpec):
    """How each model is scored."""

    documents_per_language: Annotated[
        int | None, Field(ge=1, description="Test documents scored of each language, drawn by seed; none: all.")
    ] = 60
    document_chars: Annotated[
        int | None, Field(ge=16, description="Characters scored of a document, from its start; none: all.")
    ] = 2_000
    stride_tokens: Annotated[
        int | None, Field(ge=1, description="Tokens between windows over a long document; none: half the context.")
    ] = None
    foreign_prompts: Annotated[
        int, Field(ge=1, le=64, description="Prompts of other items that an item's answer is scored after; their mean counts.")
    ] = 4
    max_new_tokens: Annotated[int, Field(ge=1, le=8192, description="Longest answer.")] = 64
    sample_prompts: Annotated[tuple[str, ...], Field(description="Prompts whose answers are kept for a person to read.")] = (
        "用一句话说明 Linux 命令 ls 的作用。",
        "把下面的软件包介绍译成简体中文：\nfast text editor",
        "What is Debian?",
    )
    bootstrap: Annotated[BootstrapSpec, Field(description="Intervals.")] = BootstrapSpec()
    seed: Annotated[int, Field(ge=0, lt=1 << 31, description="Seed of the draw of documents and of foreign prompts.")] = 0


class ScoreSpec(Spec):
    """Which part a model plays, and how it is scored."""

    role: Role
    settings: EvaluateSpec

    def pinned(self, site: Site) -> Self:
        """Returns the spec with its precision made definite."""
        return self.model_copy(update={"settings": self.settings.pinned(site)})


class CompareSpec(Spec):
    """How models are compared."""

    bootstrap: Annotated[BootstrapSpec, Field(description="Intervals of the paired differences.")] = BootstrapSpec()
    num_samples: Annotated[int, Field(ge=0, le=200, description="Held-out items shown with all answers.")] = 12


class GateSpec(Spec):
    """What the tuned model must reach; each rule is about a whole interval, see `evaluate.bootstrap`."""

    min_items: Annotated[
        int, Field(ge=1, description="Fewer groups of held-out items, or documents, than this give no verdict.")
    ] = 30
    answer_loss_gain: Annotated[
        float, Field(ge=0, description="Nats a token by which the tuned model must beat its base on held-out answers.")
    ] = 0.0
    prompt_gain: Annotated[
        float, Field(ge=0, description="Bits an answer byte that an item's own prompt must be worth over a foreign one.")
    ] = 0.0
    prompt_gain_over_base: Annotated[
        float,
        Field(
            description="Bits an answer byte by which tuning must raise the worth of the prompt; below 0 allows a loss. A model "
            "tuned on shuffled answers keeps what its base had and gains nothing."
        ),
    ] = 0.0
    forgetting: Annotated[float, Field(ge=0, description="Bits a byte that tuning may cost on the general text.")] = 0.1
    champion_loss: Annotated[
        float, Field(ge=0, description="Bits an answer byte by which the tuned model may be worse than the champion.")
    ] = 0.0


class RequireVerdictSpec(Spec):
    """Ends the run where the verdict is no."""
