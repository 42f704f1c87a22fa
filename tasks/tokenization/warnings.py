"""Warnings: where figures on the validation split may mislead.

In: the documents of each split and their tokens. Out: one line for each warning; they travel to the model card. Invariant:
a warning says what was seen, what was asked for and what to do.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from math import log2, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.contracts import Split
from tasks.core.shards import Tokens
from tasks.tokenization.specs import EncodeSpec

_Z_95 = 1.96


def split_warnings(spec: EncodeSpec, by_split: Mapping[Split, Sequence[Any]], files: Sequence[Tokens]) -> tuple[str, ...]:
    """Returns the warnings on the validation split."""
    train, validation = by_split["train"], by_split["validation"]
    warnings = [
        f"validation has other {what}s than training: shares differ by {gap:.2f}, at most {spec.max_share_gap} is asked for; "
        "raise dedup.validation_share"
        for what in ("lang", "source")
        if (gap := share_gap(train, validation, what)) > spec.max_share_gap
    ]
    interval = interval_bits(train, validation, files)
    if interval is None or interval > spec.max_interval_bits:
        seen = "cannot be told" if interval is None else f"is about +-{interval:.3f} bits per byte"
        warnings.append(
            f"validation is small ({len(validation)} documents): its 95% interval {seen}, "
            f"+-{spec.max_interval_bits} is asked for; raise dedup.validation_share"
        )
    return tuple(warnings)


def share_gap(first: Sequence[Any], second: Sequence[Any], what: str) -> float:
    """Returns the total variation of two splits' token shares by `what` (0: alike, 1: nothing in common)."""
    one, other = _shares(first, what), _shares(second, what)
    return sum(abs(one.get(name, 0.0) - other.get(name, 0.0)) for name in one.keys() | other.keys()) / 2


def _shares(documents: Sequence[Any], what: str) -> dict[str, float]:
    totals: Counter[str] = Counter()
    for document in documents:
        totals[getattr(document, what)] += document.num_tokens
    return {name: count / totals.total() for name, count in totals.items()}


def interval_bits(train: Sequence[Any], validation: Sequence[Any], files: Sequence[Tokens]) -> float | None:
    """Returns half the width of the 95% interval of validation bits per byte, before there is a model to measure it.

    A unigram model of the training tokens stands in for the model: documents that are hard for it are hard for others. The
    interval is that of a ratio of means over documents (delta method); with fewer than two documents there is none.
    """
    if len(validation) < 2:
        return None
    bits_by_token = _unigram_bits(train, files)
    bits = np.array([bits_by_token[_tokens(one, files)].sum() for one in validation])
    num_bytes = np.array([one.num_bytes for one in validation], dtype=np.float64)
    residual = bits - bits.sum() / num_bytes.sum() * num_bytes
    return float(_Z_95 * residual.std(ddof=1) * sqrt(len(validation)) / num_bytes.sum())


def _unigram_bits(documents: Sequence[Any], files: Sequence[Tokens]) -> NDArray[np.float64]:
    size = int(max((file.max(initial=0) for file in files), default=0)) + 1
    counts = np.ones(size)
    for document in documents:
        counts += np.bincount(_tokens(document, files), minlength=size)
    return log2(counts.sum()) - np.log2(counts)


def _tokens(document: Any, files: Sequence[Tokens]) -> Tokens:
    tokens: Tokens = files[document.piece][document.start : document.start + document.num_tokens]
    return tokens
