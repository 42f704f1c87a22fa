"""Splits: which part a group of items lies in, by the hash of its name.

In: groups with their sizes, shares. Out: the part of each group. Invariants: where a group lies depends on its name and the seed
alone, so items that are added move no other, unless they join two groups or make one most of all; no part stays empty while there
are groups enough.
"""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import TypeVar

from tasks.core.union_find import UnionFind

S = TypeVar("S", bound=str)


def joined_groups(groups: Sequence[str], keys: Sequence[str]) -> list[str]:
    """Returns the group of each item; groups that share a key are one, under the name of the first."""
    place = {group: number for number, group in enumerate(dict.fromkeys(groups))}
    sets = UnionFind(len(place))
    first: dict[str, str] = {}
    for group, key in zip(groups, keys, strict=True):
        sets.join(place[first.setdefault(key, group)], place[group])
    names = list(place)
    return [names[sets.find(place[group])] for group in groups]


def split_groups(sizes: Mapping[str, int], shares: Sequence[tuple[S, float]], rest: S, seed: int) -> dict[str, S]:
    """Returns the part of each group: each share in turn takes its stretch of the hashes, the rest is `rest`.

    Shares are of groups, not of items, and hold on average. A part that would be empty takes the next group in the order of the
    hashes, as long as one is left for the rest. A group of more than half of the items is of the rest, wherever its hash lies.
    """
    half = sum(sizes.values()) / 2
    place = {group: _fraction(f"{seed}:{group}") for group in sizes}
    waiting = sorted(place, key=lambda group: (sizes[group] > half, place[group]))
    part_of: dict[str, S] = {}
    bound, first = 0.0, 0
    for part, share in shares:
        bound += share
        end = first
        while end < len(waiting) - 1 and (place[waiting[end]] <= bound or end == first):
            end += 1
        part_of |= dict.fromkeys(waiting[first:end], part)
        first = end
    return part_of | dict.fromkeys(waiting[first:], rest)


def _fraction(text: str) -> float:
    """Returns a number in [0, 1) that depends on the text alone."""
    return int.from_bytes(sha256(text.encode("utf-8")).digest()[:6], "big") / 2**48
