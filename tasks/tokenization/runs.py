"""The default split (`han_runs`) of many texts at once, by arrays; each different piece is encoded once.

In: texts, a tokenizer trained with that split. Out: the ids that `tokenizers` gives. Invariants: what a character is, is asked of
the regular expressions of `tokenizers`; a text with a character that two of its rules could take is left to `tokenizers` itself.

A piece is known by the polynomial of its characters modulo 2**64 (Karp and Rabin 1987), mixed.
"""

from collections.abc import Sequence
from itertools import compress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.core.ngrams import mixed

Points = NDArray[np.uint32]
Flags = NDArray[np.bool_]
Places = NDArray[np.int64]

_WORD, _HAN, _DIGIT, _OTHER, _SPACE, _END, _UNCLEAR, _UNKNOWN = range(8)
_PATTERNS = {_WORD: r"[\p{L}\p{M}&&[^\p{Han}]]+", _HAN: r"\p{Han}+", _DIGIT: r"\p{N}+", _SPACE: r"\s+"}
_SEPARATOR = "\U0010ffff"  # no character
_BASE = np.uint64(0x9E3779B97F4A7C15)
_MOST_PIECES = 2_000_000
_ENDINGS = {"s", "t", "m", "d", "\u017f"}, {"re", "ve", "ll"}


class Classes:
    """What each character is: of a word, Han, a digit, white space, another mark, or unclear."""

    def __init__(self) -> None:
        self._table = np.full(0x110000, _UNKNOWN, np.uint8)
        self._table[ord(_SEPARATOR)] = _END

    def __call__(self, points_N: Points) -> NDArray[np.uint8]:
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


def piece_starts(points_N: Points, classes_N: NDArray[np.uint8], max_digits: int) -> Flags:
    """Returns where pieces start; every text ends with a separator, which is a piece of its own."""
    starts = np.ones(len(points_N), np.bool_)
    starts[1:] = (classes_N[1:] != classes_N[:-1]) | (classes_N[1:] == _END)
    _cut_digits(starts, classes_N, max_digits)
    is_newline = (points_N == 10) | (points_N == 13)
    _join_newlines(starts, classes_N, is_newline)
    _cut_spaces(starts, points_N, classes_N, is_newline)
    _cut_endings(starts, points_N, classes_N)
    return starts


def _cut_digits(starts: Flags, classes_N: NDArray[np.uint8], most: int) -> None:
    digits = np.flatnonzero(classes_N == _DIGIT)
    first = np.maximum.accumulate(np.where(starts[digits], digits, 0))
    starts[digits[(digits - first) % most == 0]] = True


def _join_newlines(starts: Flags, classes_N: NDArray[np.uint8], is_newline: Flags) -> None:
    """Line ends right after a mark belong to it."""
    edges = np.flatnonzero(np.diff(is_newline, prepend=False, append=False))
    first, end = edges[::2], edges[1::2]
    joined = (first > 0) & (classes_N[first - 1] == _OTHER)
    starts[first[joined]] = False
    starts[end[joined]] = True  # a separator at least follows


def _cut_spaces(starts: Flags, points_N: Points, classes_N: NDArray[np.uint8], is_newline: Flags) -> None:
    """White space is cut after its last line end and before its last character, which a word or mark takes if it is a space."""
    places = np.arange(len(points_N))
    ends = np.flatnonzero((classes_N[:-1] == _SPACE) & (classes_N[1:] != _SPACE)) + 1
    first = np.maximum.accumulate(np.where(starts, places, 0))[ends - 1]
    after_newline = np.maximum.accumulate(np.where(is_newline, places + 1, 0))[ends - 1]
    all_joined = ~starts[first] | (classes_N[first] != _SPACE)  # line ends that a mark took
    starts[after_newline[(after_newline > first) & ~all_joined]] = True
    left = ends - np.maximum(first, after_newline)
    open_ = (classes_N[ends] != _END) & (left > 0) & ~all_joined
    starts[ends[open_ & (left > 1)] - 1] = True
    taken = open_ & (points_N[ends - 1] == 32) & np.isin(classes_N[ends], (_WORD, _OTHER))
    starts[ends[taken]] = False


def _cut_endings(starts: Flags, points_N: Points, classes_N: NDArray[np.uint8]) -> None:
    """'s, 't, 're, 've, 'm, 'll and 'd are pieces where a piece starts with them."""
    marks = np.flatnonzero((points_N[:-1] == 39) & starts[:-1] & (classes_N[1:] == _WORD))
    for mark in marks.tolist():
        after = points_N[mark + 1 : mark + 3].tobytes().decode("utf-32-le").lower()
        size = 2 if after[0] in _ENDINGS[0] else 3 if after in _ENDINGS[1] else 0
        if size:
            starts[mark + 1] = False
            starts[mark + size] = True


