"""Shingles: a text as a set of 64-bit hashes of its short runs, the form in which texts are compared.

In: texts of one way of writing and the length of their runs. Out: sorted arrays of distinct hashes. Invariant: a text's set hangs
on the text and the length alone, not on the texts beside it.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from tasks.core.ngrams import Hashes, run_hashes, unit_hashes

BY_CHARACTER = frozenset({"zh", "ja", "th"})  # written without spaces between words


def shingle_sets(texts: Sequence[str], size: int, by_character: bool) -> list[Hashes]:
    """Returns for each normalised text the distinct hashes of its runs of `size` words or characters.

    A text shorter than one run is one run; a text without a word or character is {0}.
    """
    units, bounds = unit_hashes(texts, by_character)
    runs = run_hashes(units, size)
    sets = []
    for start, end in pairwise(bounds):
        if end - start >= size:
            sets.append(_distinct(runs[start : end - size + 1]))
        else:
            sets.append(run_hashes(units[start:end], end - start) if end > start else np.zeros(1, dtype=np.uint64))
    return sets


def _distinct(hashes: Hashes) -> Hashes:
    """Returns the distinct hashes in order; for a few hundred numbers sorting beats the hash table of `np.unique`."""
    ordered = np.sort(hashes)
    return ordered[np.concatenate(([True], ordered[1:] != ordered[:-1]))]


def jaccard(first: Hashes, second: Hashes) -> float:
    """Returns the share of hashes that two sets have in common."""
    shared = len(np.intersect1d(first, second, assume_unique=True))
    return shared / (len(first) + len(second) - shared)
