"""Diversity of a token stream: distinct n-grams, growth of the vocabulary, entropy over sources; and the mixture on a plot.

In: token ids, tokens by source. Out: figures and an SVG. Invariant: streams are compared at equal length, since all of these
figures hang on it.

Distinct-n: different n-grams a token of the stream (Li et al. 2016). Growth: Heaps' law. Entropy: Shannon's, in bits.
"""

from collections.abc import Mapping
from math import log2
from pathlib import Path

import numpy as np

from tasks.core.shards import Tokens

_LENGTHS = (1, 2, 3)
_SPREAD = np.uint64(0x9E3779B97F4A7C15)
_NUM_POINTS = 40

Curve = list[tuple[int, int]]


def diversity(stream: Tokens) -> dict[str, float]:
    """Returns the share of n-grams of the stream that are different ones, for each length."""
    return {f"distinct_{n}": round(_distinct(stream, n) / max(1, len(stream) - n + 1), 6) for n in _LENGTHS}


def _distinct(stream: Tokens, n: int) -> int:
    numbers = np.zeros(max(0, len(stream) - n + 1), dtype=np.uint64)
    for place in range(n):
        numbers = numbers * _SPREAD + stream[place : len(stream) - n + 1 + place].astype(np.uint64)
    return len(np.unique(numbers))


def growth(stream: Tokens) -> Curve:
    """Returns (tokens read, different tokens seen) at points that lie evenly on a logarithmic axis."""
    first = np.sort(np.unique(stream, return_index=True)[1])
    points = np.unique(np.geomspace(1, max(1, len(stream)), _NUM_POINTS).astype(int))
    return [(int(point), int(np.searchsorted(first, point))) for point in points]


def source_entropy(tokens: Mapping[str, int]) -> float:
    """Returns the entropy of the sources of a token, in bits: 0 for one source, log2(k) for k equal ones."""
    total = sum(tokens.values())
    return sum(-count / total * log2(count / total) for count in tokens.values() if count)


def draw_mixture(figures: Mapping[str, float], curves: Mapping[str, Curve], target: Path) -> None:
    """Draws the shares before, asked for and reached, and how the vocabulary grows before and after."""
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(key.rsplit("/", 1)[0] for key in figures))
    figure = Figure(figsize=(10, 1.8 + 0.55 * max(4, len(names))), layout="constrained")
    bars, curve = figure.subplots(1, 2)
    for number, (what, colour) in enumerate((("share_before", "#c4cad4"), ("share_asked", "#e3b261"), ("share", "#3b6fd4"))):
        places = [place + 0.27 * (number - 1) for place in range(len(names))]
        bars.barh(places, [100 * figures[f"{name}/{what}"] for name in names], 0.25, color=colour, label=what.replace("_", " "))
    labels = [f"{name}\n{figures[f'{name}/epochs']:.2f} epochs" for name in names]
    bars.set_yticks(range(len(names)), labels)
    bars.invert_yaxis()
    bars.set(xlabel="% of the training tokens", title="mixture")
    for name, points in curves.items():
        curve.plot(*zip(*points, strict=True), label=name, color="#c4cad4" if name == "before" else "#3b6fd4")
    curve.set(xscale="log", yscale="log", xlabel="tokens read", ylabel="different tokens", title="growth of the vocabulary")
    for axes in (bars, curve):
        axes.grid(alpha=0.25)
        axes.legend(frameon=False)
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, format="svg", metadata={"Date": None})
