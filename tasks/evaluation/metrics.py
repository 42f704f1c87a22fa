"""The metrics: each one a line of data and a function of one row.

In: a row of a scored model's tables. Out: two numbers a row, whose sums' ratio is the metric. Invariants: a metric is a ratio of
sums, so long documents count by their length; a row that says nothing about a metric is left out of it, never counted as 0.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

Row = dict[str, Any]
Ratio = tuple[float, float]


class Unit(NamedTuple):
    """The two numbers of a document or an item, and the group it is drawn with."""

    above: float
    below: float
    group: str


Units = dict[str, Unit]


@dataclass(frozen=True, slots=True)
class Metric:
    """How a metric is made and read.

    Attributes:
        table: Which table has its rows.
        of: Gives the two numbers of a row, or none where the row says nothing.
        by_language: Whether it is also made of each language alone.
        examples: Rows, cut to what is used, and what they give; a test runs them.
    """

    name: str
    title: str
    unit: str
    lower_is_better: bool
    table: Literal["documents", "items"]
    of: Callable[[Row], Ratio | None]
    examples: tuple[tuple[Row, Ratio | None], ...]
    by_language: bool = False


def _bits_per_byte(row: Row) -> Ratio:
    return row["nats"] / math.log(2), row["num_bytes"]


def _answer_loss(row: Row) -> Ratio:
    return row["nats"], row["num_tokens"]


def _keywords(row: Row) -> Ratio | None:
    return None if row["copied"] else (float(row["is_matched"]), 1.0)


def _copied_keywords(row: Row) -> Ratio | None:
    return (float(row["is_matched"]), 1.0) if row["copied"] else None


def _prompt_gain(row: Row) -> Ratio | None:
    """Bits an answer costs less after its own prompt than after another item's."""
    if row["foreign_nats"] is None:
        return None
    return (row["foreign_nats"] - row["nats"]) / math.log(2), row["num_bytes"]


_ONE_BIT = math.log(2)
METRICS = (
    Metric(
        "answer_loss",
        "Loss on held-out answers",
        "nats a token",
        True,
        "items",
        _answer_loss,
        (({"nats": 6.0, "num_tokens": 3}, (6.0, 3)),),
    ),
    Metric(
        "answer_bits_per_byte",
        "Held-out answers",
        "bits a byte",
        True,
        "items",
        _bits_per_byte,
        (({"nats": 4 * _ONE_BIT, "num_bytes": 8}, (4.0, 8)),),
    ),
    Metric(
        "keyword_accuracy",
        "Answers with the right keywords",
        "share",
        False,
        "items",
        _keywords,
        (({"is_matched": True, "copied": False}, (1.0, 1.0)), ({"is_matched": True, "copied": True}, None)),
    ),
    Metric(
        "keyword_accuracy/copied",
        "The same where the keywords stand in the prompt",
        "share",
        False,
        "items",
        _copied_keywords,
        (({"is_matched": False, "copied": True}, (0.0, 1.0)), ({"is_matched": True, "copied": False}, None)),
    ),
    Metric(
        "prompt_gain",
        "Worth of the item's own prompt over a foreign one",
        "bits an answer byte",
        False,
        "items",
        _prompt_gain,
        (
            ({"nats": 2 * _ONE_BIT, "foreign_nats": 5 * _ONE_BIT, "num_bytes": 6}, (3.0, 6)),
            ({"nats": 1.0, "foreign_nats": None, "num_bytes": 6}, None),
        ),
    ),
    Metric(
        "bits_per_byte",
        "General text",
        "bits a byte",
        True,
        "documents",
        _bits_per_byte,
        (({"nats": 24 * _ONE_BIT, "num_bytes": 12}, (24.0, 12)),),
        by_language=True,
    ),
)


def metric_named(name: str) -> Metric:
    """Returns the metric of a name; `bits_per_byte/zh` is `bits_per_byte` of one language."""
    exact = {metric.name: metric for metric in METRICS}
    return exact[name] if name in exact else exact[name.rpartition("/")[0]]


def measure_units(documents: Iterable[Row], items: Iterable[Row]) -> dict[str, Units]:
    """Returns each metric's two numbers by document or item; a metric without a single row is left out."""
    tables = {"documents": list(documents), "items": list(items)}
    units: dict[str, Units] = {}
    for metric in METRICS:
        for row in tables[metric.table]:
            if (numbers := metric.of(row)) is None:
                continue
            unit = Unit(*numbers, row.get("group") or row["id"])
            units.setdefault(metric.name, {})[row["id"]] = unit
            if metric.by_language:
                units.setdefault(f"{metric.name}/{row['lang']}", {})[row["id"]] = unit
    return dict(sorted(units.items()))
