"""Figures of labelled text as functions of sums over items, so that batches, processes and resamples can share them.

In: what was predicted and what is true. Out: one row of sums an item, and figures of any sum of such rows. Invariants: every
figure is defined where its formula has a zero below: 0, or for a correlation with a constant, 0; nothing here imports torch.

Shapes: N items, M words of all items, K labels, C = 2 + 3 K and R = 6 sums; a figure takes (..., C) or (..., R).
"""

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]


def class_sums(predicted_NK: NDArray[np.bool_], true_NK: NDArray[np.bool_]) -> Numbers:
    """Returns (N, C): 1, whether all labels are right, and by label whether it is right, said, and true."""
    exact_N = (predicted_NK == true_NK).all(axis=1)
    parts = [np.ones((len(exact_N), 1)), exact_N[:, None], predicted_NK & true_NK, predicted_NK, true_NK]
    return np.concatenate([np.asarray(part, dtype=np.float64) for part in parts], axis=1)


def one_hot(numbers_N: NDArray[np.int64], num_labels: int) -> NDArray[np.bool_]:
    """Returns (N, K): true at the number of each row."""
    return np.asarray(numbers_N[:, None] == np.arange(num_labels))


def summed_by(owners_M: NDArray[np.int64], sums_MC: Numbers, num_items: int) -> Numbers:
    """Returns (N, C): the sums of the words of each item."""
    found = np.zeros((num_items, sums_MC.shape[1]))
    np.add.at(found, owners_M, sums_MC)
    return found


def value_sums(predicted_N: Numbers, true_N: Numbers) -> Numbers:
    """Returns (N, R): 1, x, y, xx, yy, xy of predicted x and true y."""
    x, y = np.asarray(predicted_N, dtype=np.float64), np.asarray(true_N, dtype=np.float64)
    return np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], axis=-1)


def divided(above: Numbers, below: Numbers) -> Numbers:
    """Returns above / below, and 0 where there is nothing below."""
    return np.divide(above, below, out=np.zeros(np.broadcast(above, below).shape), where=below > 0)


def _by_label(sums: Numbers) -> tuple[Numbers, Numbers, Numbers]:
    hit, said, true = np.split(sums[..., 2:], 3, axis=-1)
    return hit, said, true


def accuracy(sums: Numbers) -> Numbers:
    """Returns the share of items, or words, of which every label is right."""
    return divided(sums[..., 1], sums[..., 0])


def macro_f1(sums: Numbers, whole: Numbers | None = None) -> Numbers:
    """Returns the mean over labels of 2 TP / (2 TP + FP + FN); a label neither said nor true counts as 0, as in scikit-learn.

    Args:
        whole: Sums (C,) of all items, where `sums` are of resamples: a label that chance alone left out of a resample is left out
            of its mean, or every resample of rare labels would fall below the figure itself.
    """
    (hit, said, true), (_, ever_said, ever_true) = _by_label(sums), _by_label(sums if whole is None else whole)
    counts = (said + true > 0) | (ever_said + ever_true == 0)
    return divided(divided(2 * hit, said + true).sum(axis=-1), counts.sum(axis=-1).astype(np.float64))


def micro_f1(sums: Numbers) -> Numbers:
    """Returns 2 TP / (2 TP + FP + FN) over all labels together."""
    hit, said, true = (part.sum(axis=-1) for part in _by_label(sums))
    return divided(2 * hit, said + true)


def f1(sums: Numbers) -> Numbers:
    """Returns 2 TP / (2 TP + FP + FN) of the last label alone: of two classes, the F1 of the second one, as GLUE has it."""
    hit, said, true = (part[..., -1] for part in _by_label(sums))
    return divided(2 * hit, said + true)


def mcc(sums: Numbers) -> Numbers:
    """Returns Matthews' correlation for K classes (Gorodkin, 2004); 0 where all is said, or true, of one class."""
    hit, said, true = _by_label(sums)
    number = sums[..., 0]
    covariance = hit.sum(axis=-1) * number - (said * true).sum(axis=-1)
    spread = (number**2 - (said**2).sum(axis=-1)) * (number**2 - (true**2).sum(axis=-1))
    return divided(covariance, np.sqrt(np.maximum(spread, 0.0)))


def pearson(sums: Numbers) -> Numbers:
    """Returns the correlation of predicted and true values."""
    number, x, y, xx, yy, xy = np.moveaxis(sums, -1, 0)
    spread_x, spread_y = number * xx - x * x, number * yy - y * y
    # A constant leaves rounding behind, not 0.
    is_spread = (spread_x > 1e-12 * number * xx) & (spread_y > 1e-12 * number * yy)
    return divided(number * xy - x * y, np.sqrt(np.where(is_spread, spread_x * spread_y, 0.0)))


def rmse(sums: Numbers) -> Numbers:
    """Returns the root of the mean squared difference, in units of the values."""
    number, _, _, xx, yy, xy = np.moveaxis(sums, -1, 0)
    return np.sqrt(np.maximum(divided(xx + yy - 2 * xy, number), 0.0))
