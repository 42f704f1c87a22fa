"""The evaluation page: one self-contained HTML file, no script, no address outside of it.

In: scores and paired differences. Out: HTML. Invariant: every text of a model or a corpus is escaped and cleaned.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.contracts import Interval, Scores
from tasks.core.tables import read_rows
from tasks.core.text import text_safe
from tasks.evaluation.metrics import METRICS, metric_named
from tasks.evaluation.specs import CompareSpec

_MAX_CHARS = 2_000


@dataclass(frozen=True, slots=True)
class Bar:
    """A paired difference, placed on an axis from 0 to 100.

    Attributes:
        verdict: `better`, `worse`, or `unclear` where 0 lies in the interval.
    """

    label: str
    interval: Interval
    left: float
    width: float
    mean: float
    zero: float
    verdict: str


def render_page(
    spec: CompareSpec, models: Sequence[Scores], metrics: dict[str, Interval], differences: dict[str, Interval]
) -> str:
    """Renders the page."""
    roles = [scores.role for scores in models]
    page = render(
        "page.html.jinja",
        _MAX_CHARS,
        roles=roles,
        digests={scores.role: (scores.model_digest or "")[:12] for scores in models},
        rows=[
            (title_of(name), metric_named(name), [metrics.get(f"{role}/{name}") for role in roles]) for name in _names(metrics)
        ],
        bars=[bar(name, differences[name]) for name in differences],
        prompts=_side_by_side([_read_samples(scores) for scores in models], "prompt"),
        items=_side_by_side([_read_items(scores, spec.num_samples) for scores in models], "id"),
        refused={scores.role: _refused(scores) for scores in models},
        confidence=spec.bootstrap.confidence,
    )
    return page.rstrip("\n")


def render(template: str, max_chars: int, **values: Any) -> str:
    """Renders one of the evaluation pages, with a filter that cleans texts and cuts them at `max_chars`."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["safe_text"] = lambda text: text_safe(text, max_chars)
    page: str = environment.get_template(template).render(values)
    return page


def title_of(name: str) -> str:
    """Returns what a metric is called, with its language where it has one."""
    metric = metric_named(name)
    return metric.title if name == metric.name else f"{metric.title}, {name.rpartition('/')[2]}"


def _names(metrics: dict[str, Interval]) -> list[str]:
    names = {name.partition("/")[2] for name in metrics}
    return sorted(names, key=lambda name: (METRICS.index(metric_named(name)), name))


def bar(name: str, interval: Interval) -> Bar:
    """Returns a difference as a bar on an axis that holds it and 0."""
    role, _, metric_name = name.partition("/")
    metric = metric_named(metric_name)
    return placed(f"{title_of(metric_name)}: tuned - {role}, {metric.unit}", interval, metric.lower_is_better)


def placed(label: str, interval: Interval, lower_is_better: bool) -> Bar:
    """Returns an interval as a bar on an axis that holds it and 0."""
    low, high = min(interval.low, 0.0), max(interval.high, 0.0)
    room = 0.06 * (high - low) or 1.0
    start, span = low - room, high - low + 2 * room

    def place(value: float) -> float:
        return round(100 * (value - start) / span, 2)

    is_lower, is_higher = interval.high < 0, interval.low > 0
    better, worse = (is_lower, is_higher) if lower_is_better else (is_higher, is_lower)
    verdict = "better" if better else "worse" if worse else "unclear"
    left = place(interval.low)
    return Bar(label, interval, left, max(0.6, place(interval.high) - left), place(interval.mean), place(0.0), verdict)


def _read_samples(scores: Scores) -> list[dict[str, Any]]:
    return list(_document(scores)["samples"])


def _refused(scores: Scores) -> dict[str, int]:
    return dict(_document(scores)["refused"])


def _document(scores: Scores) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((scores.path / "samples.json").read_text(encoding="utf-8"))
    return found


def _read_items(scores: Scores, num_items: int) -> list[dict[str, Any]]:
    """Returns items spread evenly over the table, the same ones for each model."""
    rows = list(read_rows(scores.path / "items.parquet", ("id", "prompt", "reference", "answer", "is_matched")))
    step = max(1, len(rows) // max(1, num_items))
    return rows[::step][:num_items]


def _side_by_side(models: Sequence[Iterable[dict[str, Any]]], key: str) -> list[list[dict[str, Any] | None]]:
    """Returns, for each row of the first model, the rows of all models with the same key."""
    tables = [{row[key]: row for row in rows} for rows in models]
    return [[table.get(name) for table in tables] for name in (tables[0] if tables else ())]
