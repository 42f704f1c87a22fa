"""Instruction sets: what the recipe says of tuning and preference data and of the held-out sets, pinned to content.

In: names, paths, choices. Out: a spec whose identity holds contents and names, never where files lie. Invariant: the
held-out set is named apart from the training sets, so nothing can select on it.
"""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from tasks.core.overlap import OverlapRules
from tasks.core.rows import OfSets, RowSet

Form = Literal["auto", "messages", "alpaca", "sharegpt", "prompt_response"]


class InstructionSet(RowSet):
    """Instruction items: JSON (one array), JSON Lines, tables, data sets saved or of the hub; alpaca reads self-instruct too."""

    form: Annotated[Form, Field(description="Form of the items; auto: by their keys.")] = "auto"
    weight: Annotated[
        float | None,
        Field(
            gt=0,
            description="Share of the answers' tokens that a pass of the tuning takes from this set, relative to the other sets' "
            "weights; none: as large as it is.",
        ),
    ] = None


class _Sets(OfSets):
    """Sets to tune on, and sets that are kept out of them."""

    parts: ClassVar[tuple[str, ...]] = ("train", "heldout")

    train: Annotated[tuple[InstructionSet, ...], Field(min_length=1, description="Sets to tune on.")]
    heldout: Annotated[tuple[InstructionSet, ...], Field(description="Held-out sets: they judge and select nothing.")] = ()
    validation_share: Annotated[
        float, Field(gt=0, le=0.5, description="Share of the training groups set apart to select on, by hash of the group.")
    ] = 0.05
    max_chars: Annotated[
        int, Field(ge=16, description="Longest conversation in characters; of two answers the longer counts.")
    ] = 8_000
    too_long: Annotated[
        Literal["drop", "fail"], Field(description="What happens to a longer conversation: dropped and counted, or an error.")
    ] = "drop"
    near_heldout_similarity: Annotated[
        float | None,
        Field(
            gt=0.5,
            le=1,
            description="Training items whose prompt shares this much (Jaccard of character 5-grams) with a held-out prompt "
            "are dropped. 0.9 finds the same text with small edits but keeps short prompts that share a template.",
        ),
    ] = 0.9
    heldout_overlap: Annotated[
        OverlapRules | None,
        Field(description="Training items that share a run or an answer with a held-out item are dropped; off: not looked for."),
    ] = OverlapRules()
    slots: dict[str, str] = Field(
        default_factory=dict,
        description="What stands for {{name}}, {{author}}, ... in the texts; items that keep one of these two are dropped.",
    )
    seed: Annotated[int, Field(ge=0, description="Seed of the validation split, and of whatever else is drawn.")] = 0


class InstructionsSpec(_Sets):
    """Data to tune on, and the held-out items that judge the result."""

    shuffle_answers: Annotated[
        bool, Field(description="Experiment: give training items each other's answers, so that the gate must say no.")
    ] = False

    @model_validator(mode="after")
    def _all_are_weighted(self) -> Self:
        without = [one.name for one in self.train if one.weight is None]
        if without and len(without) < len(self.train):
            raise ValueError(f"instructions.train: {without[0]!r} has no weight, and others have; give all of them one, or none")
        if weighted := [one.name for one in self.heldout if one.weight is not None]:
            raise ValueError(f"instructions.heldout: {weighted[0]!r} has a weight, and held-out sets are not mixed; leave it out")
        return self

    @property
    def weights(self) -> dict[str, float]:
        """Weight of each training set by its name; none where they are as large as they are."""
        return {one.name: one.weight for one in self.train if one.weight is not None}


class PreferencesSpec(_Sets):
    """Answers that people prefer to others, or find good or bad."""

    parts: ClassVar[tuple[str, ...]] = ("train", "heldout", "keep_out")

    kind: Annotated[
        Literal["paired", "unpaired"],
        Field(description="paired: two answers, the better one chosen; unpaired: one answer, good or bad. Recipes take pairs."),
    ]
    keep_out: Annotated[
        tuple[InstructionSet, ...],
        Field(description="Conversations that must not be trained on, e.g. the held-out instruction sets; not kept themselves."),
    ] = ()
    equal_sides: Annotated[
        Literal["drop", "fail"], Field(description="What happens to a pair of equal answers: dropped and counted, or an error.")
    ] = "drop"

    @model_validator(mode="after")
    def _none_is_weighted(self) -> Self:
        if weighted := [one.name for one in self.every_set if one.weight is not None]:
            raise ValueError(f"{weighted[0]!r} has a weight, and sets of preferences are not mixed; leave it out")
        return self
