"""Metrics of labelled text by hand, against other ways of computing them, and under resampling."""

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest

from tasks.contracts import LabelledTask
from tasks.evaluation.bootstrap import draws
from tasks.evaluation.label_metrics import METRICS, differences, measure, metric_named
from tasks.evaluation.label_tables import Predictions
from tasks.evaluation.specs import BootstrapSpec
from tasks.modeling import label_sums

SPEC = BootstrapSpec(num_resamples=400, seed=1)


def classes(truth: str, said: str, scores: list[float] | None = None) -> Predictions:
    """Items of labels a, b, c; the label said has the score."""
    names = ("a", "b", "c")
    rows = [
        tuple(score if name == label else 0.0 for name in names)
        for label, score in zip(said, scores or [1.0] * len(said), strict=True)
    ]
    nats = np.arange(1.0, len(truth) + 1)
    labels = (tuple((label,) for label in text) for text in (truth, said))
    ids = tuple(f"i{number}" for number in range(len(truth)))
    return Predictions("classification", names, ids, ("set",) * len(truth), *labels, tuple(rows), 0 * nats, 0 * nats, nats)


def values(truth: np.ndarray, said: np.ndarray) -> Predictions:
    nothing = tuple(() for _ in truth)
    ids = tuple(f"i{number}" for number in range(len(truth)))
    return Predictions("regression", (), ids, ("set",) * len(truth), nothing, nothing, nothing, truth, said, np.zeros(len(truth)))


def figure(found: Predictions, name: str) -> float:
    return measure(SPEC, found)[name].mean


def test_classes_by_hand() -> None:
    found = classes("aaabbc", "aabbbb")
    assert figure(found, "accuracy") == pytest.approx(4 / 6)
    # a: 2 of 3 found, all said right; b: both found, 2 of 4 said right; c: never said.
    assert figure(found, "macro_f1") == pytest.approx((4 / 5 + 4 / 6 + 0) / 3)
    # Gorodkin: (4 * 6 - (2*3 + 4*2 + 0*1)) / sqrt((36 - 4 - 16) * (36 - 9 - 4 - 1))
    assert figure(found, "mcc") == pytest.approx((24 - 14) / np.sqrt(16 * 22))
    assert figure(found, "loss") == pytest.approx(3.5)


def test_a_constant_answer_has_no_correlation() -> None:
    assert figure(classes("aabb", "aaaa"), "mcc") == 0
    assert figure(values(np.arange(5.0), np.full(5, 3.3)), "pearson") == 0
    assert figure(values(np.arange(5.0), np.full(5, 3.3)), "spearman") == 0


def test_calibration_by_hand() -> None:
    # Two at 0.9 of which one is right, two at 0.6 (another bin) both right: (|1.8 - 1| + |1.2 - 2|) / 4.
    assert figure(classes("aabb", "abbb", [0.9, 0.9, 0.6, 0.6]), "calibration_error") == pytest.approx(1.6 / 4)


def test_a_word_of_which_nothing_is_said_is_no_prediction() -> None:
    truth, said = (("a", "b", "a"), ("b", "a")), (("a", None, "b"), ("b", None))
    scores = ((0.9, 0.0, 0.6), (0.9,))
    found = Predictions("token_classification", ("a", "b"), ("1", "2"), ("set",) * 2, truth, said, scores, *np.ones((3, 2)))
    assert figure(found, "calibration_error") == pytest.approx((0.2 + 0.6) / 3)


def test_many_labels_by_hand() -> None:
    truth, said = (("a", "b"), ("c",), ()), (("a",), ("c", "b"), ())
    found = Predictions(
        "multi_label", ("a", "b", "c"), ("1", "2", "3"), ("set",) * 3, truth, said, ((), (), ()), *np.ones((3, 3))
    )
    assert figure(found, "accuracy") == pytest.approx(1 / 3)
    assert figure(found, "micro_f1") == pytest.approx(2 * 2 / (3 + 3))
    assert figure(found, "macro_f1") == pytest.approx((1 + 0 + 1) / 3)


