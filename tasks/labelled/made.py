"""Items that are made here beside those that were read: copies of training items, and pseudo-labelled text.

In: `Labelled` and rows. Out: `Labelled` with them in its training part. Invariants: validation and test stay as they are; a made
item's input stands nowhere else, else it is not made, and counted; each says how, of what and by whom it was made.
"""

from collections import Counter
from collections.abc import Iterable

from tasks.contracts import Labelled
from tasks.core.rows import Refused
from tasks.core.stage import StageContext
from tasks.core.tables import Row, read_rows, write_table
from tasks.labelled.forms import input_key
from tasks.labelled.stage import COLUMNS


def rows_of(labelled: Labelled) -> list[Row]:
    """Returns the items as they are kept."""
    return list(read_rows(labelled.path / "items.parquet"))


def train_originals(rows: Iterable[Row]) -> list[Row]:
    """Returns the training items that were read."""
    return [row for row in rows if row["split"] == "train" and row["made_by"] is None]


class Made:
    """Gathers what is made, and counts what is not and why."""

    def __init__(self, labelled: Labelled) -> None:
        self.rows: list[Row] = []
        self.not_made: Counter[str] = Counter()
        self._labelled = labelled
        self._old = rows_of(labelled)
        self._known = {input_key(row["text"], row["text_pair"]) for row in self._old}

    def add(self, row: Row | Refused, way: str) -> None:
        """Takes an item of the training part, unless it is refused or its input is known."""
        if isinstance(row, Refused):
            self.not_made[f"{way}: {row}"] += 1
        elif (key := input_key(row["text"], row["text_pair"])) in self._known:
            self.not_made[f"{way}: input is known"] += 1
        else:
            self._known.add(key)
            self.rows.append(row | {"split": "train", "made_by": way})

    def knows(self, text: str) -> bool:
        """Says whether a text stands there alone as an input."""
        return input_key(text, None) in self._known

    def commit(self, ctx: StageContext) -> Labelled:
        """Writes the items, those made behind those read."""
        write_table(ctx.dir / "items.parquet", COLUMNS, [*self._old, *self.rows])
        facts = self._labelled.facts()
        labels, sources = Counter(facts["items_by_label"]), Counter(facts["items_by_source"])
        labels.update(label for row in self.rows for label in row["labels"] or ())
        sources.update(row["source"] for row in self.rows)
        splits = facts["items_by_split"] | {"train": facts["items_by_split"]["train"] + len(self.rows)}
        made_by = Counter(facts["made_by"]) + Counter(row["made_by"] for row in self.rows)
        return ctx.commit(
            Labelled,
            **facts
            | {"num_items": facts["num_items"] + len(self.rows), "items_by_split": splits}
            | {"items_by_source": dict(sources), "items_by_label": dict(labels)}
            | {"made_by": dict(made_by), "not_made": dict(Counter(facts["not_made"]) + self.not_made)},
        )
