"""The metrics of labelled text, each a function of how often every item is drawn.

In: predictions of test items. Out: a figure for each resample at once. Invariants: a figure is made anew of each resample, so its
interval is that of the figure itself; items are drawn whole, of tagged text with all their words, and with those of their group.

Shapes: D resamples, N items, K labels, S sums.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasks.contracts import Interval, LabelledTask
from tasks.evaluation.bootstrap import Numbers, draws, interval_of
from tasks.evaluation.label_tables import Predictions
from tasks.evaluation.specs import BootstrapSpec
from tasks.modeling import label_sums

Counts = NDArray[np.int64]
_NUM_BINS = 15
_ONE_LABEL: tuple[LabelledTask, ...] = ("classification", "token_classification")
_LABELS: tuple[LabelledTask, ...] = (*_ONE_LABEL, "multi_label")
_VALUES: tuple[LabelledTask, ...] = ("regression",)


@dataclass(frozen=True, slots=True)
class LabelMetric:
    """How a metric is made and read.

    Attributes:
        made: Gives the figure (D,) of each resample, made for predictions once.
        of_two: Means something only where there are two labels.
    """

    name: str
    title: str
    unit: str
    lower_is_better: bool
    tasks: tuple[LabelledTask, ...]
    made: Callable[[Predictions], Callable[[Counts], Numbers]]
    of_two: bool = False


def _of_sums(
    sums: Callable[[Predictions], Numbers], figure: Callable[[Numbers], Numbers]
) -> Callable[[Predictions], Callable[[Counts], Numbers]]:
    """Returns a metric that is a function of sums over items."""

    def made(found: Predictions) -> Callable[[Counts], Numbers]:
        sums_NS = sums(found)
        return lambda counts_DN: figure(counts_DN @ sums_NS)

    return made


def _class_sums(found: Predictions) -> Numbers:
    numbers = {name: number for number, name in enumerate(found.label_names)}
    if found.task != "token_classification":
        return label_sums.class_sums(_many_hot(numbers, found.said), _many_hot(numbers, found.truth))
    owners = np.repeat(np.arange(len(found.ids)), [len(words) for words in found.truth])
    said, truth = (_many_hot(numbers, [(word,) for words in part for word in words]) for part in (found.said, found.truth))
    return label_sums.summed_by(owners, label_sums.class_sums(said, truth), len(found.ids))


def _many_hot(numbers: dict[str, int], labels: Sequence[tuple[str | None, ...]]) -> NDArray[np.bool_]:
    hot = np.zeros((len(labels), len(numbers)), dtype=np.bool_)
    for row, names in enumerate(labels):
        for name in names:
            if name is not None:
                hot[row, numbers[name]] = True
    return hot


def _macro_f1(found: Predictions) -> Callable[[Counts], Numbers]:
    sums_NS = _class_sums(found)
    whole_S = sums_NS.sum(axis=0)
    return lambda counts_DN: label_sums.macro_f1(counts_DN @ sums_NS, whole_S)


def _nats(found: Predictions) -> Numbers:
    judged = [sum(word is not None for word in words) if found.task == "token_classification" else 1 for words in found.said]
    return np.stack([found.nats, np.array(judged, dtype=np.float64)], axis=1)


def _loss(sums: Numbers) -> Numbers:
    return label_sums.divided(sums[..., 0], sums[..., 1])


def _bins(found: Predictions) -> Numbers:
    """Returns (N, 3 bins): how many predictions, their probability and their hits, by probability of the label said."""
    sums = np.zeros((len(found.ids), 3, _NUM_BINS))
    for row, (scores, said, truth) in enumerate(zip(found.scores, found.said, found.truth, strict=True)):
        top = scores if found.task == "token_classification" else (max(scores),)
        for score, label, true in zip(top, said, truth, strict=False):  # words beyond the model's context have no score
            if label is not None:
                sums[row, :, min(_NUM_BINS - 1, int(score * _NUM_BINS))] += (1.0, score, label == true)
    return sums.reshape(len(found.ids), -1)


def _calibration_error(sums: Numbers) -> Numbers:
    number, chance, hits = np.split(sums, 3, axis=-1)
    return np.asarray(np.abs(chance - hits).sum(axis=-1) / np.maximum(1.0, number.sum(axis=-1)))


def _value_sums(found: Predictions) -> Numbers:
    return label_sums.value_sums(found.said_value, found.true_value)


def _spearman(found: Predictions) -> Callable[[Counts], Numbers]:
    """Returns Pearson's correlation of ranks within each resample; equal values share the mean of their ranks."""
    ranks = _ranks_within(found.said_value), _ranks_within(found.true_value)

    def made(counts_DN: Counts) -> Numbers:
        x, y = (rank(counts_DN) for rank in ranks)
        terms = np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], axis=-1)
        return label_sums.pearson((counts_DN[:, :, None] * terms).sum(axis=1))

    return made


