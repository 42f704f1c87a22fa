"""Labelled sets: what the recipe says of data with labels, pinned to content.

In: names, paths, columns, choices. Out: a spec whose identity holds contents and names, never where files lie. Invariant: the
held-out sets are named apart, or set apart by the hash of the group, so nothing can select on them.
"""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from tasks.contracts import LabelledTask
from tasks.core.rows import OfSets, RowSet
from tasks.labelled.glue import GlueSpec

Share = Annotated[float, Field(gt=0, le=0.5)]
Column = Annotated[str, Field(min_length=1)]


class LabelledSet(RowSet):
    """Rows with labels: csv, tsv, JSON (one array), JSON Lines, parquet, or a saved data set."""

    text_column: Annotated[Column, Field(description="Column of the text.")] = "text"
    pair_column: Annotated[Column | None, Field(description="Column of the second text of a pair; none: single texts.")] = None
    words_column: Annotated[
        Column, Field(description="Token classification: column of the words, a list or words between spaces.")
    ] = "words"
    label_column: Annotated[
        Column, Field(description="Column of what is learned: the label, the labels, the tags of the words, or the score.")
    ] = "label"
    label_columns: Annotated[
        tuple[Column, ...],
        Field(description="Multi-label: a column a label, 1 or true where it applies, 0 or false where not; none: label_column."),
    ] = ()
    group_column: Annotated[
        Column | None, Field(description="Column of the group, which is never in two splits; none: equal inputs are a group.")
    ] = None
    id_column: Annotated[Column | None, Field(description="Column of the id; none: the number of the row.")] = None
    label_separator: Annotated[
        str, Field(min_length=1, description="Multi-label: what stands between the labels where they are one text.")
    ] = ","
    names: dict[str, str] = Field(
        default_factory=dict, description="Name of each label as it is written, e.g. 0 = negative; none: as written."
    )
    where: dict[str, tuple[str, ...]] = Field(
        default_factory=dict, description="Columns and the values a row must have to be read, e.g. split = [dev]."
    )

    @property
    def labels_from(self) -> tuple[str, ...]:
        """The columns of the labels."""
        return self.label_columns or (self.label_column,)

    def columns(self, task: LabelledTask) -> list[str]:
        """Returns the columns that are read."""
        inputs = [self.words_column] if task == "token_classification" else [self.text_column, self.pair_column]
        read = [*inputs, *self.labels_from, self.group_column, self.id_column, *self.where]
        return [name for name in dict.fromkeys(read) if name is not None]


class LabelledSpec(OfSets):
    """Labelled data to tune on, to select on and to be judged by."""

    parts: ClassVar[tuple[str, ...]] = ("train", "validation", "heldout")

    glue: Annotated[
        GlueSpec | None,
        Field(description="A task of GLUE by name: fills in task, sets, labels and bounds; what is set beside it goes before."),
    ] = None
    task: Annotated[
        LabelledTask,
        Field(description="What is learned: one class of several, any number of labels, a number, or a tag for each word."),
    ]
    train: Annotated[tuple[LabelledSet, ...], Field(min_length=1, description="Sets to tune on.")]
    validation: Annotated[
        tuple[LabelledSet, ...], Field(description="Sets to select on; none: validation_share of the training groups.")
    ] = ()
    heldout: Annotated[
        tuple[LabelledSet, ...], Field(description="Sets that judge and select nothing; none: test_share of the training groups.")
    ] = ()
    validation_share: Annotated[
        Share, Field(description="Share of the training groups set apart to select on, by hash of the group; not stratified.")
    ] = 0.1
    test_share: Annotated[
        Share, Field(description="Share of the training groups set apart to judge by, by hash of the group; not stratified.")
    ] = 0.1
    label_names: Annotated[
        tuple[str, ...],
        Field(description="Names of the labels in the order of their numbers; none: those of the training sets, sorted."),
    ] = ()
    min_value: Annotated[float | None, Field(description="Regression: smallest score; off: any.")] = None
    max_value: Annotated[float | None, Field(description="Regression: largest score; off: any.")] = None
    max_chars: Annotated[int, Field(ge=1, description="Longest input in characters, both texts of a pair together.")] = 20_000
    too_long: Annotated[
        Literal["drop", "fail"], Field(description="What happens to a longer input: dropped and counted, or an error.")
    ] = "drop"
    conflict: Annotated[
        Literal["drop", "keep"],
        Field(description="Equal inputs with different labels: all of them dropped and counted, or all kept, in one split."),
    ] = "drop"
    seed: Annotated[int, Field(ge=0, description="Seed of the splits.")] = 0

    @model_validator(mode="before")
    @classmethod
    def _filled_in(cls, data: Any) -> Any:
        if not isinstance(data, dict) or not data.get("glue"):
            return data
        return GlueSpec.model_validate(data["glue"]).fields() | data

    @model_validator(mode="after")
    def _labels_differ(self) -> Self:
        if len(set(self.label_names)) < len(self.label_names):
            raise ValueError(f"label_names names a label twice: {', '.join(self.label_names)}")
        return self

    @model_validator(mode="after")
    def _settings_fit_the_task(self) -> Self:
        if self.task == "regression" and (self.label_names or any(one.names for one in self.every_set)):
            raise ValueError("a regression has scores, not labels: leave label_names and names out")
        if self.task != "regression" and (self.min_value, self.max_value) != (None, None):
            raise ValueError(f"min_value and max_value are bounds of a regression; leave them out of {self.task}")
        if self.task != "multi_label" and any(one.label_columns for one in self.every_set):
            raise ValueError(f"label_columns are of many labels an item; name one label_column for {self.task}")
        if self.min_value is not None and self.max_value is not None and self.min_value >= self.max_value:
            raise ValueError(f"min_value {self.min_value} must be below max_value {self.max_value}")
        if self.task == "token_classification" and any(one.pair_column for one in self.every_set):
            raise ValueError("token classification reads words, not pairs: leave pair_column out")
        return self

    def identity(self) -> dict[str, Any]:
        """Returns contents, names and settings; never where files lie, nor the short form that gave them."""
        return {name: value for name, value in super().identity().items() if name != "glue"}
