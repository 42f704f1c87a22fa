"""What a model is tuned on, each kind in one form: conversations, preferences, labelled text."""

from typing import Literal, Self

from pydantic import Field, model_validator

from tasks.contracts.shared import Count, Counts, LabelledTask, check_conserved, reasons
from tasks.core.artifact import Artifact


class Conversations(Artifact):
    """Instruction data in one form: `conversations.jsonl` (id, group, source, split, messages, keywords, match, copied).

    `weights.json` holds the weight of each training set by its source, where they are mixed by weight.

    Attributes:
        num_items_in: Items seen.
        dropped_by_reason: Items refused, by reason.
        items_by_split: Items of each split; `test` is the held-out set, which selects nothing.
    """

    num_items_in: Count
    num_items: Count
    dropped_by_reason: Counts
    items_by_split: Counts
    items_by_source: Counts

    @model_validator(mode="after")
    def _conserved(self) -> Self:
        check_conserved("instructions", self.num_items_in, self.num_items, self.dropped_by_reason)
        check_conserved("instruction split", self.num_items, 0, self.items_by_split)
        return self

    def summary(self) -> str:
        """One line for a person."""
        splits = ", ".join(f"{count:,} {split}" for split, count in self.items_by_split.items())
        return f"{splits} conversations, {reasons(self.dropped_by_reason)}"


class Preferences(Artifact):
    """Preference data in one form: `preferences.jsonl`, whose rows begin with id, group, source and split.

    Paired rows go on with `prompt` (messages, the last one a user's), `chosen` and `rejected` (texts of the answer), unpaired
    ones with `messages` (the last one the answer) and `is_good`. Rows of one prompt are one group, unless they name another.

    Attributes:
        num_items_in: Items seen.
        dropped_by_reason: Items refused, by reason.
        items_by_split: Items of each split; `test` is the held-out set, which selects nothing.
        num_good: Unpaired items whose answer is good.
    """

    form: Literal["paired", "unpaired"]
    num_items_in: Count
    num_items: Count
    dropped_by_reason: Counts
    items_by_split: Counts
    items_by_source: Counts
    num_good: Count | None = None

    @model_validator(mode="after")
    def _conserved(self) -> Self:
        check_conserved("preferences", self.num_items_in, self.num_items, self.dropped_by_reason)
        check_conserved("preference split", self.num_items, 0, self.items_by_split)
        return self

    def summary(self) -> str:
        """One line for a person."""
        splits = ", ".join(f"{count:,} {split}" for split, count in self.items_by_split.items())
        return f"{self.form}: {splits} items, {reasons(self.dropped_by_reason)}"


class Labelled(Artifact):
    """Labelled text in one form: `items.parquet` (id, group, source, split, text, text_pair, words, labels, value).

    Items that were made here have `made_by` (the way), `origin` (id of the item they are a copy of), `maker` (digest of the model
    or dictionary) and `confidence` (a pseudo-label's probability), which are null for all others.

    What a task does not use is null: `text_pair` of single texts, `words` of all but token classification, `value` (a number) of
    all but regression, whose `labels` are null. `labels` are names: one of a class, any number of a multi-label item, one a word.

    Attributes:
        label_names: Names in the order of their numbers, which a model's head keeps; none for regression.
        value_range: Smallest and largest value of a regression.
        num_items_in: Items seen.
        dropped_by_reason: Items refused, by reason.
        items_by_split: Items of each split; `test` is the held-out set, which selects nothing.
        items_by_label: Items, or words, of each label over all splits.
        made_by: Training items that were made here beside those seen: copies by way of augmentation, `pseudo_labels`.
        not_made: Such items that came to nothing, by way and reason.
    """

    task: LabelledTask
    label_names: tuple[str, ...] = ()
    value_range: tuple[float, float] | None = None
    num_items_in: Count
    num_items: Count
    dropped_by_reason: Counts
    items_by_split: Counts
    items_by_source: Counts
    items_by_label: Counts = Field(default_factory=dict)
    made_by: Counts = Field(default_factory=dict)
    not_made: Counts = Field(default_factory=dict)

    @model_validator(mode="after")
    def _conserved(self) -> Self:
        num_in = self.num_items_in + sum(self.made_by.values())
        check_conserved("labelled items", num_in, self.num_items, self.dropped_by_reason)
        check_conserved("split of labelled items", self.num_items, 0, self.items_by_split)
        return self

    def summary(self) -> str:
        """One line for a person."""
        splits = ", ".join(f"{count:,} {split}" for split, count in self.items_by_split.items())
        made = "".join(f", {count:,} by {way}" for way, count in self.made_by.items())
        return f"{self.task.replace('_', ' ')}: {splits} items{made}, {reasons(self.dropped_by_reason)}"
