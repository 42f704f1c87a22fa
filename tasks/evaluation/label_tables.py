"""The table of predictions on labelled text, written and read.

In: items and what was said of them. Out: `predictions.parquet` and `scored.json` of a `Scores`; both back again. Invariant: one
row an item of the validation and the test split, in the order of the items; a model is judged by its test rows alone.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.contracts import Labelled, LabelledTask, Split
from tasks.core.tables import read_rows
from tasks.modeling.labelled_items import ITEM_COLUMNS, Item, Prediction

PREDICTIONS, SCORED = "predictions.parquet", "scored.json"


@dataclass(frozen=True, slots=True)
class Predictions:
    """Test items and what was said of them, in one order.

    Attributes:
        sources: Set that each item stems from.
        truth, said: Labels of each item; of words one each.
        scores: Probability of each label; of words, that of the label said.
        true_value, said_value: Of a regression.
        nats: Summed over what is judged.
        groups: Group that each item is drawn with; none: each item is its own.
    """

    task: LabelledTask
    label_names: tuple[str, ...]
    ids: tuple[str, ...]
    sources: tuple[str, ...]
    truth: tuple[tuple[str, ...], ...]
    said: tuple[tuple[str | None, ...], ...]
    scores: tuple[tuple[float, ...], ...]
    true_value: NDArray[np.float64]
    said_value: NDArray[np.float64]
    nats: NDArray[np.float64]
    groups: tuple[str, ...] = ()

    @property
    def group_numbers(self) -> NDArray[np.int64]:
        """Number of each item's group, from 0 on in the order of the items."""
        numbers: dict[str, int] = {}
        return np.array([numbers.setdefault(group, len(numbers)) for group in self.groups or self.ids], dtype=np.int64)

    def by_source(self) -> "dict[str, Predictions]":
        """Returns the items of each set, where there are several."""
        names = sorted(set(self.sources))
        if len(names) == 1:
            return {}
        return {name: self.of(id for id, own in zip(self.ids, self.sources, strict=True) if own == name) for name in names}

    def of(self, ids: Iterable[str]) -> "Predictions":
        """Returns the items of these ids, in this order."""
        place = {name: number for number, name in enumerate(self.ids)}
        chosen = [place[name] for name in ids]
        lists: dict[str, Any] = {
            name: tuple(getattr(self, name)[number] for number in chosen)
            for name in ("ids", "sources", "truth", "said", "scores", *(("groups",) if self.groups else ()))
        }
        columns: dict[str, Any] = {name: getattr(self, name)[chosen] for name in ("true_value", "said_value", "nats")}
        return Predictions(self.task, self.label_names, **lists, **columns)


def scored_items(labelled: Labelled) -> list[Item]:
    """Returns the items of the validation and the test split."""
    rows = read_rows(labelled.path / "items.parquet", (*ITEM_COLUMNS, "group"))
    return [row for row in rows if row["split"] in ("validation", "test")]


def write_predictions(
    folder: Path,
    task: LabelledTask,
    label_names: Sequence[str],
    items: Sequence[Item],
    said: Sequence[Prediction],
    notes: dict[str, int],
) -> None:
    """Writes what was said of items."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    names, numbers = pa.list_(pa.string()), pa.list_(pa.float64())
    columns = dict.fromkeys(("id", "group", "source", "split"), pa.string()) | {"truth": names, "said": names, "scores": numbers}
    schema = pa.schema([*columns.items(), *((name, pa.float64()) for name in ("true_value", "said_value", "nats"))])
    rows = [
        {
            "id": item["id"],
            "group": item["group"],
            "source": item["source"],
            "split": item["split"],
            "truth": item["labels"] or [],
            "said": one.labels,
            "scores": one.scores,
            "true_value": item["value"],
            "said_value": one.value,
            "nats": one.loss,
        }
        for item, one in zip(items, said, strict=True)
    ]
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), folder / PREDICTIONS, compression="zstd")
    about = {"task": task, "label_names": list(label_names), "notes": notes}
    (folder / SCORED).write_text(json.dumps(about, ensure_ascii=False, indent=1), encoding="utf-8")


def read_predictions(folder: Path, split: Split = "test") -> Predictions:
    """Reads the predictions of the items of a split."""
    about = json.loads((folder / SCORED).read_text(encoding="utf-8"))
    rows = [row for row in read_rows(folder / PREDICTIONS) if row["split"] == split]
    lists: dict[str, Any] = {name: tuple(tuple(row[name]) for row in rows) for name in ("truth", "said", "scores")}
    columns: dict[str, Any] = {
        name: np.array([row[name] for row in rows], dtype=np.float64) for name in ("true_value", "said_value", "nats")
    }
    return Predictions(
        task=about["task"],
        label_names=tuple(about["label_names"]),
        ids=tuple(row["id"] for row in rows),
        sources=tuple(row["source"] for row in rows),
        groups=tuple(row.get("group") or row["id"] for row in rows),
        **lists,
        **columns,
    )
