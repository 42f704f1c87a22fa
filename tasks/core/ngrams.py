"""N-grams: texts as arrays of 64-bit hashes of their units, and of runs of units.

In: normalised texts. Out: one hash a unit, a unit being a word, or a character where words are not spaced (Chinese,
Japanese, Thai). Invariants: case, width, white space and punctuation do not count; the hashes are the same on every machine and
in every process; a run never crosses from one text into the next.

A unit is the polynomial of its characters, a run the polynomial of its units (Karp and Rabin 1987), both over 64 bits and
then mixed, so that a batch of texts is a few passes over one array.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]
Places = NDArray[np.int64]

# Thai and Lao, Burmese, Khmer, kana, Han: written without spaces between words.
_ALONE = (
    (0x0E00, 0x0EFF),
    (0x1000, 0x109F),
    (0x1780, 0x17FF),
    (0x3040, 0x30FF),
    (0x31F0, 0x31FF),
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, 0x323AF),
)
_NUM_POINTS = 0x32400  # no letter or digit lies above
_CLASS = "".join(f"{chr(first)}-{chr(last)}" for first, last in _ALONE)
_UNIT = re.compile(rf"(?=\w)[{_CLASS}]|[^\W{_CLASS}]+")
_BASE = np.uint64(0x9E3779B97F4A7C15)
_MIX_1, _MIX_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


def unit_hashes(texts: Sequence[str], by_character: bool = True) -> tuple[Hashes, Places]:
    """Returns the hashes of the units of all texts in a row, and where each text starts, the end of the last one added.

    Args:
        texts: Normalised (`tasks.core.text.normalized`), so that none holds a line feed.
        by_character: Characters of scripts without spaces are units; else a run of them is one word.
    """
    is_word, is_alone, char_hash = _tables()
    joined = "\n".join(texts).encode("utf-32-le", "surrogatepass")
    points = np.minimum(np.frombuffer(joined, dtype="<u4"), _NUM_POINTS)
    word, alone = is_word[points], is_alone[points] & by_character
    starts = np.flatnonzero(word & (alone | ~_shifted(word) | _shifted(alone)))
    bounds = np.searchsorted(starts, np.flatnonzero(points == ord("\n")))
    bounds = np.concatenate(([0], bounds, [len(starts)])).astype(np.int64)[: len(texts) + 1]
    if not len(starts):
        return np.zeros(0, dtype=np.uint64), bounds
    lengths = np.diff(starts, append=len(points))
    offsets = np.arange(starts[0], len(points)) - np.repeat(starts, lengths)
    terms = char_hash[points[starts[0] :]] * _powers(int(lengths.max()))[offsets]  # what is no word hashes to 0
    return mixed(np.add.reduceat(terms, starts - starts[0])), bounds


def run_hashes(units: Hashes, size: int) -> Hashes:
    """Returns the hash of each run of `size` units, the first one at place 0; none where there are fewer."""
    runs = np.zeros(max(0, len(units) - size + 1), dtype=np.uint64)
    for offset in range(size):
        runs = runs * _BASE + units[offset : offset + len(runs)]
    return mixed(runs)


def unit_spans(text: str) -> list[tuple[int, int]]:
    """Returns where each unit of a normalised text starts and ends, in characters."""
    return [found.span() for found in _UNIT.finditer(text)]


def is_by_character(text: str) -> bool:
    """Says whether most units of a normalised text are single characters of a script without spaces."""
    spans = unit_spans(text)
    return 2 * sum(_is_alone(ord(text[start])) for start, _ in spans) > len(spans)


def mixed(values: Any) -> Hashes:
    """Spreads values over all 64 bits (the finaliser of SplitMix64)."""
    values = (values ^ (values >> np.uint64(30))) * _MIX_1
    values = (values ^ (values >> np.uint64(27))) * _MIX_2
    result: Hashes = values ^ (values >> np.uint64(31))
    return result


def _is_alone(point: int) -> bool:
    return any(first <= point <= last for first, last in _ALONE)


def _shifted(flags: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return np.concatenate(([False], flags[:-1]))


def _powers(count: int) -> Hashes:
    powers = np.full(count, _BASE, dtype=np.uint64)
    powers[0] = 1
    return np.cumprod(powers, dtype=np.uint64)


@lru_cache
def _tables() -> tuple[NDArray[np.bool_], NDArray[np.bool_], Hashes]:
    """Returns for each code point whether it belongs to a word, whether it is a unit alone, and its hash."""
    chars = map(chr, range(_NUM_POINTS + 1))
    is_word = np.array([char.isalnum() or char == "_" for char in chars])
    is_word[_NUM_POINTS] = False
    is_alone = np.zeros(_NUM_POINTS + 1, dtype=bool)
    for first, last in _ALONE:
        is_alone[first : last + 1] = True
    hashes = mixed(np.arange(1, _NUM_POINTS + 2, dtype=np.uint64))
    return is_word, is_alone & is_word, np.where(is_word, hashes, np.uint64(0))
