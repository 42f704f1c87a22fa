"""Reliability: whether a score of 0.8 means four in five, measured on examples that trained nothing.

In: scores and what is true of each. Out: bins, their expected error, the area under the ROC curve, and one plot. Invariant: bins
are of equal width; an empty one says nothing and counts nothing.

Expected calibration error (Naeini et al. 2015): the mean distance of score and truth over bins, weighted by their documents.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

_NUM_BINS = 10
_COLOURS = {"zh": "#c2503b", "en": "#3b6fd4"}


@dataclass(frozen=True, slots=True)
class Bin:
    """Scores of one tenth: their mean, the share that are true, how many there are."""

    score: float
    share: float
    count: int


def bins_of(scores: Sequence[float], truth: Sequence[bool]) -> list[Bin]:
    """Returns the bins that hold something, lowest first."""
    found, right = np.asarray(scores, dtype=float), np.asarray(truth, dtype=float)
    places = np.minimum((found * _NUM_BINS).astype(int), _NUM_BINS - 1)
    return [
        Bin(float(found[own].mean()), float(right[own].mean()), int(own.sum()))
        for own in (places == place for place in np.unique(places))
    ]


def calibration_error(bins: Sequence[Bin]) -> float:
    """Returns the expected calibration error."""
    total = sum(one.count for one in bins)
    return sum(one.count * abs(one.score - one.share) for one in bins) / max(1, total)


def area_under_curve(scores: Sequence[float], truth: Sequence[bool]) -> float:
    """Returns the chance that a true example scores above a false one; ties are a half."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(truth, scores))


def draw(languages: Mapping[str, tuple[Sequence[Bin], Sequence[float]]], target: Path) -> None:
    """Draws the reliability diagram of each language (its bins) and how the scores of its documents lie."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4.2), layout="constrained")
    diagram, spread = figure.subplots(1, 2)
    diagram.plot([0, 1], [0, 1], color="#9aa3b2", linewidth=1, linestyle="--", label="perfect")
    for lang, (bins, scores) in languages.items():
        colour = _COLOURS.get(lang, "#7a8699")
        size = [20 + 120 * one.count / max(1, sum(each.count for each in bins)) for one in bins]
        diagram.plot([one.score for one in bins], [one.share for one in bins], color=colour, label=lang)
        diagram.scatter([one.score for one in bins], [one.share for one in bins], s=size, color=colour)
        spread.hist(scores, bins=20, range=(0, 1), color=colour, alpha=0.6, label=f"{lang}, {len(scores):,} documents")
    diagram.set(xlabel="score", ylabel="share of good examples", title="held-out examples", xlim=(0, 1), ylim=(0, 1))
    spread.set(xlabel="score", ylabel="documents", title="scores of the corpus", xlim=(0, 1))
    for axes in (diagram, spread):
        axes.grid(alpha=0.25)
        axes.legend(frameon=False)
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, format="svg", metadata={"Date": None})
