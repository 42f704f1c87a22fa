"""Labelled items as they are read, and what is said of one.

In: nothing. Out: the columns of `items.parquet` that models and scores read; `Prediction`. Invariant: nothing here imports torch.
"""

from dataclasses import dataclass
from typing import Any

ITEM_COLUMNS = ("id", "source", "split", "text", "text_pair", "words", "labels", "value")
Item = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Prediction:
    """What is said of an item.

    Attributes:
        labels: One label; of a multi-label item any number; of words one each, none of a word without a token and of one beyond
            the model's context.
        scores: Probability of each label in their order; of words, that of the label said, up to the last word that has one.
        value: Of a regression.
        loss: Nats summed over what is judged (of a multi-label item the mean over labels); none for a regression.
    """

    labels: tuple[str | None, ...]
    scores: tuple[float, ...]
    value: float | None
    loss: float | None
