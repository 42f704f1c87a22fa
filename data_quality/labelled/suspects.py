"""Suspects: given labels that a simple model, trained on the other items, finds improbable.

In: items with labels. Out: for each item that can be judged, the probability of what it was given and what the model would say.
Invariants: an item is judged by a model that saw nothing of its group; a label the model never saw is not judged; the same
items give the same figures.

Out-of-fold probabilities as in Northcutt et al. 2021 (arXiv 1911.00068); the model is logistic regression (of scores, ridge
regression) over hashed character n-grams, weighted by tf-idf, which reads Chinese and English alike. Words: see `words`.
"""

from collections.abc import Iterator, Sequence
from hashlib import sha256
from math import erfc, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_quality.labelled.judged import DIGITS, NUM_FEATURES, Judged, out_of_fold
from data_quality.labelled.suites import SuspectsSpec
from data_quality.labelled.words import judge_words
from tasks.contracts import LabelledTask
from tasks.core.tables import Row

_NGRAM_CHARS = (1, 3)


def judge(items: Sequence[Row], task: LabelledTask, names: Sequence[str], spec: SuspectsSpec) -> list[Judged]:
    """Returns what can be said of the items, or of their words, least probable first."""
    drawn = _drawn(items, task, spec)
    folds = np.array([int.from_bytes(sha256(item["group"].encode("utf-8")).digest()[:4], "big") % spec.folds for item in drawn])
    if task == "token_classification":
        found = judge_words(drawn, names, folds)
    else:
        features = _features([_input(item)[: spec.max_chars] for item in drawn])
        found = _scores(drawn, features, folds) if task == "regression" else _texts(drawn, task, names, features, folds)
    return sorted(found, key=lambda one: (one.probability, one.item["id"]))


def _drawn(items: Sequence[Row], task: LabelledTask, spec: SuspectsSpec) -> list[Row]:
    """Returns the items that are judged: so many, or those with so many words."""
    ordered = sorted(items, key=lambda item: sha256(item["id"].encode("utf-8")).digest())
    if task != "token_classification":
        return ordered[: spec.max_items]
    ends = np.cumsum([len(item["words"]) for item in ordered])
    return ordered[: max(1, int(np.searchsorted(ends, spec.max_items, side="right")))]


def _input(item: Row) -> str:
    return item["text"] if item["text_pair"] is None else f"{item['text']}\n{item['text_pair']}"


def _features(texts: Sequence[str]) -> Any:
    from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer

    hashed = HashingVectorizer(
        analyzer="char", ngram_range=_NGRAM_CHARS, n_features=NUM_FEATURES, alternate_sign=False, norm=None
    )
    return TfidfTransformer(sublinear_tf=True).fit_transform(hashed.transform(texts))


def _texts(
    items: Sequence[Row], task: LabelledTask, names: Sequence[str], features: Any, folds: NDArray[np.int64]
) -> Iterator[Judged]:
    return (_labels if task == "multi_label" else _classes)(items, names, features, folds)


def _classes(items: Sequence[Row], names: Sequence[str], features: Any, folds: NDArray[np.int64]) -> Iterator[Judged]:
    given = np.array([names.index(item["labels"][0]) for item in items])
    shares = out_of_fold(features, given, folds, len(names))
    for item, number, row in zip(items, given, shares, strict=True):
        if row[number] == row[number]:
            yield Judged(item, (names[number],), round(float(row[number]), DIGITS), (names[int(np.nanargmax(row))],))


def _labels(items: Sequence[Row], names: Sequence[str], features: Any, folds: NDArray[np.int64]) -> Iterator[Judged]:
    is_given = np.array([[name in item["labels"] for name in names] for item in items])
    shares = [out_of_fold(features, column.astype(int), folds, 2)[:, 1] for column in is_given.T]
    has_label = np.stack(shares, axis=1)
    probability = np.where(is_given, has_label, 1 - has_label)
    for item, given, row in zip(items, probability, has_label, strict=True):
        if not np.isnan(given).all():
            likely = tuple(name for name, share in zip(names, row, strict=True) if share > 0.5)
            yield Judged(item, tuple(item["labels"]), round(float(np.nanmin(given)), DIGITS), likely)


def _scores(items: Sequence[Row], features: Any, folds: NDArray[np.int64]) -> Iterator[Judged]:
    """Judges scores by ridge regression; how far off is usual is the median distance (times 1.4826, as of a normal one)."""
    from sklearn.linear_model import Ridge

    given = np.array([item["value"] for item in items], dtype=np.float64)
    said = np.full(len(given), np.nan)
    for fold in np.unique(folds):
        rest, own = folds != fold, folds == fold
        if len(np.unique(given[rest])) > 1:
            said[own] = Ridge(alpha=1.0).fit(features[rest], given[rest]).predict(features[own])
    off = np.abs(given - said)
    usual = 1.4826 * float(np.nanmedian(off)) if np.isfinite(off).any() else 0.0
    for item, value, likely, distance in zip(items, given, said, off, strict=True):
        if np.isfinite(likely):
            probability = erfc(distance / usual / sqrt(2)) if usual else float(not distance)
            yield Judged(item, (f"{value:g}",), probability, (f"{likely:.3g}",))
