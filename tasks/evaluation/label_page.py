"""The evaluation page of labelled text: one self-contained HTML file, no script, no address outside of it.

In: scores, predictions, paired differences. Out: HTML. Invariant: every text of a data set is escaped and cleaned.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from tasks.contracts import Interval, Role, Scores
from tasks.evaluation.label_metrics import metric_named
from tasks.evaluation.label_plots import draw_labels
from tasks.evaluation.label_specs import CompareLabelsSpec
from tasks.evaluation.label_tables import Predictions
from tasks.evaluation.page import Bar, placed, render

_MAX_CHARS = 300


def render_label_page(
    spec: CompareLabelsSpec,
    models: Sequence[Scores],
    said: Mapping[Role, Predictions],
    metrics: dict[str, Interval],
    differences: dict[str, Interval],
) -> str:
    """Renders the page."""
    roles = [scores.role for scores in models]
    tuned = said["tuned"]
    return render(
        "label_page.html.jinja",
        _MAX_CHARS,
        task=tuned.task.replace("_", " "),
        num_items=len(tuned.ids),
        roles=roles,
        digests={scores.role: (scores.model_digest or "")[:12] for scores in models},
        rows=[
            (metric_named(name), name.partition("/")[2], [metrics.get(f"{role}/{name}") for role in roles])
            for name in (key.removeprefix("tuned/") for key in metrics if key.startswith("tuned/"))
        ],
        bars=[_bar(name, interval) for name, interval in differences.items()],
        plots=[plot for role in roles if (plot := draw_labels(said[role], role))],
        wrong=_wrong(tuned, spec.num_samples),
        confidence=spec.bootstrap.confidence,
    )


def _bar(name: str, interval: Interval) -> Bar:
    role, _, metric_name = name.partition("/")
    metric = metric_named(metric_name)
    of = metric_name.partition("/")[2]
    return placed(
        f"{metric.title}{f' ({of})' if of else ''}: tuned - {role}{', ' if metric.unit else ''}{metric.unit}",
        interval,
        metric.lower_is_better,
    )


def _wrong(found: Predictions, count: int) -> list[dict[str, Any]]:
    """Returns items the tuned model gets wrong, those it was surest of first; of a regression those furthest off."""
    if found.task == "regression":
        off = abs(found.said_value - found.true_value)
        order = sorted(range(len(found.ids)), key=lambda row: -off[row])
    else:
        missed = [row for row in range(len(found.ids)) if found.said[row] != found.truth[row]]
        order = sorted(missed, key=lambda row: -max(found.scores[row], default=0.0))
    return [
        {"id": found.ids[row], "truth": _shown(found, row, "true"), "said": _shown(found, row, "said")} for row in order[:count]
    ]


def _shown(found: Predictions, row: int, which: str) -> str:
    if found.task == "regression":
        return f"{float((found.true_value if which == 'true' else found.said_value)[row]):.3f}"
    labels = found.truth[row] if which == "true" else found.said[row]
    score = f" ({max(found.scores[row]):.2f})" if which == "said" and found.task == "classification" else ""
    return (", ".join(label or "-" for label in labels) or "none") + score
