"""Splits: a group's place is its hash; no part stays empty while groups are left."""

from collections import Counter

import pytest

from tasks.core.splits import split_groups

NAMES = [f"group {number}" for number in range(400)]
SHARES = [("validation", 0.1), ("test", 0.2)]


def test_shares_hold_on_average_and_added_groups_move_no_other():
    found = split_groups(Counter(NAMES), SHARES, "train", 0)
    counts = [list(found.values()).count(part) for part in ("validation", "test", "train")]
    assert counts == [43, 82, 275]  # of 40, 80 and 280 expected
    few = split_groups(Counter(NAMES[:200]), SHARES, "train", 0)
    assert all(found[name] == part for name, part in few.items())
    assert split_groups(Counter(reversed(NAMES)), SHARES, "train", 0) == found
    assert split_groups(Counter(NAMES), SHARES, "train", 1) != found


@pytest.mark.parametrize(
    ("num_groups", "parts"), [(1, ["train"]), (2, ["validation", "train"]), (3, ["validation", "test", "train"])]
)
def test_few_groups_fill_the_parts_in_turn_and_leave_one_for_the_rest(num_groups, parts):
    tiny = [("validation", 1e-9), ("test", 1e-9)]
    assert sorted(split_groups(Counter(NAMES[:num_groups]), tiny, "train", 0).values()) == sorted(parts)


def test_a_share_never_takes_the_last_group():
    assert list(split_groups(Counter(NAMES[:2]), [("validation", 1.0)], "train", 0).values()).count("train") == 1
    assert split_groups({}, SHARES, "train", 0) == {}


@pytest.mark.parametrize("num_others", [1, 2, 20])
def test_a_group_of_more_than_half_of_the_items_is_of_the_rest(num_others):
    sizes = dict.fromkeys(NAMES[:num_others], 5) | {"big": 900}
    found = [split_groups(sizes, SHARES, "train", seed) for seed in range(51)]
    assert {parts["big"] for parts in found} == {"train"}
    assert all("validation" in parts.values() for parts in found)
