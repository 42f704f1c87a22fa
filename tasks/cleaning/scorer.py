"""Scorer: how much a text resembles the good examples rather than the others, by a linear model a language.

In: labelled texts of one language, each in a fold. Out: probabilities, and weights as plain arrays (npz, nothing pickled).
Invariants: a text that was training material is scored by the model that did not see its fold; the same texts in any order of
folds give the same weights.

Method: logistic regression over hashed n-grams (characters for Chinese, words for English), as the linear quality classifiers of
CCNet, The Pile and DCLM; its decision values are made probabilities by Platt's scaling (1999), fitted out of fold.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.cleaning.base import Language
from tasks.core.errors import ContractError

NUM_FOLDS = 5
WHOLE = NUM_FOLDS  # place of the model that saw every fold

_NUM_FEATURES = 1 << 17
_INVERSE_PENALTY = 10.0
_ALMOST_FREE = 1e6  # inverse penalty of the two numbers of the scaling
_MAX_CHARS = 5_000  # the beginning of a text tells enough
_MAX_ITERATIONS = 1_000

Numbers = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Scorer:
    """Weights of one language.

    Attributes:
        weights: A row a model: those without one fold each, then the one that saw all: [NUM_FOLDS + 1, features].
        slope, offset: Of the scaling that makes decision values probabilities.
    """

    lang: Language
    weights: NDArray[np.float32]
    intercepts: Numbers
    slope: float = 1.0
    offset: float = 0.0

    def decisions(self, texts: Sequence[str], folds: Sequence[int]) -> Numbers:
        """Returns the decision value of each text, by the model without its fold (`WHOLE`: the one that saw all)."""
        if not texts:
            return np.zeros(0)
        features = features_of(texts, self.lang)
        places = np.asarray(folds, dtype=np.int64)
        values = np.zeros(len(texts))
        for fold in np.unique(places):
            own = np.flatnonzero(places == fold)
            values[own] = features[own] @ self.weights[fold].astype(np.float64) + self.intercepts[fold]
        return values

    def scores(self, texts: Sequence[str], folds: Sequence[int]) -> Numbers:
        """Returns the probability that each text is one of the good ones."""
        return _sigmoid(self.slope * self.decisions(texts, folds) + self.offset)

    def save(self, path: Path) -> None:
        """Writes every model."""
        np.savez(path, weights=self.weights, intercepts=self.intercepts, scaling=np.array([self.slope, self.offset]))

    def whole(self) -> "Scorer":
        """Returns what is kept: the model that saw all alone, in place 0."""
        return Scorer(self.lang, self.weights[[WHOLE]], self.intercepts[[WHOLE]], self.slope, self.offset)


@lru_cache
def load_scorer(path: Path) -> Scorer:
    """Reads a scorer; its language is the file's name."""
    with np.load(path) as arrays:
        slope, offset = arrays["scaling"].tolist()
        lang: Any = path.stem
        return Scorer(lang, arrays["weights"], arrays["intercepts"], slope, offset)


def features_of(texts: Sequence[str], lang: Language) -> Any:
    """Returns the hashed n-grams of each text as a sparse matrix: [texts, features]."""
    from sklearn.feature_extraction.text import HashingVectorizer

    by_character = {"analyzer": "char", "ngram_range": (1, 3)}
    by_word = {"analyzer": "word", "ngram_range": (1, 2), "token_pattern": r"\w+|[^\w\s]"}
    settings: dict[str, Any] = by_character if lang == "zh" else by_word
    vectorizer = HashingVectorizer(n_features=_NUM_FEATURES, alternate_sign=False, norm="l2", **settings)
    return vectorizer.transform([text[:_MAX_CHARS] for text in texts])


def train(lang: Language, texts: Sequence[str], labels: Sequence[bool], folds: Sequence[int]) -> Scorer:
    """Trains a model without each fold and one on all, and scales what they say of texts they did not see.

    Raises:
        ContractError: A fold holds all examples of a class.
    """
    features, truth, places = features_of(texts, lang), np.asarray(labels), np.asarray(folds)
    models = [_fitted(features, truth, places != fold, lang) for fold in (*range(NUM_FOLDS), -1)]
    weights = np.stack([model.coef_[0] for model in models]).astype(np.float32)
    plain = Scorer(lang, weights, np.array([float(model.intercept_[0]) for model in models]))
    unseen = plain.decisions(texts, folds)
    return Scorer(lang, plain.weights, plain.intercepts, *_scaling(unseen, truth))


def _scaling(decisions: Numbers, truth: NDArray[np.bool_]) -> tuple[float, float]:
    """Returns slope and offset; Platt's targets stop short of 0 and 1, so that classes apart from each other stay ranked."""
    from sklearn.linear_model import LogisticRegression

    num_good, num_other = int(truth.sum()), int((~truth).sum())
    targets = np.where(truth, (num_good + 1) / (num_good + 2), 1 / (num_other + 2))
    both = np.concatenate((np.ones(len(truth)), np.zeros(len(truth))))
    weights = np.concatenate((targets, 1 - targets))
    found = LogisticRegression(C=_ALMOST_FREE).fit(np.tile(decisions, 2)[:, None], both, sample_weight=weights)
    return float(found.coef_[0, 0]), float(found.intercept_[0])


def _fitted(features: Any, truth: NDArray[Any], chosen: NDArray[np.bool_], lang: str) -> Any:
    if len(np.unique(truth[chosen])) < 2:
        raise ContractError(f"quality: the {lang} examples of one class lie in one fold; name more examples")
    from sklearn.linear_model import LogisticRegression

    # Coordinate descent on the dual: a few texts under very many features take milliseconds; the seed makes it repeatable.
    model = LogisticRegression(C=_INVERSE_PENALTY, solver="liblinear", dual=True, random_state=0, max_iter=_MAX_ITERATIONS)
    return model.fit(features[chosen], truth[chosen])


def _sigmoid(values: Numbers) -> Numbers:
    return np.asarray(0.5 * (1 + np.tanh(values / 2)))  # the same as 1 / (1 + exp(-x)), and never overflows
