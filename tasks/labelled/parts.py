"""Parts: repeated inputs, contradictions and leaks taken out, and training items split by group.

In: items of the training, validation and held-out sets. Out: the items of each split. Invariants: an input stands in one split
only; of equal inputs with equal labels one is left; a dropped item is counted under its reason.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

from tasks.contracts import SPLITS, Split
from tasks.core.splits import joined_groups, split_groups
from tasks.labelled.forms import Item
from tasks.labelled.sets import LabelledSpec

Parts = dict[Split, list[Item]]


def divided(spec: LabelledSpec, given: Parts, dropped: Counter[str]) -> Parts:
    """Returns the items of each split; what earlier parts hold is taken from later ones: test, validation, train."""
    parts: Parts = {"train": [], "validation": [], "test": []}
    ids: set[str] = set()
    for split in reversed(SPLITS):
        own = _without_repeats(_with_own_ids(given[split], ids, dropped), spec.conflict, dropped)
        parts[split] = _apart(own, [item for items in parts.values() for item in items], dropped)
    return parts | _set_apart(spec, parts)


def _with_own_ids(items: Iterable[Item], ids: set[str], dropped: Counter[str]) -> list[Item]:
    kept = []
    for item in items:
        if item.id in ids:
            dropped["duplicate_id"] += 1
        else:
            ids.add(item.id)
            kept.append(item)
    return kept


def _without_repeats(items: Sequence[Item], conflict: str, dropped: Counter[str]) -> list[Item]:
    """Leaves one of each input and label; equal inputs with several labels all go, or all stay."""
    first: dict[tuple[str, object], Item] = {}
    for item in items:
        first.setdefault((item.key, item.target), item)
    dropped["duplicate"] += len(items) - len(first)
    if conflict == "keep":
        return list(first.values())
    times = Counter(item.key for item in first.values())
    kept = [item for item in first.values() if times[item.key] == 1]
    dropped["conflict"] += len(first) - len(kept)
    return kept


def _apart(items: Sequence[Item], heldout: Sequence[Item], dropped: Counter[str]) -> list[Item]:
    """Leaves the items that share neither input nor group with those that are held out."""
    keys, groups = {item.key for item in heldout}, {item.group for item in heldout}
    kept = [item for item in items if item.key not in keys and item.group not in groups]
    num_inputs = sum(item.key in keys for item in items)
    dropped["held_out_input"] += num_inputs
    dropped["held_out_group"] += len(items) - len(kept) - num_inputs
    return kept


def _set_apart(spec: LabelledSpec, parts: Parts) -> Parts:
    """Splits the training items where the recipe names no validation or held-out sets."""
    shares: list[tuple[Split, float]] = []
    if not spec.validation:
        shares.append(("validation", spec.validation_share))
    if not spec.heldout:
        shares.append(("test", spec.test_share))
    groups = joined_groups([item.group for item in parts["train"]], [item.key for item in parts["train"]])
    items = [replace(item, group=group) for item, group in zip(parts["train"], groups, strict=True)]
    split_of = split_groups(Counter(item.group for item in items), shares, "train", spec.seed)
    found: Parts = {split: [] for split in ("train", *(split for split, _ in shares))}
    for item in items:
        found[split_of[item.group]].append(item)
    return found
