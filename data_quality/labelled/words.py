"""Tags of words that a simple model, trained on the other items, finds improbable.

In: items with words and tags. Out: what is said of each word. Invariant: a word is judged by a model that saw nothing of its
group.

The model is logistic regression over hashed features of a word and of those beside it, as CRF taggers have long had them.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from data_quality.labelled.judged import DIGITS, NUM_FEATURES, Judged, out_of_fold
from tasks.core.tables import Row


def judge_words(items: Sequence[Row], names: Sequence[str], folds: NDArray[np.int64]) -> Iterator[Judged]:
    """Yields each word of the items, with its tag and the likely one."""
    from sklearn.feature_extraction import FeatureHasher

    features = [_features(item["words"], place) for item in items for place in range(len(item["words"]))]
    hashed = FeatureHasher(NUM_FEATURES, input_type="string", alternate_sign=False).transform(features)
    given = np.array([names.index(tag) for item in items for tag in item["labels"]])
    shares = out_of_fold(hashed, given, np.repeat(folds, [len(item["words"]) for item in items]), len(names))
    owners = [(item, word) for item in items for word in item["words"]]
    for (item, word), number, row in zip(owners, given, shares, strict=True):
        if row[number] == row[number]:
            likely = names[int(np.nanargmax(row))]
            yield Judged(item, (f"{word}: {names[number]}",), round(float(row[number]), DIGITS), (f"{word}: {likely}",))


def _features(words: Sequence[str], place: int) -> list[str]:
    """Returns what is known of a word: itself, how it begins and ends and is written, and the words beside it."""
    word = words[place]
    before, after = words[place - 1] if place else "<", words[place + 1] if place + 1 < len(words) else ">"
    return [
        f"is {word.lower()}",
        f"begins {word[:2].lower()}",
        f"ends {word[-3:].lower()}",
        f"written {_shape(word)}",
        f"after {before.lower()}",
        f"before {after.lower()}",
    ]


def _shape(word: str) -> str:
    return "".join("X" if char.isupper() else "0" if char.isdigit() else "x" if char.isalpha() else char for char in word[:6])
