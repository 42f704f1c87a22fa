"""Folds: items dealt out so that each fold has about as much of every label, and a group lies in one fold.

In: the group and the labels of each item. Out: the fold of each item. Invariants: the same for equal seeds; groups are dealt
largest first, each to the fold that then has labels most like the whole (after scikit-learn's StratifiedGroupKFold).
"""

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tasks.core.errors import RecipeError


def deal_out(groups: Sequence[str], labels: Sequence[Sequence[str]], num_folds: int, seed: int) -> NDArray[np.int64]:
    """Returns the fold (N,) of each item.

    Args:
        groups: Group of each item.
        labels: Labels of each item; of a regression one that stands for where its value lies, see `value_strata`.
        num_folds: How many.
        seed: Seed of the order of groups of one size.

    Raises:
        RecipeError: There are fewer groups than folds.
    """
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for group, own in zip(groups, labels, strict=True):
        counts[group].update(own)
        counts[group][""] += 1  # items without a label count too
    if len(counts) < num_folds:
        raise RecipeError(
            f"tune.num_folds is {num_folds}, but the training items are {len(counts)} groups; set {len(counts)} or less"
        )
    names = sorted({name for one in counts.values() for name in one})
    drawn = np.random.default_rng(seed).permutation(sorted(counts)).tolist()
    order = sorted(drawn, key=lambda group: -counts[group][""])
    table = {group: np.array([counts[group][name] for name in names], dtype=np.float64) for group in order}
    whole = np.maximum(1.0, np.sum(list(table.values()), axis=0))
    held, fold_of = np.zeros((num_folds, len(names))), {}
    for group in order:
        shares = (held[None] + np.eye(num_folds)[:, :, None] * table[group]) / whole  # (fold it goes to, fold, label)
        fold_of[group] = int(np.lexsort((held.sum(axis=1), shares.std(axis=1).mean(axis=1).round(12)))[0])
        held[fold_of[group]] += table[group]
    return np.array([fold_of[group] for group in groups], dtype=np.int64)


def value_strata(values: Sequence[float], num_strata: int = 5) -> list[tuple[str]]:
    """Returns the quantile that each value lies in, as a label."""
    edges = np.quantile(values, np.linspace(0, 1, num_strata + 1)[1:-1])
    return [(str(number),) for number in np.searchsorted(edges, values, side="right")]


def mean_and_spread(figures: Sequence[dict[str, float]]) -> dict[str, float]:
    """Returns `folds/<name>` and `folds/<name>_spread` for each figure: its mean over the folds, and their standard deviation."""
    found: dict[str, float] = {}
    for name in figures[0]:
        values = np.array([one[name] for one in figures])
        found |= {f"folds/{name}": float(values.mean()), f"folds/{name}_spread": float(values.std(ddof=1))}
    return found
