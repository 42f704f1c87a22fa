"""Shingles: a text as a set of 64-bit hashes of its short runs, the form in which texts are compared.

In: a text and its language. Out: a sorted array of distinct hashes. Invariant: case, width, white space and punctuation do
not count; the hashes are the same on every machine and in every process.
"""

import re
from functools import lru_cache
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.core.text import normalized

Hashes = NDArray[np.uint64]

_BY_CHARACTER = frozenset({"zh", "ja", "th"})  # written without spaces between words
_WORD = re.compile(r"\w+")
_BASE = np.uint64(0x9E3779B97F4A7C15)
_MIX_1, _MIX_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


def shingles(text: str, lang: str, chars: int, words: int) -> Hashes:
    """Returns the distinct hashes of runs of `chars` characters, or of `words` words where words are spaced.

    A text shorter than one run is one run.
    """
    units, size = _units(text, lang, chars, words)
    if not len(units):
        return np.zeros(1, dtype=np.uint64)
    size = min(size, len(units))
    runs = np.zeros(len(units) - size + 1, dtype=np.uint64)
    for offset in range(size):
        runs = runs * _BASE + units[offset : offset + len(runs)]
    return np.unique(_mixed(runs))


def jaccard(first: Hashes, second: Hashes) -> float:
    """Returns the share of hashes that two sets have in common."""
    shared = len(np.intersect1d(first, second, assume_unique=True))
    return shared / (len(first) + len(second) - shared)


def _units(text: str, lang: str, chars: int, words: int) -> tuple[Hashes, int]:
    found = _WORD.findall(normalized(text))
    if lang in _BY_CHARACTER:
        points = np.frombuffer("".join(found).encode("utf-32-le"), dtype=np.uint32)
        return _mixed(points.astype(np.uint64)), chars
    return np.array([_word_hash(word) for word in found], dtype=np.uint64), words


@lru_cache(maxsize=200_000)
def _word_hash(word: str) -> int:
    return int.from_bytes(blake2b(word.encode("utf-8"), digest_size=8).digest(), "little")


def _mixed(values: Any) -> Hashes:
    """Spreads values over all 64 bits (the finaliser of SplitMix64)."""
    values = (values ^ (values >> np.uint64(30))) * _MIX_1
    values = (values ^ (values >> np.uint64(27))) * _MIX_2
    result: Hashes = values ^ (values >> np.uint64(31))
    return result
