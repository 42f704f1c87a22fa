"""The picture of a comparison of tunings: quality against trained weights, and against time.

In: choices. Out: one SVG of two panels. Invariant: a bar is what the table says: the range of the seeds, or the interval over
items.
"""

from collections.abc import Sequence

from tasks.evaluation.choices import Choice
from tasks.evaluation.label_plots import as_svg, style, without_formulas

_MARKERS = "osD^vPX*<>d"  # eleven: beside ten or twenty colours no pair comes twice


def draw_tunings(choices: Sequence[Choice], criterion: str) -> str:
    """Returns the picture."""
    with style():
        return _quality(choices, criterion)


def _quality(choices: Sequence[Choice], criterion: str) -> str:
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    colors = colormaps["tab10" if len(choices) <= 10 else "tab20"]
    figure = Figure(figsize=(10, 4.4), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for number, choice in enumerate(choices):
        row, marker = choice.row(), _MARKERS[number % len(_MARKERS)]
        # Percentiles may leave the figure itself out, of a few items; a bar has no length below 0.
        bars = [[max(0.0, row.figure.mean - row.figure.low)], [max(0.0, row.figure.high - row.figure.mean)]]
        style = {"fmt": marker, "color": colors(number % colors.N), "capsize": 3, "label": without_formulas(choice.label)}
        for axes, place in zip(panels, (row.num_trained_parameters, row.seconds), strict=True):
            axes.errorbar(place, row.figure.mean, yerr=bars, **style)
    panels[0].set(xscale="log", xlabel="weights trained")
    panels[1].set(xlabel="seconds of training", xlim=(0, None))
    for axes in panels:
        axes.grid(alpha=0.25)
    panels[0].set_ylabel(f"{criterion} on validation")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right center", frameon=False, fontsize=8)
    return as_svg(figure)
