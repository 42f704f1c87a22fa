"""The optional part of the chain between tuning and the verdict: learning from preferences, or nothing.

In: the tuned model. Out: the model that is judged. Invariants: calls only; where a recipe asks for nothing no stage runs; what is
held out of the instructions is held out of the preferences too.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from tasks.contracts import Checkpoint
from tasks.core.artifact import Part
from tasks.core.site import Site
from tasks.instructions import InstructionsSpec, PreferencesSpec, read_preferences
from tasks.tuning.prefer import PreferSpec, prefer


class NoPreference(Part):
    """The tuned model is the one that is judged."""

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

    def build(self, tuned: Checkpoint, instructions: InstructionsSpec) -> Checkpoint:
        """Returns the tuned model."""
        return tuned


class PairedPreference(Part):
    """The tuned model learns from pairs of answers."""

    kind: Literal["pairs"]
    pairs: Annotated[PreferencesSpec, Field(title="Pairs", description="Pairs of answers and their held-out part.")]
    learn: Annotated[PreferSpec, Field(title="Learn", description="The loss, what it trains, and how.")] = PreferSpec()

    @model_validator(mode="after")
    def _is_paired(self) -> Self:
        if self.pairs.kind != "paired":
            raise ValueError(f"preference.pairs.kind is {self.pairs.kind}: {self.learn.loss.kind} learns from paired answers")
        return self

    @property
    def stages(self) -> tuple[str, ...]:
        """Stages that it runs."""
        return ("preferences", "prefer")

    def check_site(self, site: Site) -> None:
        """Raises RecipeError where this machine cannot do it; asked before any work."""
        self.learn.pinned(site)
        self.learn.method.check_site(site)
        self.learn.train.check_site(site, "preference.learn.train")

    def forewarnings(self) -> list[str]:
        """Returns what should be known before it runs."""
        return self.learn.forewarnings()

    def build(self, tuned: Checkpoint, instructions: InstructionsSpec) -> Checkpoint:
        """Reads the pairs and teaches the model to prefer the better answers."""
        return prefer(self.learn, tuned, read_preferences(self.apart_from(instructions)))

    def apart_from(self, instructions: InstructionsSpec) -> PreferencesSpec:
        """Returns what to read of the pairs: the held-out instructions are kept out, their slots filled as there."""
        kept_out = (*self.pairs.keep_out, *instructions.heldout)
        return self.pairs.model_copy(update={"keep_out": kept_out, "slots": instructions.slots | self.pairs.slots})


Preference = Annotated[NoPreference | PairedPreference, Field(discriminator="kind")]
