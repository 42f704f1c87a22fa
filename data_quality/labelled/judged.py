"""What a model of the other items says of an item.

In: features, given labels, folds. Out: probabilities. Invariant: a label that a model never saw is not judged by it.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.core.tables import Row

NUM_FEATURES = 2**16
STRENGTH = 10.0  # inverse of the regularisation: with 1 the model is sure of nothing
DIGITS = 6


@dataclass(frozen=True, slots=True)
class Judged:
    """What the model says of an item, or of a word of it.

    Attributes:
        item: The item's row.
        given: Label, labels, tagged word or score it came with.
        probability: Of what was given; of many labels the least: of one given, or of leaving one out; of a score that of being so
            far off either way.
        likely: What the model would give.
    """

    item: Row
    given: tuple[str, ...]
    probability: float
    likely: tuple[str, ...]


def out_of_fold(features: Any, given: NDArray[np.int64], folds: NDArray[np.int64], num_classes: int) -> NDArray[np.float64]:
    """Returns the probability of each class for each item, from a model of the other folds; NaN where it never saw the class."""
    from sklearn.linear_model import LogisticRegression

    shares = np.full((len(given), num_classes), np.nan)
    for fold in np.unique(folds):
        rest, own = folds != fold, folds == fold
        if len(np.unique(given[rest])) > 1:
            model = LogisticRegression(C=STRENGTH, class_weight="balanced", tol=1e-3).fit(features[rest], given[rest])
            shares[np.ix_(own, model.classes_)] = model.predict_proba(features[own])
    return shares
