"""The learning curve: training and validation loss on one plot.

In: `metrics.jsonl`, levels to compare with. Out: an SVG. Invariant: it draws what was recorded and computes nothing.
"""

from collections.abc import Mapping
from pathlib import Path

from tasks.modeling.records import read_records

_FEW = 60  # more points than this are drawn as a line without marks


def draw_curve(records_file: Path, target: Path, title: str, levels: Mapping[str, float]) -> None:
    """Draws the loss of each step and of each look at the validation split, and a line across for each level."""
    from matplotlib.figure import Figure

    records = read_records(records_file)
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    for name, color, marker in (("train_loss", "#9db4c8", None), ("validation_loss", "#b3431e", "o")):
        points = [(record["step"], record[name]) for record in records if name in record]
        mark = marker if len(points) <= _FEW else None
        if points:
            axes.plot(*zip(*points, strict=True), color=color, marker=mark, markersize=4, label=name.replace("_", " "))
    for (name, value), style in zip(levels.items(), ("--", ":", "-.", "-"), strict=False):
        axes.axhline(value, color="#7a7a7a", linestyle=style, linewidth=1, label=f"{name} {value:.2f}")
    axes.set(xlabel="step", ylabel="cross entropy, nats a token", title=title)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    figure.savefig(target, format="svg", metadata={"Date": None})
