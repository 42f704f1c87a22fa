"""Drift: how far a corpus has moved from the one behind the last registered model.

In: the documents table now, and the small profile of the registered corpus. Out: one number a measure. Invariants: a registered
version keeps quantiles and shares only, a few hundred kilobytes whatever the corpus; the same tables give the same numbers.

Kolmogorov-Smirnov statistic: largest distance of two distribution functions. Population stability index (Siddiqi 2006): the sum
of (p - q) ln(p / q) over bins, q being the registered shares and p those of now. Both move by chance where documents are few.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_quality.profile import COMPARED, TABLES
from tasks.core.tables import Row, Schema, read_rows, write_table

PROFILE: dict[str, Schema] = {
    "quantiles": {"column": "string", "place": "int64", "value": "float64"},
    "shares": {"column": "string", "name": "string", "share": "float64"},
}
Profile = dict[str, list[Row]]

_NUM_STEPS = 1_000  # of the quantiles that are kept: a statistic is off by at most a thousandth
_NUM_BINS = 10
MIN_COMPARED = 200  # documents: of 100 that have not moved, one in four corpora is said to have
_SMALLEST_SHARE = 1e-4  # of a bin, so that an empty one has a logarithm


def profile_of(documents: Sequence[Row]) -> Profile:
    """Returns what is kept of a corpus: quantiles of each numeric column, the share of documents of each name."""
    quantiles, shares = [], []
    for column in COMPARED:
        values = [row[column] for row in documents]
        if TABLES["documents"][column] == "string":
            for name, count in sorted(Counter(values).items()):
                shares.append({"column": column, "name": name, "share": count / len(values)})
        elif values:
            found = np.quantile(values, np.linspace(0, 1, _NUM_STEPS + 1), method="inverted_cdf")
            quantiles += [{"column": column, "place": place, "value": float(value)} for place, value in enumerate(found)]
    return {"quantiles": quantiles, "shares": shares}


def write_profile(folder: Path, profile: Profile) -> None:
    """Writes the profile's two tables."""
    for name, schema in PROFILE.items():
        write_table(folder / f"{name}.parquet", schema, profile[name])


def read_profile(folder: Path) -> Profile:
    """Reads what `write_profile` wrote."""
    return {name: list(read_rows(folder / f"{name}.parquet")) for name in PROFILE}


def measured(column: str, measure: str, documents: Sequence[Row], registered: Profile) -> float:
    """Returns the drift of one column."""
    values = [row[column] for row in documents]
    if TABLES["documents"][column] == "string":
        before = {row["name"]: row["share"] for row in registered["shares"] if row["column"] == column}
        return _psi({name: count / len(values) for name, count in Counter(values).items()}, before)
    grid = [row["value"] for row in registered["quantiles"] if row["column"] == column]
    return _ks(values, grid) if measure == "ks" else _binned_psi(values, grid)


def _ks(values: Sequence[float], grid: Sequence[float]) -> float:
    from scipy.stats import ks_2samp

    return float(ks_2samp(values, grid, method="asymp").statistic)


def _binned_psi(values: Sequence[float], grid: Sequence[float]) -> float:
    """Returns the index over bins that end at the tenths of the registered values; equal ends are one bin."""
    edges = np.unique(np.quantile(grid, np.linspace(0, 1, _NUM_BINS + 1)[1:-1], method="inverted_cdf"))
    return _psi(_binned(values, edges), _binned(grid, edges))


def _binned(values: Sequence[float], edges: Any) -> dict[str, float]:
    counts = np.bincount(np.searchsorted(edges, values), minlength=len(edges) + 1)
    return {str(place): float(count) / len(values) for place, count in enumerate(counts)}


def _psi(now: Mapping[str, float], before: Mapping[str, float]) -> float:
    pairs = [(now.get(name, 0.0), before.get(name, 0.0)) for name in sorted({*now, *before})]
    floored = [(max(p, _SMALLEST_SHARE), max(q, _SMALLEST_SHARE)) for p, q in pairs]
    return sum((p - q) * math.log(p / q) for p, q in floored)
