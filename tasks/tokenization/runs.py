"""The default split (`han_runs`) by an encoder that knows Llama 3's: texts are cut where the two would go apart.

In: texts, and an encoder that splits as Llama 3 does. Out: the ids that `tokenizers` gives. Invariants: what a character is, is
asked of the regular expressions of `tokenizers`; a text with a character that two of its rules could take is left to
`tokenizers` itself.

Llama 3 joins Han to other letters, one mark or white space to the letters after it, and combining marks to other marks. Between
two cuts none of that can happen, and every other rule of the two splits is the same.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from tasks.tokenization.encoded import Encoded

Points = NDArray[np.uint32]
Classes = NDArray[np.uint8]
Flags = NDArray[np.bool_]

MOST_DIGITS = 3  # that a piece of Llama 3's holds
_WORD, _HAN, _DIGIT, _SPACE, _COMBINING, _OTHER, _END, _UNCLEAR, _UNKNOWN = range(9)
_PATTERNS = {_WORD: r"[\p{L}&&[^\p{Han}]]+", _HAN: r"\p{Han}+", _DIGIT: r"\p{N}+", _SPACE: r"\s+", _COMBINING: r"\p{M}+"}
_SEPARATOR = "\U0010ffff"  # no character
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
    is_digit = classes_N == _DIGIT
    places_N = np.arange(len(classes_N))
    start_N = np.maximum.accumulate(np.where(is_digit, -1, places_N)) + 1
    found: Flags = is_digit & (places_N > start_N) & ((places_N - start_N) % max_digits == 0)
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


class RunsEncoder:
    """Encodes the parts between cuts."""

    def __init__(
        self, fast: Callable[[Sequence[str]], Encoded], whole: Callable[[Sequence[str]], Encoded], max_digits: int
    ) -> None:
        """Takes `fast`, which splits as Llama 3 does, and `whole`, slow, which splits any text right.

        A token holds at most `max_digits` digits, which are at most `MOST_DIGITS`.
        """
        self._fast, self._whole, self._max_digits = fast, whole, max_digits
        self._classes = CharacterClasses()

    def __call__(self, texts: Sequence[str]) -> Encoded:
        """Encodes texts without adding any token."""
        if not texts:
            return Encoded.in_a_row([])
        joined = "".join(text.replace(_SEPARATOR, "") + _SEPARATOR for text in texts)
        points_N = np.frombuffer(joined.encode("utf-32-le"), np.uint32)
        classes_N = self._classes(points_N)
        found = self._by_parts(joined, points_N, classes_N)
        unclear = [number for number, text in enumerate(texts) if _SEPARATOR in text]
        unclear += np.searchsorted(np.flatnonzero(classes_N == _END), np.flatnonzero(_is_unclear(classes_N))).tolist()
        return self._mended(found, texts, sorted(set(unclear)))

    def _by_parts(self, joined: str, points_N: Points, classes_N: Classes) -> Encoded:
        first = np.flatnonzero(cuts(points_N, classes_N, self._max_digits))
        is_end = classes_N[first] == _END
        places = [*first.tolist(), len(joined)]
        parts = [joined[start:end] for start, end in pairwise(places)]
        ids_N, lengths = self._fast([part for part in parts if part != _SEPARATOR])
        bounds = np.flatnonzero(is_end) - np.arange(np.count_nonzero(is_end))
        return Encoded(ids_N, np.diff(np.concatenate(([0], np.cumsum(lengths)))[bounds], prepend=0))

    def _mended(self, found: Encoded, texts: Sequence[str], unclear: list[int]) -> Encoded:
        """Returns the same with the unclear texts encoded whole."""
        if not unclear:
            return found
        parts = found.by_text()
        for number, part in zip(unclear, self._whole([texts[number] for number in unclear]).by_text(), strict=True):
            parts[number] = part
        return Encoded.in_a_row(parts)


def _is_unclear(classes_N: Classes) -> Flags:
    """Returns the characters that two rules could take: some of the Han script, and combining marks beside letters."""
    beside = (classes_N[:-1] == _COMBINING) & (classes_N[1:] == _WORD) | (classes_N[:-1] == _WORD) & (classes_N[1:] == _COMBINING)
    found: Flags = classes_N == _UNCLEAR
    found[1:] |= beside
    return found
