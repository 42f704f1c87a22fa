"""The default split (`han_runs`) by an encoder that knows Llama 3's: texts are cut where the two would go apart.

In: texts, and an encoder that splits as Llama 3 does. Out: the ids that `tokenizers` gives. Invariants: what a character is, is
asked of the regular expressions of `tokenizers`; a text with a character that two of its rules could take is left to
`tokenizers` itself.

Llama 3 joins Han to other letters, one mark or white space to the letters after it, and combining marks to other marks. Between
two cuts none of that can happen, and every other rule of the two splits is the same.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tasks.tokenization.encoded import Counts, Encoded

Points = NDArray[np.uint32]
Classes = NDArray[np.uint8]
Flags = NDArray[np.bool_]

MOST_DIGITS = 3  # that a piece of Llama 3's holds
_WORD, _HAN, _DIGIT, _SPACE, _COMBINING, _OTHER, _END, _UNCLEAR, _UNKNOWN = range(9)
_PATTERNS = {_WORD: r"[\p{L}&&[^\p{Han}]]+", _HAN: r"\p{Han}+", _DIGIT: r"\p{N}+", _SPACE: r"\s+", _COMBINING: r"\p{M}+"}
_SEPARATOR = "\U0010ffff"  # no character
_CHARS_AT_ONCE = 2_000_000
_LINE_ENDS = (10, 13)
_APOSTROPHE = 39
_ENDINGS = {"s", "t", "m", "d", "\u017f"}, {"re", "ve", "ll"}


class CharacterClasses:
    """What each character is: of a word, Han, a digit, white space, a combining mark, another mark, or unclear."""

    def __init__(self) -> None:
        self._table = np.full(0x110000, _UNKNOWN, np.uint8)
        self._table[ord(_SEPARATOR)] = _END

    def __call__(self, points_N: Points) -> Classes:
        """Returns the class of each code point."""
        found = self._table[points_N]
        if (found == _UNKNOWN).any():
            self._learn(np.unique(points_N[found == _UNKNOWN]))
            found = self._table[points_N]
        return found

    def _learn(self, points: Points) -> None:
        chars = points.tobytes().decode("utf-32-le")
        is_han, is_digit, is_letter = (_matches(chars, rf"\p{{{name}}}+") for name in ("Han", "N", "L"))
        found = np.full(len(points), _OTHER, np.uint8)
        for name, pattern in _PATTERNS.items():
            found[_matches(chars, pattern) & (found == _OTHER)] = name
        found[is_han & (is_digit | ~is_letter)] = _UNCLEAR
        self._table[points] = found


def _matches(chars: str, pattern: str) -> Flags:
    from tokenizers import Regex, pre_tokenizers

    found = np.zeros(len(chars), np.bool_)
    for _, (first, end) in pre_tokenizers.Split(Regex(pattern), "removed", invert=True).pre_tokenize_str(chars):
        found[first:end] = True
    return found


def cuts(points_N: Points, classes_N: Classes, max_digits: int) -> Flags:
    """Returns the places that Llama 3's split must not look across; every text starts at one and ends with a separator."""
    before, after = classes_N[:-1], classes_N[1:]
    is_letter = (after == _WORD) | (after == _HAN)
    joined_to_mark = is_letter & (before == _OTHER) & ~_start_endings(points_N, classes_N)
    joined_to_letters = is_letter & (after != before) & ((before == _WORD) | (before == _HAN))
    combining = (after != before) & ((before == _COMBINING) | ((after == _COMBINING) & (before != _SPACE)))
    takes_space = is_letter & (before == _SPACE) & ~np.isin(points_N[:-1], _LINE_ENDS)
    takes_space &= (after == _HAN) | (points_N[:-1] != ord(" "))
    found = np.ones(len(points_N), np.bool_)
    found[1:] = joined_to_mark | joined_to_letters | combining | takes_space | (before == _END) | (after == _END)
    if max_digits < MOST_DIGITS:  # else Llama 3's pieces end there anyway
        found |= _cut_digits(classes_N, max_digits)
    # White space before a last one that letters do not take is a piece of its own; cut off alone it would be one with it.
    found[:-1] |= takes_space
    return found


def _cut_digits(classes_N: Classes, max_digits: int) -> Flags:
    """Returns the digits that start a piece after another piece of the same run."""
    places_D = np.flatnonzero(classes_N == _DIGIT)
    starts_run_D = np.diff(places_D, prepend=-2) > 1
    run_start_D = np.maximum.accumulate(np.where(starts_run_D, places_D, 0))
    found = np.zeros(len(classes_N), np.bool_)
    found[places_D] = ~starts_run_D & ((places_D - run_start_D) % max_digits == 0)
    return found


