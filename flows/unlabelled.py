"""The optional part of the labelled chain before the tuning: task text without labels, to pretrain on further and to label.

In: the base and the labelled items. Out: the base and the items that the tuning gets. Invariants: calls only; where a recipe asks
for nothing no stage runs; what judges and selects is never among the text.
"""

from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import Field, field_validator, model_validator

from tasks.contracts import Checkpoint, CleanCorpus, Labelled
from tasks.core.artifact import Part
from tasks.core.site import Site
from tasks.core.toml import merge
from tasks.labelled import PseudoSpec, TaskTextSpec, pseudo_label, read_task_text
from tasks.modeling.objectives.masked import MaskedSpec
from tasks.modeling.specs import AdamWSpec, BudgetSpec, ModelSpec
from tasks.modeling.start import Continued
from tasks.pretrain import PretrainSpec, pretrain_further
from tasks.tokenization import BaseTokenizer, EncodeSpec, TokenizerSpec, encode, make_tokenizer
from tasks.tuning.labelled import TuneLabelledSpec, tune_first

_FURTHER = PretrainSpec(
    start=Continued(kind="continued"),
    model=ModelSpec(context_tokens=128),
    objective=MaskedSpec(kind="masked"),
    optim=AdamWSpec(kind="adamw", learning_rate=1e-4),
    train=BudgetSpec(batch_rows=16, num_epochs=3),
)


class Prepared(NamedTuple):
    """What the tuning gets."""

    base: Checkpoint
    labelled: Labelled


class NoUnlabelled(Part):
    """There is no task text without labels."""

    kind: Literal["none"]

    @property
    def stages(self) -> tuple[str, ...]:
        """Stages that it runs."""
        return ()

    def check_site(self, site: Site) -> None:
        """Any machine can do it."""

    def forewarnings(self) -> list[str]:
        """Returns what should be known before it runs."""
        return []

    def prepare(self, tune: TuneLabelledSpec, base: Checkpoint, labelled: Labelled) -> Prepared:
        """Returns both as they are."""
        return Prepared(base, labelled)


class TaskText(Part):
    """Task text without labels, and what is done with it."""

    kind: Literal["text"]
    text: Annotated[TaskTextSpec, Field(title="Text", description="Sets of unlabelled text.")]
    further: Annotated[
        PretrainSpec | None,
        Field(
            title="Further",
            description="Pretraining on the text before the tuning: masked for encoders, causal for decoders; off: none.",
        ),
    ] = _FURTHER
    pseudo: Annotated[
        PseudoSpec | None, Field(title="Pseudo-labels", description="Labels of a first model that are believed; off: none.")
    ] = None

    @field_validator("further", mode="before")
    @classmethod
    def _keeps_what_is_not_set(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        tree = merge(_FURTHER.model_dump(mode="json"), value)
        is_by_tokens = isinstance(value.get("train"), dict) and value["train"].get("num_tokens") is not None
        return merge(tree, {"train": {"num_epochs": value["train"].get("num_epochs")}}) if is_by_tokens else tree

    @model_validator(mode="after")
    def _does_something(self) -> Self:
        if self.further is None and self.pseudo is None:
            raise ValueError("unlabelled.further and unlabelled.pseudo are both off: set one, or unlabelled.kind none")
        if self.further is not None and not isinstance(self.further.start, Continued):
            raise ValueError(f"unlabelled.further.start.kind is {self.further.start.kind}; further pretraining is continued")
        return self

    @property
    def stages(self) -> tuple[str, ...]:
        """Stages that it runs."""
        further = ("tokenizer", "encode", "pretrain_further") if self.further is not None else ()
        return ("task_text", *further, *(("tune_first", "pseudo_labels") if self.pseudo is not None else ()))

    def check_site(self, site: Site) -> None:
        """Raises RecipeError where this machine cannot do it; asked before any work."""
        if self.further is not None:
            self.further.check_site(site, "unlabelled.further")

    def forewarnings(self) -> list[str]:
        """Returns what should be known before it runs."""
        return [] if self.further is None else self.further.forewarnings("unlabelled.further")

    def prepare(self, tune: TuneLabelledSpec, base: Checkpoint, labelled: Labelled) -> Prepared:
        """Pretrains the base further on the text, and labels the text by a first model."""
        text = read_task_text(self.text, labelled)
        further = self._further(base, text)
        return Prepared(further, self._labelled(tune, further, labelled, text))

    def _further(self, base: Checkpoint, text: CleanCorpus) -> Checkpoint:
        if self.further is None:
            return base
        tokenizer = make_tokenizer(TokenizerSpec(source=BaseTokenizer(kind="base")), text, base)
        return pretrain_further(self.further, encode(EncodeSpec(), text, tokenizer), tokenizer, base)

    def _labelled(self, tune: TuneLabelledSpec, base: Checkpoint, labelled: Labelled, text: CleanCorpus) -> Labelled:
        if self.pseudo is None:
            return labelled
        first = tune_first(tune.model_copy(update={"num_folds": None}), base, labelled)
        return pseudo_label(self.pseudo, labelled, first, text)


Unlabelled = Annotated[NoUnlabelled | TaskText, Field(discriminator="kind")]