def _ranks_within(values_N: Numbers) -> Callable[[Counts], Numbers]:
    _, group_N = np.unique(values_N, return_inverse=True)
    order = np.argsort(group_N, kind="stable")
    starts = np.searchsorted(group_N[order], np.arange(group_N.max() + 1))

    def ranks(counts_DN: Counts) -> Numbers:
        size_DG = np.add.reduceat(counts_DN[:, order], starts, axis=1)
        mean_DG = size_DG.cumsum(axis=1) - (size_DG - 1) / 2
        return np.asarray(mean_DG[:, group_N])

    return ranks


METRICS = (
    LabelMetric("accuracy", "All labels right", "share", False, _LABELS, _of_sums(_class_sums, label_sums.accuracy)),
    LabelMetric(
        "f1", "F1 of the second label", "", False, ("classification",), _of_sums(_class_sums, label_sums.f1), of_two=True
    ),
    LabelMetric("macro_f1", "F1, mean over labels", "", False, _LABELS, _macro_f1),
    LabelMetric("micro_f1", "F1 over all labels", "", False, ("multi_label",), _of_sums(_class_sums, label_sums.micro_f1)),
    LabelMetric("mcc", "Matthews' correlation", "", False, _ONE_LABEL, _of_sums(_class_sums, label_sums.mcc)),
    LabelMetric("loss", "Loss", "nats", True, _LABELS, _of_sums(_nats, _loss)),
    LabelMetric("calibration_error", "Calibration error", "", True, _ONE_LABEL, _of_sums(_bins, _calibration_error)),
    LabelMetric("pearson", "Pearson's correlation", "", False, _VALUES, _of_sums(_value_sums, label_sums.pearson)),
    LabelMetric("spearman", "Spearman's rank correlation", "", False, _VALUES, _spearman),
    LabelMetric("rmse", "Root mean squared error", "", True, _VALUES, _of_sums(_value_sums, label_sums.rmse)),
)


def metric_named(name: str) -> LabelMetric:
    """Returns the metric of a name, which may be that of one set, `<metric>/<set>`."""
    return next(metric for metric in METRICS if metric.name == name.partition("/")[0])


def metrics_of(found: Predictions) -> list[LabelMetric]:
    """Returns the metrics that mean something for these predictions."""
    is_binary = len(found.label_names) == 2
    return [metric for metric in METRICS if found.task in metric.tasks and (is_binary or not metric.of_two)]


def measure(spec: BootstrapSpec, found: Predictions) -> dict[str, Interval]:
    """Returns the interval of each metric of the task, over all items and, where there are several sets, over each one."""
    return {
        f"{metric.name}{suffix}": _interval(spec, part.group_numbers, metric.made(part))
        for suffix, part in _parts(found)
        for metric in metrics_of(found)
    }


def differences(spec: BootstrapSpec, one: Predictions, other: Predictions) -> dict[str, Interval]:
    """Returns the interval of one - other for each metric, both drawn from the same items."""
    intervals = {}
    for (suffix, mine), (_, its) in zip(_parts(one), _parts(other), strict=True):
        for metric in metrics_of(one):
            first, second = metric.made(mine), metric.made(its)
            made = lambda drawn, a=first, b=second: a(drawn) - b(drawn)  # noqa: E731
            intervals[f"{metric.name}{suffix}"] = _interval(spec, mine.group_numbers, made)
    return intervals


def _parts(found: Predictions) -> list[tuple[str, Predictions]]:
    return [("", found), *((f"/{name}", part) for name, part in found.by_source().items())]


def _interval(spec: BootstrapSpec, groups_N: Counts, figure: Callable[[Counts], Numbers]) -> Interval:
    num_groups = int(groups_N.max()) + 1
    whole = float(figure(np.ones((1, len(groups_N)), dtype=np.int64))[0])
    resampled = np.concatenate([figure(counts_DG[:, groups_N]) for counts_DG in draws(spec, num_groups, len(groups_N))])
    return interval_of(spec, whole, resampled, num_groups)
