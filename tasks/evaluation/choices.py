"""What a comparison of tunings chooses among: runs that differ in their seed alone are one choice.

In: runs. Out: choices, the best first. Invariant: a choice is ranked by its mean over seeds on validation; of equal ones the one
of fewer trained weights comes first.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from tasks.contracts import Interval, TuningSummary

Over = Literal["seeds", "items", "nothing"]


@dataclass(frozen=True, slots=True)
class Run:
    """One run: its settings, its seeds, and what became of it."""

    settings: dict[str, str]
    seeds: dict[str, str]
    summary: TuningSummary

    @property
    def label(self) -> str:
        """Its settings and seeds in one line."""
        return " ".join(f"{field}={value}" for field, value in (self.settings | self.seeds).items()) or "the recipe as it is"


@dataclass(frozen=True, slots=True)
class Spread:
    """A figure and how far it reaches.

    Attributes:
        over: `seeds`: mean, lowest and highest of the runs; `items`: of one run, with its interval over items; `nothing`: of
            one run, without any.
    """

    mean: float
    low: float
    high: float
    over: Over

    def __str__(self) -> str:
        return f"{self.mean:.4f}" + ("" if self.over == "nothing" else f" [{self.low:.4f}, {self.high:.4f}]")


@dataclass(frozen=True, slots=True)
class Row:
    """What is shown of a choice; means over its runs, of memory the most."""

    settings: dict[str, str]
    num_runs: int
    figure: Spread
    num_trained_parameters: float
    trained_share: float
    kept_bytes: float
    peak_memory_bytes: int
    seconds: float
    tokens_per_s: float | None
    train_validation_gap: float
    forgetting: Spread | None


@dataclass(frozen=True, slots=True)
class Choice:
    """Runs of the same settings, and their figure on validation."""

    settings: dict[str, str]
    runs: tuple[Run, ...]
    criterion: str
    figure: Spread

    @property
    def label(self) -> str:
        """Its settings in few words."""
        return ", ".join(self.settings.values()) or "as the recipe says"

    def best_run(self, lower_is_better: bool) -> Run:
        """Returns the run whose figure on validation is best."""
        sign = 1 if lower_is_better else -1
        return min(self.runs, key=lambda run: sign * run.summary.validation[self.criterion])

    def row(self) -> Row:
        """Returns what is shown of it."""
        summaries = [run.summary for run in self.runs]

        def mean(of: Callable[[TuningSummary], float]) -> float:
            return fmean(map(of, summaries))

        speeds = [one.tokens_per_s for one in summaries if one.tokens_per_s is not None]
        lost = [one.forgetting for one in summaries if one.forgetting is not None]
        return Row(
            settings=self.settings,
            num_runs=len(self.runs),
            figure=self.figure,
            num_trained_parameters=mean(lambda one: one.num_trained_parameters),
            trained_share=mean(lambda one: one.trained_share),
            kept_bytes=mean(lambda one: one.kept_bytes),
            peak_memory_bytes=max(one.peak_memory_bytes for one in summaries),
            seconds=mean(lambda one: one.seconds),
            tokens_per_s=fmean(speeds) if speeds else None,
            train_validation_gap=mean(lambda one: one.train_validation_gap),
            forgetting=spread([one.mean for one in lost], lost[0]) if lost else None,
        )


def spread(values: Sequence[float], interval: Interval | None) -> Spread:
    """Returns the mean of runs with their range; of a single run with its interval over items, where there is one."""
    if len(values) > 1:
        return Spread(fmean(values), min(values), max(values), "seeds")
    if interval is None:
        return Spread(values[0], values[0], values[0], "nothing")
    return Spread(values[0], interval.low, interval.high, "items")


def ranked(runs: Sequence[Run], criterion: str, lower_is_better: bool) -> list[Choice]:
    """Returns the choices among runs, the best first."""
    groups: dict[tuple[tuple[str, str], ...], list[Run]] = {}
    for run in runs:
        groups.setdefault(tuple(run.settings.items()), []).append(run)
    choices = [Choice(dict(settings), tuple(same), criterion, _figure(same, criterion)) for settings, same in groups.items()]
    sign = 1 if lower_is_better else -1
    return sorted(choices, key=lambda one: (sign * one.figure.mean, one.row().num_trained_parameters))


def _figure(runs: Sequence[Run], criterion: str) -> Spread:
    values = [run.summary.validation[criterion] for run in runs]
    return spread(values, runs[0].summary.validation_intervals.get(criterion))