def test_words_count_by_item_and_cut_ones_are_wrong() -> None:
    truth, said = (("a", "b", "b"), ("a",)), (("a", "b", None), ("b",))
    scores = ((0.9, 0.8), (0.7,))
    found = Predictions(
        "token_classification", ("a", "b"), ("1", "2"), ("set",) * 2, truth, said, scores, *np.zeros((2, 2)), np.array([1.0, 2.0])
    )
    assert figure(found, "accuracy") == pytest.approx(2 / 4)
    assert figure(found, "loss") == pytest.approx(3 / 3)  # over the words that were judged
    assert measure(SPEC, found)["accuracy"].num_items == 2


def test_values_against_numpy() -> None:
    random = np.random.default_rng(0)
    truth = random.normal(size=60)
    said = truth + random.normal(size=60)
    assert figure(values(truth, said), "pearson") == pytest.approx(np.corrcoef(truth, said)[0, 1])
    assert figure(values(truth, said), "rmse") == pytest.approx(np.sqrt(np.mean((truth - said) ** 2)))


def ranks(numbers: np.ndarray) -> np.ndarray:
    """Mean ranks, the slow way."""
    return np.array([np.mean(np.flatnonzero(np.sort(numbers) == number)) for number in numbers])


def test_rank_correlation_is_made_anew_of_each_resample() -> None:
    random = np.random.default_rng(0)
    truth, said = random.integers(0, 6, 40).astype(float), random.normal(size=40).round(1)  # with ties
    made = metric_named("spearman").made(values(truth, said))
    counts = next(draws(SPEC, 40))[:5]
    for row, value in zip(counts, made(counts), strict=True):
        again = np.repeat(np.arange(40), row)
        assert value == pytest.approx(np.corrcoef(ranks(truth[again]), ranks(said[again]))[0, 1])


@pytest.mark.parametrize("name", ["accuracy", "macro_f1", "mcc", "calibration_error"])
def test_a_resample_gives_what_the_drawn_items_give(name: str) -> None:
    found = classes("abcabcaab", "abbaccaab", [0.9, 0.7, 0.6, 0.8, 0.5, 0.9, 0.95, 0.4, 0.3])
    made = metric_named(name).made(found)
    counts = next(draws(SPEC, 9))[:4]
    for row, value in zip(counts, made(counts), strict=True):
        drawn = [number for number, times in enumerate(row) for _ in range(times)]
        parts = {part: tuple(getattr(found, part)[number] for number in drawn) for part in ("truth", "said", "scores")}
        ids = tuple(map(str, range(9)))
        again = Predictions(
            found.task,
            found.label_names,
            ids,
            found.sources,
            **parts,
            true_value=np.zeros(9),
            said_value=np.zeros(9),
            nats=found.nats,
        )
        assert value == pytest.approx(metric_named(name).made(again)(np.ones((1, 9), dtype=int))[0])


def test_rare_labels_leave_the_mean_of_f1_inside_its_own_interval() -> None:
    """A resample leaves out some of thirty labels of two items each; that is chance, not a mistake."""
    names = tuple(f"label {number}" for number in range(31))  # one of them stands nowhere and counts as 0, as in scikit-learn
    labels = tuple((name,) for name in names[:30] for _ in range(2))
    ids = tuple(f"i{number}" for number in range(60))
    scores, zeros = ((1.0,),) * 60, np.zeros(60)
    right = Predictions("classification", names, ids, ("set",) * 60, labels, labels, scores, zeros, zeros, zeros)
    found = measure(SPEC, right)["macro_f1"]
    assert (found.mean, found.low, found.high) == pytest.approx((30 / 31,) * 3, abs=0.01)
    all_known = replace(right, label_names=names[:30])
    found = measure(SPEC, all_known)["macro_f1"]
    assert (found.mean, found.low, found.high) == (1, 1, 1)
    worse = replace(all_known, said=(("label 29",), *labels[1:]))
    difference = differences(SPEC, worse, all_known)["macro_f1"]
    assert difference.low < difference.mean < difference.high <= 0


