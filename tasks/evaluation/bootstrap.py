"""Intervals by bootstrap over items, or over groups of items where several are of one thing.

In: two numbers an item, or a group, whose sums' ratio is the figure (nats and bytes, hits and 1). Out: the figure and its
interval. Invariants: a model and the one it is compared with are drawn together; equal seeds give equal intervals.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from tasks.contracts import Interval
from tasks.evaluation.specs import BootstrapSpec

Numbers = NDArray[np.float64]
_DRAWS_AT_ONCE = 4_000_000


def ratio_interval(spec: BootstrapSpec, above: Numbers, below: Numbers) -> Interval:
    """Returns sum(above) / sum(below) with its percentile interval over items."""
    return interval_of(spec, float(above.sum() / below.sum()), _resampled(spec, above, below), len(above))


def difference_interval(spec: BootstrapSpec, one: tuple[Numbers, Numbers], other: tuple[Numbers, Numbers]) -> Interval:
    """Returns ratio(one) - ratio(other) with its interval, both drawn from the same items."""
    mean = float(one[0].sum() / one[1].sum() - other[0].sum() / other[1].sum())
    return interval_of(spec, mean, _resampled(spec, *one) - _resampled(spec, *other), len(one[0]))


def _resampled(spec: BootstrapSpec, above: Numbers, below: Numbers) -> Numbers:
    both = np.stack([above, below], axis=1)
    sums = np.concatenate([counts @ both for counts in draws(spec, len(above))])
    return np.asarray(sums[:, 0] / sums[:, 1])


def draws(spec: BootstrapSpec, num_items: int, width: int | None = None) -> Iterator[NDArray[np.int64]]:
    """Yields how often each item is drawn, (resamples, items), some resamples at a time; equal seeds give equal ones.

    Args:
        spec: How many resamples, and the seed.
        num_items: Items, or groups of them.
        width: Numbers that the caller makes of one resample, which bound how many come at a time; none: one an item.
    """
    random = np.random.default_rng([spec.seed, num_items])
    step = max(1, _DRAWS_AT_ONCE // (width or num_items))
    for start in range(0, spec.num_resamples, step):
        size = min(step, spec.num_resamples - start)
        yield random.multinomial(num_items, np.full(num_items, 1 / num_items), size=size)


def interval_of(spec: BootstrapSpec, mean: float, resampled: Numbers, num_items: int) -> Interval:
    """Returns a figure with the percentile interval of its resamples."""
    tail = (1 - spec.confidence) / 2
    low, high = np.quantile(resampled, [tail, 1 - tail])
    return Interval(mean=mean, low=float(low), high=float(high), num_items=num_items)
