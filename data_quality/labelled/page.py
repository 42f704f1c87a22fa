"""Page: the quality of labelled data as one HTML page, in the frame of the corpus report.

In: results, tables, the data and its suspect labels. Out: HTML. Invariant: everything is escaped by the template; texts are cut.
"""

from collections.abc import Sequence
from typing import Any

from data_quality.labelled.judged import Judged
from data_quality.profile import Tables
from data_quality.report import histogram, page
from data_quality.validation import Result
from tasks.contracts import Labelled
from tasks.core.text import text_safe

_MAX_LABELS = 40
_MAX_SUSPECTS = 20
_EXAMPLE_CHARS = 280


def render(results: Sequence[Result], tables: Tables, labelled: Labelled, suspects: Sequence[Judged]) -> str:
    """Returns the page of labelled data."""
    return page(
        "labelled.jinja",
        results,
        title="Labelled data quality",
        digest=labelled.digest[:12],
        task=labelled.task.replace("_", " "),
        data=tables["data"][0],
        steps_title="From rows to items",
        steps=_steps(labelled),
        histogram=histogram([row | {"set": "all items"} for row in tables["items"]], "set"),
        splits=tables["splits"],
        labels=sorted(tables["labels"], key=lambda row: (-row["num_items"], row["label"]))[:_MAX_LABELS],
        num_labels=len(tables["labels"]),
        unit="Words" if labelled.task == "token_classification" else "Items",
        scores=tables["scores"],
        reasons=tables["reasons"],
        suspects=[_shown(one) for one in suspects[:_MAX_SUSPECTS]],
    )


def _steps(labelled: Labelled) -> list[dict[str, Any]]:
    """Returns how many rows became items, and where the items lie."""
    steps = [
        ("read", labelled.num_items_in, "rows seen"),
        ("kept", labelled.num_items, f"{sum(labelled.dropped_by_reason.values()):,} left out"),
        *((split, count, "items") for split, count in labelled.items_by_split.items()),
    ]
    first = max(1, labelled.num_items_in)
    return [{"name": name, "count": count, "note": note, "share": count / first} for name, count, note in steps]


def _shown(one: Judged) -> dict[str, Any]:
    texts = [text for text in (one.item["text"], one.item["text_pair"]) if text is not None]
    return {
        "id": one.item["id"],
        "split": one.item["split"],
        "given": ", ".join(one.given) or "no label",
        "likely": ", ".join(one.likely) or "no label",
        "probability": one.probability,
        "texts": [text_safe(text, _EXAMPLE_CHARS) for text in texts],
    }