def test_a_difference_is_drawn_from_the_same_items() -> None:
    one, other = classes("abcabc" * 20, "abcabc" * 20), classes("abcabc" * 20, "abcabb" * 20)
    found = differences(SPEC, one, other)["accuracy"]
    assert found.mean == pytest.approx(1 / 6)
    assert 0 < found.low < 1 / 6 < found.high < 0.3
    assert all(interval.low == interval.high == 0 for interval in differences(SPEC, one, one).values())


def test_f1_of_the_second_of_two_labels_by_hand() -> None:
    found = classes("aabbb", "abbba")
    two = replace(found, label_names=("a", "b"), scores=tuple(row[:2] for row in found.scores))
    assert figure(two, "f1") == pytest.approx(2 * 2 / (3 + 3))
    assert "f1" not in measure(SPEC, found)  # of three labels none is the second of two


def test_several_sets_are_measured_together_and_each() -> None:
    found = replace(classes("aabb", "abbb"), sources=("one", "one", "two", "two"))
    measured = measure(SPEC, found)
    assert [measured[name].mean for name in ("accuracy", "accuracy/one", "accuracy/two")] == [0.75, 0.5, 1.0]
    assert measured["accuracy/one"].num_items == 2
    assert differences(SPEC, found, found).keys() == measured.keys()
    assert measure(SPEC, classes("aabb", "abbb")).keys() == {name for name in measured if "/" not in name}


def test_items_are_taken_by_id() -> None:
    found = classes("abc", "aab").of(["i2", "i0"])
    assert (found.ids, found.truth, found.said) == (("i2", "i0"), (("c",), ("a",)), (("b",), ("a",)))
    assert list(found.nats) == [3.0, 1.0]


def test_every_task_has_metrics_and_every_metric_a_task() -> None:
    assert {task for metric in METRICS for task in metric.tasks} == set(get_args(LabelledTask))
    assert all(metric.tasks for metric in METRICS)
    assert label_sums.class_sums(np.zeros((1, 2), bool), np.zeros((1, 2), bool)).shape == (1, 8)


@pytest.mark.parametrize("name", ["accuracy", "mcc", "macro_f1", "loss"])
def test_items_of_one_group_are_drawn_together(name: str) -> None:
    found = classes("abcabcaab", "abbaccaab")
    groups = tuple(f"g{number}" for number in range(9))
    alone = measure(SPEC, replace(found, groups=groups))[name]
    assert alone == measure(SPEC, found)[name]
    ids = tuple(f"{id}-{copy}" for id in found.ids for copy in range(3))
    threefold = {part: tuple(np.repeat(getattr(found, part), 3)) for part in ("sources", "nats", "true_value", "said_value")}
    threefold = {part: np.array(value) if part != "sources" else value for part, value in threefold.items()}
    threefold |= {part: tuple(one for one in getattr(found, part) for _ in range(3)) for part in ("truth", "said", "scores")}
    copied = measure(SPEC, replace(found, ids=ids, groups=tuple(np.repeat(groups, 3)), **threefold))[name]
    assert (copied.mean, copied.low, copied.high) == pytest.approx((alone.mean, alone.low, alone.high))
    assert copied.num_items == alone.num_items == 9


def test_a_resample_in_which_nothing_was_judged_has_figures_all_the_same() -> None:
    truth, said = (("a",), ("b",)), ((None,), ("b",))
    found = Predictions(
        "token_classification", ("a", "b"), ("1", "2"), ("set",) * 2, truth, said, ((), (0.9,)), *np.zeros((2, 2)), np.ones(2)
    )
    assert all(np.isfinite([one.mean, one.low, one.high]).all() for one in measure(SPEC, found).values())
