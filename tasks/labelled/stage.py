"""Labelled: reads data with labels, drops what cannot be used with its reason, and writes one table.

In: labelled sets. Out: `Labelled`. Invariants: each row seen is an item or is counted under a reason; no input and no group
stands in two splits; which labels there are is decided by the training sets alone.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from tasks.contracts import SPLITS, Labelled
from tasks.core.errors import ContractError
from tasks.core.rows import Refused, read_set
from tasks.core.stage import DISK, StageContext, stage
from tasks.core.tables import write_table
from tasks.labelled.forms import MADE, Item, to_item
from tasks.labelled.parts import Parts, divided
from tasks.labelled.sets import LabelledSet, LabelledSpec

COLUMNS = dict.fromkeys(("id", "group", "source", "split", "text", "text_pair"), "string") | {
    "words": "string[]",
    "labels": "string[]",
    "value": "float64",
    **dict.fromkeys(MADE, "string"),
    "confidence": "float64",
}


@stage(version=5, name="labelled", retry=DISK, packages=("pyarrow",))
def read_labelled(spec: LabelledSpec, *, ctx: StageContext) -> Labelled:
    """Reads every set, drops what cannot be used with its reason, and splits the rest.

    Raises:
        ContractError: A column is missing, a split is left without items, there are fewer than two classes or values to learn,
            or an input is too long and the spec says `fail`.
    """
    reader = _Reader(spec)
    given: Parts = {
        "train": list(reader.items(spec.train)),
        "validation": list(reader.items(spec.validation)),
        "test": list(reader.items(spec.heldout)),
    }
    spec.require_unchanged(ctx.site)
    require_something_to_learn(spec, given["train"], reader.dropped)
    names = spec.label_names or label_names(given["train"])
    known = {split: reader.known(items, names) for split, items in given.items()}
    parts = divided(spec, known, reader.dropped)
    _require_items(parts, reader.dropped)
    require_something_to_learn(spec, parts["train"], reader.dropped)
    write_table(ctx.dir / "items.parquet", COLUMNS, (item.row(split) for split in SPLITS for item in parts[split]))
    items = [item for split in SPLITS for item in parts[split]]
    values = [item.value for item in items if item.value is not None]
    by_label = Counter(label for item in items for label in item.labels or ())
    return ctx.commit(
        Labelled,
        task=spec.task,
        label_names=tuple(names),
        value_range=(min(values), max(values)) if values else None,
        num_items_in=reader.num_seen,
        num_items=len(items),
        dropped_by_reason={reason: count for reason, count in sorted(reader.dropped.items()) if count},
        items_by_split={split: len(parts[split]) for split in SPLITS},
        items_by_source=dict(Counter(item.source for item in items)),
        items_by_label={name: by_label[name] for name in names},
    )


class _Reader:
    """Reads items, and counts what it drops and why."""

    def __init__(self, spec: LabelledSpec) -> None:
        self.num_seen = 0
        self.dropped: Counter[str] = Counter()
        self._spec = spec

    def items(self, sets: Sequence[LabelledSet]) -> Iterator[Item]:
        """Yields the items of the sets that can be read."""
        for one in sets:
            for number, row in enumerate(read_set(one, one.columns(self._spec.task)), 1):
                self.num_seen += 1
                try:
                    yield self._short_enough(to_item(row, number, one, self._spec))
                except Refused as reason:
                    self.dropped[str(reason)] += 1

    def known(self, items: Sequence[Item], names: Sequence[str]) -> list[Item]:
        """Returns the items all of whose labels have a name; scores have none."""
        kept = [item for item in items if item.labels is None or set(item.labels) <= set(names)]
        self.dropped["unknown_label"] += len(items) - len(kept)
        return kept

    def _short_enough(self, item: Item) -> Item:
        if item.num_chars <= self._spec.max_chars:
            return item
        if self._spec.too_long == "fail":
            raise ContractError(
                f"item {item.id} has {item.num_chars} characters, max_chars is {self._spec.max_chars}; "
                'raise it, or set too_long = "drop"'
            )
        raise Refused("too_long")


def label_names(items: Sequence[Item]) -> tuple[str, ...]:
    """Returns the labels there are, sorted; numbers by their size."""
    found = {label for item in items for label in item.labels or ()}
    are_numbers = all(name.isascii() and name.isdigit() for name in found)
    return tuple(sorted(found, key=lambda name: (int(name) if are_numbers else 0, name)))


def require_something_to_learn(spec: LabelledSpec, items: Sequence[Item], dropped: Counter[str]) -> None:
    """Refuses training items that cannot teach anything.

    Raises:
        ContractError: There are no items, or all of them have the same label or score.
    """
    columns = ", ".join(sorted({repr(name) for one in spec.train for name in one.labels_from}))
    if not items:
        raise ContractError(
            f"no training item is left; refused: {dict(dropped) or 'nothing was read'}. The labels are read from column "
            f"{columns}; name the columns of text and label in the recipe"
        )
    found: set[Any] = (
        {item.value for item in items} if spec.task == "regression" else {name for item in items for name in item.labels or ()}
    )
    if len(found) < (1 if spec.task == "multi_label" else 2):
        raise ContractError(
            f"all {len(items):,} training items have the same label or score, {next(iter(found), 'none')!r} (column {columns}): "
            "nothing can be learned. Add items of other labels, or mend the columns of the labels and names"
        )


def _require_items(parts: Parts, dropped: Counter[str]) -> None:
    empty = [split for split in SPLITS if not parts[split]]
    if empty:
        raise ContractError(
            f"no item is left for {' and '.join(empty)}; refused: {dict(+dropped)}. A split without sets of its own takes a "
            "share of the training groups: give it more groups, or sets for that split"
        )
