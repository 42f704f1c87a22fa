"""What counting words can do: the cross entropy of a text under unigrams and bigrams, which a model has to beat.

In: token streams to count in and to ask about. Out: nats a token. Invariant: every token has a probability, those of one
history add up to 1. Nothing here imports torch.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

_MAX_TOKENS = 50_000_000  # read at most, of either text: bigrams are sorted in memory

Tokens = NDArray[np.integer[Any]]


class NgramNats(NamedTuple):
    """Cross entropy in nats a token."""

    unigram: float
    bigram: float


def ngram_nats(train: Sequence[Tokens], held_out: Sequence[Tokens], vocab_size: int, separator: int) -> NgramNats:
    """Returns the cross entropy of `held_out` under unigrams and bigrams counted in `train`.

    Unigrams: add-one smoothing over the vocabulary. Bigrams: interpolated with the unigrams after Witten and Bell (1991): a
    history seen n times before t different tokens gives them t / (n + t). The first token follows the separator.
    """
    counted, asked = _joined(train, separator), _joined(held_out, separator)
    unigrams = np.bincount(counted[1:], minlength=vocab_size) + 1.0
    unigrams /= unigrams.sum()
    pairs, counts = np.unique(_pairs(counted, vocab_size), return_counts=True)
    followers = np.bincount(pairs // vocab_size, minlength=vocab_size)
    seen = np.bincount(pairs // vocab_size, weights=counts, minlength=vocab_size)
    wanted, histories = _pairs(asked, vocab_size), asked[:-1]
    places = np.minimum(np.searchsorted(pairs, wanted), len(pairs) - 1)
    pair_counts = np.where(pairs[places] == wanted, counts[places], 0)
    alone = unigrams[asked[1:]]
    new = np.maximum(followers[histories], 1)  # after a history that was never seen only the unigram is left
    bigrams = (pair_counts + new * alone) / (seen[histories] + new)
    return NgramNats(float(-np.log(alone).mean()), float(-np.log(bigrams).mean()))


def _joined(streams: Sequence[Tokens], separator: int) -> NDArray[np.int64]:
    """Returns the first tokens of the streams behind a separator; those beyond `_MAX_TOKENS` are not read."""
    parts, left = [np.array([separator])], _MAX_TOKENS
    for stream in streams:
        parts.append(stream[:left])
        left -= len(parts[-1])
    return np.concatenate(parts, dtype=np.int64)


def _pairs(tokens: NDArray[np.int64], vocab_size: int) -> NDArray[np.int64]:
    return tokens[:-1] * vocab_size + tokens[1:]
