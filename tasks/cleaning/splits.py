"""Splits: which documents are for training, for validation and for the test.

In: the cluster and language of each kept document. Out: the split of each cluster. Invariants: the split hangs on the
hash of the cluster alone, so documents that are added later move none; each split has a document of each language that
has at least three.
"""

from collections import defaultdict
from collections.abc import Iterable
from hashlib import sha256

from tasks.contracts import Split

_MIN_CLUSTERS = 3


def assign_splits(clusters: Iterable[tuple[str, str]], validation_share: float, test_share: float, seed: int) -> dict[str, Split]:
    """Returns the split of each `(cluster, language)`."""
    by_language: dict[str, list[str]] = defaultdict(list)
    for cluster, lang in clusters:
        by_language[lang].append(cluster)
    return {
        cluster: split
        for names in by_language.values()
        for cluster, split in _assign(sorted(set(names)), validation_share, test_share, seed).items()
    }


def _assign(names: list[str], validation_share: float, test_share: float, seed: int) -> dict[str, Split]:
    """Splits in the order of the hashes: test lies lowest, then validation, then training."""
    place = {name: _fraction(f"{seed}:{name}") for name in names}
    num_test = sum(value < test_share for value in place.values())
    num_validation = sum(value < test_share + validation_share for value in place.values()) - num_test
    if len(names) >= _MIN_CLUSTERS:
        num_test, num_validation = _none_empty(num_test, num_validation, len(names))
    counts: dict[Split, int] = {"test": num_test, "validation": num_validation, "train": len(names) - num_test - num_validation}
    splits = [split for split, count in counts.items() for _ in range(count)]
    return dict(zip(sorted(names, key=place.__getitem__), splits, strict=True))


def _none_empty(num_test: int, num_validation: int, total: int) -> tuple[int, int]:
    """Returns the two counts, moved as little as needed for each split to have one."""
    num_test, num_validation = max(1, num_test), max(1, num_validation)
    while num_test + num_validation >= total:
        if num_test >= num_validation:
            num_test -= 1
        else:
            num_validation -= 1
    return num_test, num_validation


def _fraction(text: str) -> float:
    """Returns a number in [0, 1) that depends on the text alone."""
    return int.from_bytes(sha256(text.encode("utf-8")).digest()[:6], "big") / 2**48
