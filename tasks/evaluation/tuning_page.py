"""The page of a comparison of tunings: one self-contained HTML file, no script, no address outside of it.

In: choices, the chosen run, the picture. Out: HTML. Invariant: every setting of a recipe is escaped and cleaned.
"""

from collections.abc import Sequence

from tasks.evaluation import label_metrics
from tasks.evaluation.choices import Choice, Run
from tasks.evaluation.page import render, title_of

_MAX_CHARS = 300


def render_tuning_page(choices: Sequence[Choice], chosen: Run, criterion: str, picture: str) -> str:
    """Renders the page."""
    return render(
        "tuning_page.html.jinja",
        _MAX_CHARS,
        roles=(),
        criterion=criterion,
        num_runs=sum(len(choice.runs) for choice in choices),
        names=list(choices[0].settings),
        rows=[choice.row() for choice in choices],
        chosen=chosen,
        test=[(_title(name), interval) for name, interval in chosen.summary.test.items()],
        picture=picture,
    )


def _title(name: str) -> str:
    """Returns what a metric of labelled text, or of answers, is called; what follows a slash is a part of the items."""
    plain, _, part = name.partition("/")
    of_labels = {metric.name: metric.title for metric in label_metrics.METRICS}
    if plain in of_labels:
        return of_labels[plain] + (f", {part}" if part else "")
    return title_of(name)