def _start_endings(points_N: Points, classes_N: Classes) -> Flags:
    """Returns for each place but the first whether 's, 't, 're, 've, 'm, 'll or 'd goes on there, after a piece's first mark."""
    found = np.zeros(len(points_N) - 1, np.bool_)
    is_apostrophe = (points_N[:-1] == _APOSTROPHE) & (classes_N[1:] == _WORD)
    for place in np.flatnonzero(is_apostrophe).tolist():
        starts = place == 0 or (classes_N[place - 1] != _OTHER and points_N[place - 1] != ord(" "))
        after = points_N[place + 1 : place + 3].tobytes().decode("utf-32-le").lower()
        found[place] = starts and (after[0] in _ENDINGS[0] or after in _ENDINGS[1])
    return found


class _Cut(NamedTuple):
    """D texts in a row in UTF-8, without separators, cut into P parts."""

    text: bytes
    num_bytes_P: Counts
    num_parts_D: Counts
    is_unclear_D: Flags


def _batches(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    """Yields texts of together a few million characters: arrays that stay in the cache of the memory allocator."""
    number_D = np.cumsum([len(text) for text in texts]) // _CHARS_AT_ONCE
    places = [0, *(np.flatnonzero(np.diff(number_D)) + 1).tolist(), len(texts)]
    for start, end in pairwise(places):
        yield texts[start:end]


class RunsEncoder:
    """Encodes the parts between cuts."""

    def __init__(
        self, fast: Callable[[bytes, Counts], Encoded], whole: Callable[[Sequence[str]], Encoded], max_digits: int
    ) -> None:
        """Takes `fast`, which splits as Llama 3 does, and `whole`, slow, which splits any text right.

        `fast` takes parts in a row in UTF-8 and the bytes of each. A token holds at most `max_digits` digits, which are at most
        `MOST_DIGITS`.
        """
        self._fast, self._whole, self._max_digits = fast, whole, max_digits
        self._classes = CharacterClasses()

    def __call__(self, texts: Sequence[str]) -> Encoded:
        """Encodes texts without adding any token."""
        if not texts:
            return Encoded.in_a_row([])
        cut = [self._cut(some) for some in _batches(texts)]
        num_parts_D = np.concatenate([one.num_parts_D for one in cut])
        found = self._fast(b"".join(one.text for one in cut), np.concatenate([one.num_bytes_P for one in cut]))
        ends_D = np.concatenate(([0], np.cumsum(found.lengths_D)))[np.cumsum(num_parts_D)]
        is_unclear_D = np.concatenate([one.is_unclear_D for one in cut])
        return self._mended(Encoded(found.ids_N, np.diff(ends_D, prepend=0)), texts, np.flatnonzero(is_unclear_D).tolist())

    def _cut(self, texts: Sequence[str]) -> _Cut:
        plain = [text.replace(_SEPARATOR, "") for text in texts]
        points_N = np.frombuffer(_SEPARATOR.join([*plain, ""]).encode("utf-32-le"), np.uint32)
        classes_N = self._classes(points_N)
        first_P = np.flatnonzero(cuts(points_N, classes_N, self._max_digits))
        num_bytes_P = np.add.reduceat(_utf8_bytes(points_N), first_P, dtype=np.int64)
        is_end_P = classes_N[first_P] == _END
        is_unclear_D = np.array([_SEPARATOR in text for text in texts])
        is_unclear_D[np.searchsorted(np.flatnonzero(classes_N == _END), np.flatnonzero(_is_unclear(classes_N)))] = True
        return _Cut(
            "".join(plain).encode(), num_bytes_P[~is_end_P], np.diff(np.flatnonzero(is_end_P), prepend=-1) - 1, is_unclear_D
        )

    def _mended(self, found: Encoded, texts: Sequence[str], unclear: list[int]) -> Encoded:
        """Returns the same with the unclear texts encoded whole."""
        if not unclear:
            return found
        parts = found.by_text()
        for number, part in zip(unclear, self._whole([texts[number] for number in unclear]).by_text(), strict=True):
            parts[number] = part
        return Encoded.in_a_row(parts)


def _utf8_bytes(points_N: Points) -> NDArray[np.uint8]:
    """Returns how many bytes each code point takes in UTF-8."""
    found = np.ones(len(points_N), np.uint8)
    for first_longer in (0x80, 0x800, 0x10000):
        found += points_N >= first_longer
    return found


def _is_unclear(classes_N: Classes) -> Flags:
    """Returns the characters that two rules could take: some of the Han script, and combining marks beside letters."""
    beside = (classes_N[:-1] == _COMBINING) & (classes_N[1:] == _WORD) | (classes_N[:-1] == _WORD) & (classes_N[1:] == _COMBINING)
    found: Flags = classes_N == _UNCLEAR
    found[1:] |= beside
    return found
