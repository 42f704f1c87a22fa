"""Warnings: where figures on the validation split may mislead.

In: the documents of all splits and their tokens. Out: one line for each warning; they travel to the model card. Invariant:
a warning says what was seen, what was asked for and what to do.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from math import sqrt
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tasks.contracts import Split
from tasks.core.shards import Tokens
from tasks.core.tables import numbers, take_rows, where_equal
from tasks.tokenization.specs import EncodeSpec

if TYPE_CHECKING:
    import pyarrow as pa

_Z_95 = 1.96


def split_warnings(spec: EncodeSpec, documents: "pa.Table", files: Sequence[Tokens]) -> tuple[str, ...]:
    """Returns the warnings on the validation split.

    Args:
        spec: What is asked for.
        documents: Documents in the order of their tokens (split, lang, source, num_tokens, num_bytes, piece).
        files: Tokens of each piece.
    """
    warnings = [
        f"validation has other {what}s than training: shares differ by {gap:.2f}, at most {spec.max_share_gap} is asked for; "
        "raise dedup.validation_share"
        for what in ("lang", "source")
        if (gap := share_gap(documents, what)) > spec.max_share_gap
    ]
    num_validation = int(_is_in(documents, "validation").sum())
    interval = interval_bits(documents, files)
    if interval is None or interval > spec.max_interval_bits:
        seen = "cannot be told" if interval is None else f"is about +-{interval:.3f} bits per byte"
        warnings.append(
            f"validation is small ({num_validation} documents): its 95% interval {seen}, "
            f"+-{spec.max_interval_bits} is asked for; raise dedup.validation_share"
        )
    return tuple(warnings)


def share_gap(documents: "pa.Table", what: str) -> float:
    """Returns the total variation of the token shares by `what` of training and validation (0: alike, 1: nothing in common)."""
    one, other = (_shares(of_split(documents, split), what) for split in ("train", "validation"))
    return sum(abs(one.get(name, 0.0) - other.get(name, 0.0)) for name in one.keys() | other.keys()) / 2


def of_split(documents: "pa.Table", split: Split) -> "pa.Table":
    """Returns the documents of a split, in their order."""
    return take_rows(documents, np.flatnonzero(_is_in(documents, split)))


def _shares(documents: "pa.Table", what: str) -> dict[str, float]:
    totals = sums_by(documents, what)
    return {name: count / sum(totals.values()) for name, count in totals.items()}


def sums_by(documents: "pa.Table", what: str) -> dict[str, int]:
    """Returns the tokens of the documents by a column."""
    totals: Counter[str] = Counter()
    for name, count in zip(documents.column(what).to_pylist(), documents.column("num_tokens").to_pylist(), strict=True):
        totals[name] += count
    return dict(totals)


def interval_bits(documents: "pa.Table", files: Sequence[Tokens]) -> float | None:
    """Returns half the width of the 95% interval of validation bits per byte, before there is a model to measure it.

    A unigram model of the training tokens stands in for the model: documents that are hard for it are hard for others. The
    interval is that of a ratio of means over documents (delta method); with fewer than two documents there is none.
    """
    is_validation_D = _is_in(documents, "validation")
    if is_validation_D.sum() < 2:
        return None
    bits_V = _unigram_bits(documents, files)
    bits_D = np.concatenate([_document_bits(bits_V, *part) for part in _parts(documents, files, "validation")])
    num_bytes_D = numbers(documents, "num_bytes")[is_validation_D].astype(np.float64)
    residual_D = bits_D - bits_D.sum() / num_bytes_D.sum() * num_bytes_D
    return float(_Z_95 * residual_D.std(ddof=1) * sqrt(len(bits_D)) / num_bytes_D.sum())


def _is_in(documents: "pa.Table", split: Split) -> NDArray[np.bool_]:
    return where_equal(documents, "split", split)


def _parts(documents: "pa.Table", files: Sequence[Tokens], split: Split) -> Iterator[tuple[Tokens, NDArray[np.int64]]]:
    """Yields the tokens of a split, a piece at a time, and how many each document has."""
    is_in_D, piece_D, num_tokens_D = _is_in(documents, split), numbers(documents, "piece"), numbers(documents, "num_tokens")
    bounds = np.searchsorted(piece_D, np.arange(len(files) + 1))
    for number, tokens_N in enumerate(files):
        mine = slice(bounds[number], bounds[number + 1])
        yield tokens_N[np.repeat(is_in_D[mine], num_tokens_D[mine])], num_tokens_D[mine][is_in_D[mine]]


def _unigram_bits(documents: "pa.Table", files: Sequence[Tokens]) -> NDArray[np.float64]:
    size = int(max((tokens_N.max(initial=0) for tokens_N in files), default=0)) + 1
    counts_V = np.ones(size)
    for tokens_N, _ in _parts(documents, files, "train"):
        counts_V += np.bincount(tokens_N, minlength=size)
    bits_V: NDArray[np.float64] = np.log2(counts_V.sum()) - np.log2(counts_V)
    return bits_V


def _document_bits(bits_V: NDArray[np.float64], tokens_N: Tokens, num_tokens_D: NDArray[np.int64]) -> NDArray[np.float64]:
    """Returns the bits of each document; none of them is empty, for all end with a token."""
    return np.add.reduceat(bits_V[tokens_N], np.cumsum(num_tokens_D) - num_tokens_D) if len(num_tokens_D) else np.zeros(0)
