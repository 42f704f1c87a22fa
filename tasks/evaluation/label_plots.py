"""Pictures for the evaluation page of labelled text: who is taken for whom, and how far off values are.

In: predictions of test items. Out: SVG, letters as outlines, so that Chinese shows anywhere. Invariant: it draws what was said
and computes counts only.
"""

import io
import re
from collections import Counter
from contextlib import AbstractContextManager

from tasks.evaluation.label_tables import Predictions

_MOST_LABELS = 30
_FONTS = ("Noto Sans CJK SC", "Noto Sans CJK JP", "WenQuanYi Zen Hei", "DejaVu Sans")  # the last comes with matplotlib


def draw_labels(found: Predictions, title: str) -> str:
    """Returns the picture of a task; none where it has none (many labels an item), or too many labels."""
    if found.task == "multi_label" or len(found.label_names) > _MOST_LABELS:
        return ""
    with style():
        return _residuals(found, title) if found.task == "regression" else _confusion(found, title)


def _confusion(found: Predictions, title: str) -> str:
    from matplotlib.figure import Figure

    names = found.label_names
    shown = [without_formulas(name) for name in names]
    counts = Counter(pair for truth, said in zip(found.truth, found.said, strict=True) for pair in zip(truth, said, strict=True))
    table = [[counts[(true, said)] for said in names] for true in names]
    shares = [[count / max(1, sum(row)) for count in row] for row in table]
    size = max(3.2, 0.5 * len(names) + 1.8)
    figure = Figure(figsize=(size, size), layout="constrained")
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, line in enumerate(table):
        for column, count in enumerate(line):
            color = "white" if shares[row][column] > 0.5 else "black"
            axes.text(column, row, str(count), ha="center", va="center", color=color, fontsize=8)
    axes.set_xticks(range(len(names)), shown, rotation=90 if len(names) > 4 else 0)
    axes.set_yticks(range(len(names)), shown)
    axes.set(xlabel="said", ylabel="true", title=title)
    return as_svg(figure)


def _residuals(found: Predictions, title: str) -> str:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.5, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.scatter(found.true_value, found.said_value - found.true_value, s=8, alpha=0.4, color="#3b6ea5", linewidths=0)
    axes.axhline(0, color="#7a7a7a", linewidth=1)
    axes.set(xlabel="true value", ylabel="said - true", title=title)
    axes.grid(alpha=0.25)
    return as_svg(figure)


def style() -> AbstractContextManager[None]:
    """Holds while a picture is made and written: a text takes its font when it is made."""
    from matplotlib import font_manager, rc_context

    there = set(font_manager.get_font_names())
    fonts = [name for name in _FONTS if name in there]
    return rc_context({"font.family": fonts, "svg.fonttype": "path", "svg.hashsalt": "textmill"})


def without_formulas(text: str) -> str:
    """Returns a text whose $ is a dollar, where matplotlib would begin a formula."""
    return text.replace("$", r"\$")


def as_svg(figure: object) -> str:
    """Returns the picture, made inside `style`, as an element to stand inside a page."""
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None})  # type: ignore[attr-defined]
    text = out.getvalue()
    return re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
