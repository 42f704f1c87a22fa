"""Profile: labelled data as small tables of numbers.

In: `Labelled`, what was said of its labels. Out: the tables `items`, `splits`, `labels`, `scores`, `reasons` and `data`.
Invariant: numbers and names only; no text of an item ever enters a table.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from data_quality.labelled.judged import Judged
from data_quality.profile import Tables, text_key
from tasks.contracts import SPLITS, Labelled
from tasks.core.tables import Row
from tasks.core.text import normalized

_NUM_BINS = 20
_BROKEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffd]")


def profile(labelled: Labelled, items: Sequence[Row], judged: Sequence[Judged], suspect_below: float) -> Tables:
    """Returns the rows of every table."""
    return {
        "items": [_numbers(item) for item in items],
        "splits": _splits(items),
        "labels": _labels(labelled, items),
        "scores": _scores(labelled, items),
        "reasons": _reasons(labelled),
        "data": [_totals(labelled, items) | _suspects(labelled, judged, suspect_below)],
    }


def _numbers(item: Row) -> Row:
    text = item["text"] + (item["text_pair"] or "")
    return {
        "split": item["split"],
        "id_key": text_key(item["id"]),
        "num_chars": len(text),
        "num_broken": len(_BROKEN.findall(text)),
    }


def _splits(items: Sequence[Row]) -> list[Row]:
    scores: dict[str, list[float]] = {split: [item["value"] for item in items if item["split"] == split] for split in SPLITS}
    train = [score for score in scores["train"] if score is not None]
    low, high = min(train, default=0.0), max(train, default=0.0)
    return [
        {"split": split, "num_items": len(own), "share": len(own) / max(1, len(items))}
        | {"outside_share": sum(score is not None and not low <= score <= high for score in own) / max(1, len(own))}
        for split, own in scores.items()
    ]


def _labels(labelled: Labelled, items: Sequence[Row]) -> list[Row]:
    """Counts items, or words, of each label; shares are of all items, or of all words."""
    counts: dict[str, Counter[str]] = {split: Counter() for split in SPLITS}
    for item in items:
        counts[item["split"]].update(item["labels"] or ())
    total = sum(len(item["words"]) if item["words"] is not None else 1 for item in items)
    rows = []
    for name in labelled.label_names:
        train, validation, test = (counts[split][name] for split in SPLITS)
        rows.append(
            {"label": name, "num_items": train + validation + test, "num_train": train, "num_validation": validation}
            | {
                "num_test": test,
                "num_fewest_heldout": min(validation, test),
                "share": (train + validation + test) / max(1, total),
            }
        )
    return rows


def _scores(labelled: Labelled, items: Sequence[Row]) -> list[Row]:
    if labelled.value_range is None:
        return []
    counts, edges = np.histogram([item["value"] for item in items], bins=_NUM_BINS, range=labelled.value_range)
    return [
        {"from": float(low), "to": float(high), "num_items": int(count), "share": float(count) / len(items)}
        for low, high, count in zip(edges, edges[1:], counts, strict=False)
    ]


def _reasons(labelled: Labelled) -> list[Row]:
    ordered = sorted(labelled.dropped_by_reason.items(), key=lambda item: (-item[1], item[0]))
    total = max(1, labelled.num_items_in)
    return [{"stage": "labelled", "reason": name, "num_documents": count, "share": count / total} for name, count in ordered]


def _totals(labelled: Labelled, items: Sequence[Row]) -> Row:
    dropped = Counter(labelled.dropped_by_reason)
    num_read = max(1, labelled.num_items_in - dropped["not_selected"])
    targets: dict[str, set[Any]] = defaultdict(set)
    for item in items:
        targets[_input(item)].add(_target(item))
    num_kept_conflicts = sum(len(targets[_input(item)]) > 1 for item in items)
    scores = Counter(item["value"] for item in items if item["value"] is not None)
    chars = np.percentile([len(item["text"]) + len(item["text_pair"] or "") for item in items], [50, 90, 99, 100])
    return {
        "num_items_in": labelled.num_items_in,
        "num_items": len(items),
        "num_same_items": len(items) - sum(map(len, targets.values())),
        "num_inputs_in_two_splits": _in_two_splits((_input(item), item["split"]) for item in items),
        "num_groups_in_two_splits": _in_two_splits((item["group"], item["split"]) for item in items),
        "dropped_share": (dropped.total() - dropped["not_selected"]) / num_read,
        "duplicate_share": dropped["duplicate"] / num_read,
        "conflict_share": (dropped["conflict"] + num_kept_conflicts) / num_read,
        "num_scores": len(scores),
        "equal_scores_share": max(scores.values(), default=0) / max(1, len(items)),
    } | {f"chars_{name}": float(value) for name, value in zip(("p50", "p90", "p99", "max"), chars, strict=True)}


def _suspects(labelled: Labelled, judged: Sequence[Judged], suspect_below: float) -> Row:
    """Counts suspect labels; where no item could be judged there are no shares, and a check of them fails."""
    num_suspect = sum(one.probability < suspect_below for one in judged)
    share = num_suspect / len(judged) if judged else None
    gain = _agreement(judged) if labelled.task in ("classification", "multi_label") else None
    return {"num_judged": len(judged), "num_suspect": num_suspect, "suspect_share": share, "agreement_gain": gain}


def _agreement(judged: Sequence[Judged]) -> float | None:
    """Returns how much of each label, on average, the model finds above what guessing would find: 0 where labels are drawn."""
    found: defaultdict[tuple[str, ...], list[bool]] = defaultdict(list)
    for one in judged:
        found[one.given].append(set(one.likely) == set(one.given))
    return sum(sum(hits) / len(hits) for hits in found.values()) / len(found) - 1 / len(found) if found else None


def _input(item: Row) -> str:
    return "\x1f".join(normalized(part) for part in (item["text"], item["text_pair"]) if part is not None)


def _target(item: Row) -> Any:
    return item["value"] if item["labels"] is None else tuple(item["labels"])


def _in_two_splits(pairs: Any) -> int:
    splits: defaultdict[str, set[str]] = defaultdict(set)
    for name, split in pairs:
        splits[name].add(split)
    return sum(len(found) > 1 for found in splits.values())
