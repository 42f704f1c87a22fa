"""Suspects: given labels that a simple model, trained on the other items, finds improbable.

In: items with labels. Out: for each item that can be judged, the probability of what it was given and what the model would say.
Invariants: an item is judged by a model that saw nothing of its group; a label the model never saw is not judged; the same
items give the same figures.

Out-of-fold probabilities as in Northcutt et al. 2021 (arXiv 1911.00068); the model is logistic regression over hashed character
n-grams, weighted by tf-idf, which reads Chinese and English alike.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_quality.labelled.suites import SuspectsSpec
from tasks.contracts import LabelledTask
from tasks.core.tables import Row

_NGRAM_CHARS = (1, 3)
_NUM_FEATURES = 2**16
_STRENGTH = 10.0  # inverse of the regularisation: with 1 the model is sure of nothing
_DIGITS = 6


@dataclass(frozen=True, slots=True)
class Judged:
    """What the model says of an item.

    Attributes:
        item: The item's row.
        probability: Of the given label; of many labels the least: of one given, or of leaving one out.
        likely: Label, or labels, the model would give.
    """

    item: Row
    probability: float
    likely: tuple[str, ...]


def judge(items: Sequence[Row], task: LabelledTask, names: Sequence[str], spec: SuspectsSpec) -> list[Judged]:
    """Returns what can be said of the items, least probable first."""
    drawn = sorted(items, key=lambda item: sha256(item["id"].encode("utf-8")).digest())[: spec.max_items]
    features = _features([_input(item)[: spec.max_chars] for item in drawn])
    folds = np.array([int.from_bytes(sha256(item["group"].encode("utf-8")).digest()[:4], "big") % spec.folds for item in drawn])
    judged = _labels if task == "multi_label" else _classes
    return sorted(judged(drawn, names, features, folds), key=lambda one: (one.probability, one.item["id"]))


def _input(item: Row) -> str:
    return item["text"] if item["text_pair"] is None else f"{item['text']}\n{item['text_pair']}"


def _features(texts: Sequence[str]) -> Any:
    from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer

    hashed = HashingVectorizer(
        analyzer="char", ngram_range=_NGRAM_CHARS, n_features=_NUM_FEATURES, alternate_sign=False, norm=None
    )
    return TfidfTransformer(sublinear_tf=True).fit_transform(hashed.transform(texts))


def _classes(items: Sequence[Row], names: Sequence[str], features: Any, folds: NDArray[np.int64]) -> Iterator[Judged]:
    given = np.array([names.index(item["labels"][0]) for item in items])
    shares = _out_of_fold(features, given, folds, len(names))
    for item, number, row in zip(items, given, shares, strict=True):
        if row[number] == row[number]:
            yield Judged(item, round(float(row[number]), _DIGITS), (names[int(np.nanargmax(row))],))


def _labels(items: Sequence[Row], names: Sequence[str], features: Any, folds: NDArray[np.int64]) -> Iterator[Judged]:
    is_given = np.array([[name in item["labels"] for name in names] for item in items])
    shares = [_out_of_fold(features, column.astype(int), folds, 2)[:, 1] for column in is_given.T]
    has_label = np.stack(shares, axis=1)
    probability = np.where(is_given, has_label, 1 - has_label)
    for item, given, row in zip(items, probability, has_label, strict=True):
        if not np.isnan(given).all():
            likely = tuple(name for name, share in zip(names, row, strict=True) if share > 0.5)
            yield Judged(item, round(float(np.nanmin(given)), _DIGITS), likely)


def _out_of_fold(features: Any, given: NDArray[np.int64], folds: NDArray[np.int64], num_classes: int) -> NDArray[np.float64]:
    """Returns the probability of each class for each item, from a model of the other folds; NaN where it never saw the class."""
    from sklearn.linear_model import LogisticRegression

    shares = np.full((len(given), num_classes), np.nan)
    for fold in np.unique(folds):
        rest, own = folds != fold, folds == fold
        if len(np.unique(given[rest])) > 1:
            model = LogisticRegression(C=_STRENGTH, class_weight="balanced", tol=1e-3).fit(features[rest], given[rest])
            shares[np.ix_(own, model.classes_)] = model.predict_proba(features[own])
    return shares
