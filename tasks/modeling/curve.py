"""The learning curve: training and validation loss on one plot.

In: `metrics.jsonl`, levels to compare with. Out: an SVG, with the parts of a loss that has parts, and the utilisation of the
device where it was measured. Invariant: it draws what was recorded and computes nothing.
"""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tasks.modeling.records import read_records

_FEW = 60  # more points than this are drawn as a line without marks
_COLORS = {"train_loss": "#9db4c8", "validation_loss": "#b3431e"}
_OTHER_COLORS = ("#b7cfae", "#d7bfa0", "#5b8a4a", "#a5712b")


def draw_curve(records_file: Path, target: Path, title: str, levels: Mapping[str, float]) -> None:
    """Draws the losses of each step and of each look at the validation split, and a line across for each level."""
    from matplotlib.figure import Figure

    records, others = read_records(records_file), itertools.cycle(_OTHER_COLORS)
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    for name in sorted({name for record in records for name in record if name.endswith("_loss")}):
        points = _points(records, name)
        mark = "o" if name.startswith("validation") and len(points) <= _FEW else None
        color = _COLORS[name] if name in _COLORS else next(others)
        axes.plot(*zip(*points, strict=True), color=color, marker=mark, markersize=4, label=name.replace("_", " "))
    for (name, value), style in zip(levels.items(), ("--", ":", "-.", "-"), strict=False):
        axes.axhline(value, color="#7a7a7a", linestyle=style, linewidth=1, label=f"{name} {value:.2f}")
    axes.set(xlabel="step", ylabel="cross entropy, nats a token", title=title)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    if utilisation := _points(records, "mfu"):
        _draw_utilisation(axes.twinx(), utilisation)
    figure.savefig(target, format="svg", metadata={"Date": None})


def _points(records: Sequence[Mapping[str, float]], name: str) -> list[tuple[float, float]]:
    return [(record["step"], record[name]) for record in records if name in record]


def _draw_utilisation(axes: Any, points: Sequence[tuple[float, float]]) -> None:
    axes.plot(*zip(*points, strict=True), color="#c9c2d8", linewidth=0.6, zorder=0)
    axes.set(ylabel="model FLOPs utilisation", ylim=(0, max(1.0, *(value for _, value in points))))
