"""Instruction sets: what the recipe says of tuning and preference data and of the held-out sets, pinned to content.

In: names, paths, choices. Out: a spec whose identity holds contents and names, never where files lie. Invariant: the
held-out set is named apart from the training sets, so nothing can select on it.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from tasks.core.artifact import Spec
from tasks.core.overlap import OverlapRules
from tasks.core.rows import RowSet
from tasks.core.site import Site

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


class InstructionsSpec(Spec):
    """Data to tune on, and the held-out items that judge the result."""

    train: Annotated[tuple[InstructionSet, ...], Field(min_length=1, description="Sets to tune on.")]
    heldout: Annotated[tuple[InstructionSet, ...], Field(description="Held-out sets: they judge and select nothing.")] = ()
    validation_share: Annotated[
        float, Field(gt=0, le=0.5, description="Share of the training groups set apart to select on, by hash of the group.")
    ] = 0.05
    max_chars: Annotated[int, Field(ge=16, description="Longest conversation in characters.")] = 8_000
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
    shuffle_answers: Annotated[
        bool, Field(description="Experiment: give training items each other's answers, so that the gate must say no.")
    ] = False
    seed: Annotated[int, Field(ge=0, description="Seed of the validation split and of the shuffle.")] = 0

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        _require_names((*self.train, *self.heldout))
        return self

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

    def pinned(self, site: Site) -> Self:
        """Fills in what the files' bytes are."""
        return self.model_copy(update=_pinned(self, ("train", "heldout"), site))

    def identity(self) -> dict[str, Any]:
        """Returns contents, names and settings; never where files lie."""
        return _without_paths(self, ("train", "heldout"))


class PreferencesSpec(Spec):
    """Answers that people prefer to others, or find good or bad."""

    kind: Annotated[
        Literal["paired", "unpaired"],
        Field(description="paired: two answers, the better one chosen (DPO); unpaired: one answer, good or bad (KTO)."),
    ]
    train: Annotated[tuple[InstructionSet, ...], Field(min_length=1, description="Sets to tune on.")]
    heldout: Annotated[tuple[InstructionSet, ...], Field(description="Held-out sets: they judge and select nothing.")] = ()
    keep_out: Annotated[
        tuple[InstructionSet, ...],
        Field(description="Conversations that must not be trained on, e.g. the held-out instruction sets; not kept themselves."),
    ] = ()
    validation_share: Annotated[
        float, Field(gt=0, le=0.5, description="Share of the training groups set apart to select on, by hash of the group.")
    ] = 0.05
    max_chars: Annotated[int, Field(ge=16, description="Longest conversation in characters, with the longer answer.")] = 8_000
    too_long: Annotated[
        Literal["drop", "fail"], Field(description="What happens to a longer conversation: dropped and counted, or an error.")
    ] = "drop"
    equal_sides: Annotated[
        Literal["drop", "fail"], Field(description="What happens to a pair of equal answers: dropped and counted, or an error.")
    ] = "drop"
    near_heldout_similarity: Annotated[
        float | None,
        Field(gt=0.5, le=1, description="Training prompts that share this much (Jaccard of character 5-grams) are dropped."),
    ] = 0.9
    heldout_overlap: Annotated[
        OverlapRules | None,
        Field(description="Training items that share a run or an answer with a held-out item are dropped; off: not looked for."),
    ] = OverlapRules()
    slots: dict[str, str] = Field(
        default_factory=dict,
        description="What stands for {{name}}, {{author}}, ... in the texts; items that keep one of these two are dropped.",
    )
    seed: Annotated[int, Field(ge=0, description="Seed of the validation split.")] = 0

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        _require_names((*self.train, *self.heldout, *self.keep_out))
        if weighted := [one.name for one in (*self.train, *self.heldout, *self.keep_out) if one.weight is not None]:
            raise ValueError(f"{weighted[0]!r} has a weight, and sets of preferences are not mixed; leave it out")
        return self

    def pinned(self, site: Site) -> Self:
        """Fills in what the files' bytes are."""
        return self.model_copy(update=_pinned(self, ("train", "heldout", "keep_out"), site))

    def identity(self) -> dict[str, Any]:
        """Returns contents, names and settings; never where files lie."""
        return _without_paths(self, ("train", "heldout", "keep_out"))


def _require_names(sets: Sequence[InstructionSet]) -> None:
    twice = [name for name, count in Counter(one.name for one in sets).items() if count > 1]
    if twice:
        raise ValueError(f"two sets are called {twice[0]!r}; give each its own name")


def _pinned(spec: Spec, parts: Sequence[str], site: Site) -> dict[str, Any]:
    return {part: tuple(one.pinned(site) for one in getattr(spec, part)) for part in parts}


def _without_paths(spec: Spec, parts: Sequence[str]) -> dict[str, Any]:
    return spec.model_dump(mode="json", exclude={part: {"__all__": {"paths"}} for part in parts})