class Pieces:
    """Token ids of pieces, kept by the number of each piece."""

    def __init__(self, model: Any) -> None:
        from tokenizers import pre_tokenizers

        model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        self._model = model
        self._forget()

    def _forget(self) -> None:
        self._codes: dict[int, int] = {}
        self._ids = np.zeros(0, np.uint32)
        self._ends = np.zeros(1, np.int64)

    def ids(self, text: str, numbers_P: NDArray[np.uint64], first_P: Places, end_P: Places) -> tuple[NDArray[np.uint32], Places]:
        """Returns the ids of all pieces in a row, and how many are each piece's."""
        different, place, inverse = np.unique(numbers_P, return_index=True, return_inverse=True)
        if len(self._codes) > _MOST_PIECES:
            self._forget()
        known = different.tolist()
        new = [number not in self._codes for number in known]
        self._learn(list(compress(known, new)), [text[first_P[one] : end_P[one]] for one in compress(place.tolist(), new)])
        codes = np.fromiter(map(self._codes.__getitem__, known), np.int64, len(known))[inverse]
        first, lengths = self._ends[codes], self._ends[codes + 1] - self._ends[codes]
        shift = np.repeat(first - (np.cumsum(lengths) - lengths), lengths)
        return self._ids[shift + np.arange(len(shift))], lengths

    def _learn(self, numbers: list[int], pieces: list[str]) -> None:
        found = [one.ids for one in self._model.encode_batch_fast(pieces, add_special_tokens=False)]
        self._codes |= {number: len(self._codes) + place for place, number in enumerate(numbers)}
        lengths = np.fromiter(map(len, found), np.int64, len(found))
        self._ids = np.concatenate([self._ids, np.array([id for one in found for id in one], np.uint32)])
        self._ends = np.concatenate([self._ends, self._ends[-1] + np.cumsum(lengths)])


class RunsEncoder:
    """Encodes by pieces that are found with arrays."""

    def __init__(self, model: Any, whole: Any, max_digits: int) -> None:
        self._pieces, self._whole, self._max_digits, self._classes = Pieces(model), whole, max_digits, Classes()

    def __call__(self, texts: Sequence[str]) -> tuple[NDArray[np.uint32], Places]:
        """Returns the ids of all texts in a row, and how many are each text's."""
        joined = "".join(text.replace(_SEPARATOR, "") + _SEPARATOR for text in texts)
        points_N = np.frombuffer(joined.encode("utf-32-le"), np.uint32)
        classes_N = self._classes(points_N)
        ids, lengths = self._by_pieces(joined, points_N, classes_N)
        unclear = set(np.searchsorted(np.flatnonzero(classes_N == _END), np.flatnonzero(classes_N == _UNCLEAR)).tolist())
        unclear |= {number for number, text in enumerate(texts) if _SEPARATOR in text}
        if not unclear:
            return ids, lengths
        parts = np.split(ids, np.cumsum(lengths)[:-1])
        for number in unclear:
            parts[number] = np.array(self._whole.encode(texts[number], add_special_tokens=False).ids, np.uint32)
        return np.concatenate(parts), np.fromiter(map(len, parts), np.int64, len(parts))

    def _by_pieces(self, joined: str, points_N: Points, classes_N: NDArray[np.uint8]) -> tuple[NDArray[np.uint32], Places]:
        starts = np.flatnonzero(piece_starts(points_N, classes_N, self._max_digits))
        is_end = classes_N[starts] == _END
        ends = np.append(starts[1:], len(points_N))
        numbers = _numbers(points_N, starts, ends)[~is_end]
        ids, lengths = self._pieces.ids(joined, numbers, starts[~is_end], ends[~is_end])
        bounds = np.flatnonzero(is_end) - np.arange(np.count_nonzero(is_end))
        totals = np.concatenate(([0], np.cumsum(lengths)))[bounds]
        return ids, np.diff(totals, prepend=0)


def _numbers(points_N: Points, starts: Places, ends: Places) -> NDArray[np.uint64]:
    powers = np.full(len(points_N) + 1, _BASE, np.uint64)
    powers[0] = 1
    powers = np.cumprod(powers)
    sums = np.zeros(len(points_N) + 1, np.uint64)
    np.cumsum((points_N.astype(np.uint64) + np.uint64(1)) * powers[:-1], out=sums[1:])
    return mixed((sums[ends] - sums[starts]) * powers[len(points_N) - starts])
