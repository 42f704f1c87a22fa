"""Intervals against the library's own bootstrap."""

import numpy as np
import pytest
from scipy.stats import bootstrap

from tasks.evaluation.bootstrap import difference_interval, ratio_interval
from tasks.evaluation.metrics import Unit
from tasks.evaluation.score import columns, measure
from tasks.evaluation.specs import BootstrapSpec

SPEC = BootstrapSpec(num_resamples=20_000)


def test_a_ratio_of_sums_and_its_interval_agree_with_scipy() -> None:
    random = np.random.default_rng(0)
    below = random.uniform(5, 50, 40)
    above = below * random.normal(2.0, 0.5, 40)
    ours = ratio_interval(SPEC, above, below)
    theirs = bootstrap(
        (above, below),
        lambda x, y, axis: x.sum(axis) / y.sum(axis),
        paired=True,
        method="percentile",
        n_resamples=20_000,
        rng=1,
    ).confidence_interval
    assert ours.mean == pytest.approx(above.sum() / below.sum())
    assert ours.num_items == 40
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.01)


def test_a_difference_is_drawn_in_pairs() -> None:
    random = np.random.default_rng(0)
    ones, base = np.ones(60), random.normal(5, 3, 60)
    ours = difference_interval(SPEC, (base - 0.5 + random.normal(0, 0.05, 60), ones), (base, ones))
    assert ours.mean == pytest.approx(-0.5, abs=0.02)
    assert ours.high - ours.low < 0.04  # the spread of the items themselves, about 1.5 wide, is in both
    apart = [ratio_interval(SPEC, column, ones) for column in (base, base - 0.5)]
    assert apart[0].high - apart[0].low > 1


def test_equal_models_differ_by_exactly_0() -> None:
    numbers = np.array([1.0, 2.0, 5.0])
    interval = difference_interval(SPEC, (numbers, numbers + 1), (numbers, numbers + 1))
    assert (interval.mean, interval.low, interval.high) == (0, 0, 0)


def test_equal_seeds_give_equal_intervals_and_others_do_not() -> None:
    above, below = np.arange(30.0), np.full(30, 2.0)
    one = ratio_interval(SPEC, above, below)
    assert one == ratio_interval(SPEC, above, below)
    assert one != ratio_interval(SPEC.model_copy(update={"seed": 1}), above, below)


def test_drawing_in_parts_is_drawing_all(monkeypatch: pytest.MonkeyPatch) -> None:
    above, below = np.arange(30.0), np.full(30, 2.0)
    whole = ratio_interval(SPEC, above, below)
    monkeypatch.setattr("tasks.evaluation.bootstrap._DRAWS_AT_ONCE", 3_000)
    assert ratio_interval(SPEC, above, below) == whole


def test_items_of_one_group_are_drawn_together() -> None:
    """Four renderings of each of ten pages tell no more of the model than ten pages do."""
    nats = np.random.default_rng(0).normal(5, 2, 10)
    apart = {f"{page}": Unit(nats[page], 1.0, f"{page}") for page in range(10)}
    copied = {f"{page}-{copy}": Unit(nats[page], 1.0, f"{page}") for copy in range(4) for page in range(10)}
    one, four = (measure(SPEC, {"loss": units})["loss"] for units in (apart, copied))
    assert (four.mean, four.low, four.high) == pytest.approx((one.mean, one.low, one.high))
    assert four.num_items == one.num_items == 10
    assert one == ratio_interval(SPEC, *columns(apart)) == ratio_interval(SPEC, nats, np.ones(10))
