"""The run that stages belong to: who it is, who watches it, where it ends.

In: stage events. Out: the same events to every observer (terminal, Prefect, tracker). Invariant: an observer that fails
never fails a stage.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from tasks.core.artifact import Artifact
from tasks.core.site import Site
from tasks.core.text import text_safe

Result = Literal["built", "reused", "failed"]


@dataclass(frozen=True, slots=True)
class StageRecord:
    """How one stage of a run ended.

    Attributes:
        role: Role of the model, where a stage scores several.
    """

    name: str
    result: Result
    seconds: float
    artifact: Artifact | None = None
    error: str = ""
    role: str | None = None

    @property
    def shown_name(self) -> str:
        """What servers keep it under: the stage, and the role where a stage scores several models."""
        return f"{self.name}-{self.role}" if self.role else self.name


class Observer:
    """Someone who watches a run; what it does not care for it leaves as it is here."""

    def started(self, stage: str) -> None:
        """A stage begins to build."""

    def progressed(self, stage: str, done: float, total: float, unit: str, figures: dict[str, float]) -> None:
        """A stage got on."""

    def measured(self, stage: str, step: int, values: dict[str, float]) -> None:
        """A stage measured something at a step."""

    def finished(self, record: StageRecord) -> None:
        """A stage ended."""


class Tracker(Protocol):
    """What a stage may ask of the tracker."""

    def run_id(self, wait_s: float) -> str | None:
        """Returns the MLflow run of this run, once it is known."""


@dataclass(slots=True)
class Run:
    """One run of a chain of stages.

    Attributes:
        until: Name of the stage after which the run ends.
        planner: Called instead of each stage, to say what would be done.
    """

    site: Site
    recipe_name: str = "adhoc"
    recipe: dict[str, Any] = field(default_factory=dict)
    until: str | None = None
    prefect_run_id: str | None = None
    prefect_run_url: str | None = None
    tracker: Tracker | None = None
    planner: Callable[..., Any] | None = None
    observers: list[Observer] = field(default_factory=list)
    records: list[StageRecord] = field(default_factory=list)

    @property
    def mlflow_run_id(self) -> str | None:
        """The MLflow run, waited for shortly; none where the tracker does not answer."""
        return self.tracker.run_id(60.0) if self.tracker else None

    def tell(self, event: str, *values: Any) -> None:
        """Hands an event to every observer; what goes wrong there is logged, not raised."""
        if event == "finished":
            self.records.append(values[0])
        for observer in self.observers:
            try:
                getattr(observer, event)(*values)
            except Exception as error:  # an observer must never stop a stage
                logging.getLogger("textmill.run").warning("%s could not note %s: %s", type(observer).__name__, event, error)


_current: ContextVar[Run | None] = ContextVar("textmill_run", default=None)


def current_run() -> Run | None:
    """Returns the run this code belongs to, if any."""
    return _current.get()


@contextmanager
def running(run: Run) -> Iterator[Run]:
    """Makes `run` the current one."""
    token = _current.set(run)
    try:
        yield run
    finally:
        _current.reset(token)


_watchers: ContextVar[tuple[Observer, ...]] = ContextVar("textmill_watchers", default=())


def watchers() -> tuple[Observer, ...]:
    """Returns the observers that wait for a run to begin."""
    return _watchers.get()


@contextmanager
def watching(observer: Observer) -> Iterator[None]:
    """Lets `observer` watch every run that begins in this context."""
    token = _watchers.set((*_watchers.get(), observer))
    try:
        yield
    finally:
        _watchers.reset(token)


class SafeLog(logging.LoggerAdapter[logging.Logger]):
    """A logger whose messages any server can store."""

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        """Logs `msg % args`, cleaned as a whole."""
        if self.isEnabledFor(level):
            super().log(level, text_safe(str(msg) % args if args else str(msg)), **kwargs)


def stage_log(name: str) -> SafeLog:
    """Returns the logger of a stage; Prefect picks up everything under `textmill`."""
    return SafeLog(logging.getLogger(f"textmill.{name}"), {})
