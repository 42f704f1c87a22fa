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
    place = {name: _fraction(f"{seed}:{name}") for name in names}
    splits = {name: _split(value, validation_share, test_share) for name, value in place.items()}
    if len(names) >= _MIN_CLUSTERS:
        _fill_empty(splits, sorted(names, key=place.__getitem__))
    return splits


def _split(fraction: float, validation_share: float, test_share: float) -> Split:
    if fraction < test_share:
        return "test"
    return "validation" if fraction < test_share + validation_share else "train"


def _fill_empty(splits: dict[str, Split], in_order: list[str]) -> None:
    """Gives an empty split the document that lies nearest to it."""
    if "test" not in splits.values():
        splits[in_order[0]] = "test"
    if "validation" not in splits.values():
        splits[next(name for name in in_order[1:] if splits[name] == "train" or list(splits.values()).count("test") > 1)] = (
            "validation"
        )
    if "train" not in splits.values():
        splits[in_order[-1]] = "train"


def _fraction(text: str) -> float:
    """Returns a number in [0, 1) that depends on the text alone."""
    return int.from_bytes(sha256(text.encode("utf-8")).digest()[:6], "big") / 2**48
