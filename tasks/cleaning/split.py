"""One split of a text, shared by every rule: its words, where they start, and a number for each run of words.

In: text and a word tokenizer. Out: `Split`, arrays over words. Invariant: runs of words have the same number where
they are the same, as far as 64 bits tell.

Method: prefix sums of a polynomial over the characters (Karp and Rabin 1987) modulo 2**64, so that the number of a run is
one subtraction and one product, for all runs of a text at once.
"""

from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Numbers = NDArray[np.uint64]

_BASE = 0x9E3779B97F4A7C15  # odd, so that no product loses a bit
_SPREAD = np.uint64(0xD6E8FEB86659FD93)
_SHIFT = np.uint64(32)
_FIRST_POWERS = 1 << 16


class Split:
    """The words of one text.

    Attributes:
        words: The words in their order.
    """

    def __init__(self, words: list[str]) -> None:
        self.words = words

    @cached_property
    def starts(self) -> Ints:
        """Place of each word's first character in the words joined, and of the end: [words + 1]."""
        starts = np.zeros(len(self.words) + 1, np.int64)
        np.cumsum(np.fromiter(map(len, self.words), np.int64, len(self.words)), out=starts[1:])
        return starts

    @cached_property
    def code_points(self) -> NDArray[np.uint32]:
        """Characters of the words joined."""
        return np.frombuffer("".join(self.words).encode("utf-32-le", "surrogatepass"), np.uint32)

    def run_chars(self, n: int) -> Ints:
        """Characters in each run of n words: [words - n + 1]."""
        return self.starts[n:] - self.starts[:-n]

    def joined_runs(self, n: int) -> Numbers:
        """A number for each run of n words, the same where the words joined are: [words - n + 1]."""
        return (self._sums[n:] - self._sums[:-n]) * self._shifts[: len(self.words) - n + 1]

    def spaced_runs(self, n: int) -> Numbers:
        """A number for each run of n words, the same where the words are, one by one: [words - n + 1]."""
        num_runs = len(self.words) - n + 1
        numbers = self._word_numbers[:num_runs]
        for place in range(1, n):
            numbers = numbers * _SPREAD + self._word_numbers[place : num_runs + place]
        return numbers

    @cached_property
    def ordered_pairs(self) -> Numbers:
        """The numbers of all runs of two words in order."""
        return np.sort(self.spaced_runs(2))

    @cached_property
    def _sums(self) -> Numbers:
        """The polynomial of all characters before each word, and of all: [words + 1]."""
        sums = np.zeros(len(self.code_points) + 1, np.uint64)
        np.cumsum(self.code_points * _powers(len(self.code_points))[: len(self.code_points)], out=sums[1:])
        return sums[self.starts]

    @cached_property
    def _shifts(self) -> Numbers:
        """Powers that move each run to the same place."""
        size = len(self.code_points)
        return _powers(size)[size - self.starts[:-1]]

    @cached_property
    def _word_numbers(self) -> Numbers:
        numbers = self.joined_runs(1)
        return (numbers ^ (numbers >> _SHIFT)) * _SPREAD


def _powers(size: int) -> Numbers:
    """Returns at least the powers 0 to `size` of the base."""
    length = _FIRST_POWERS
    while length <= size:
        length *= 2
    return _power_table(length)


@lru_cache(maxsize=1)
def _power_table(length: int) -> Numbers:
    powers = np.full(length, _BASE, np.uint64)
    powers[0] = 1
    return np.multiply.accumulate(powers)


@lru_cache(maxsize=2)
def split_of(text: str, tokenizer: Any) -> Split:
    """Returns the split of a text; rules that ask one after the other share it."""
    return Split(tokenizer.word_tokenize(text))


def top_run_chars(split: Split, n: int, needed: float) -> int:
    """Returns the characters in all copies of the most frequent run of n words, the first of several as frequent.

    Where not even the longest run as often would have more than `needed` characters, that is 0.
    """
    if len(split.words) < n:
        return 0
    chars = split.run_chars(n) + n - 1
    longest = int(chars.max())
    most = int(needed) // longest
    if not _more_copies(split.ordered_pairs, most):  # no longer run is more frequent
        return 0
    numbers = split.spaced_runs(n)
    ordered = np.sort(numbers)
    if not _more_copies(ordered, most):
        return 0
    first, counts = _counted(ordered)
    count = int(counts.max())
    place = int(np.isin(numbers, first[counts == count]).argmax())
    return count * int(chars[place])


def repeated_run_chars(split: Split, n: int, needed: float) -> int:
    """Returns the characters in runs of n words that stood earlier in the text; runs counted do not overlap.

    Where all later copies, overlapping or not, would not have more than `needed` characters, that is 0.
    """
    if len(split.words) <= n:
        return 0
    numbers = split.joined_runs(n)
    if not _more_copies(np.sort(numbers), 1):
        return 0
    order = np.argsort(numbers)
    is_copy = numbers[order[1:]] == numbers[order[:-1]]
    chars = split.run_chars(n)
    if int(chars[order[1:][is_copy]].sum()) <= needed:  # runs joined to the same text are of one length
        return 0
    repeated = np.zeros(len(numbers), np.bool_)
    repeated[order[1:][is_copy]] = repeated[order[:-1][is_copy]] = True
    places = np.flatnonzero(repeated)
    seen, total, free = set(), 0, 0
    for place, number, length in zip(places.tolist(), numbers[places].tolist(), chars[places].tolist(), strict=True):
        if place < free:
            continue
        if number in seen:
            total += length
            free = place + n
        else:
            seen.add(number)
    return total


def _more_copies(ordered: Numbers, count: int) -> bool:
    """Says whether any number of a sorted array stands there more than `count` times."""
    return count < len(ordered) and bool((ordered[count:] == ordered[: len(ordered) - count]).any())


def _counted(ordered: Numbers) -> tuple[Numbers, Ints]:
    """Returns the different numbers of a sorted array, and how often each stands there."""
    first = np.concatenate(([0], np.flatnonzero(ordered[1:] != ordered[:-1]) + 1))
    return ordered[first], np.diff(first, append=len(ordered))
