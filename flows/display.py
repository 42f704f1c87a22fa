"""The terminal: what a run does, stage by stage, and what it came to.

In: stage events, what stages warn of. Out: a line a finished stage and a warning, a progress bar for the stage at work, a summary
at the end. Invariants: plain lines where the output is no terminal; a warning is said once.
"""

import logging
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from tasks.core.run import Observer, StageRecord
from tasks.core.text import one_line

_STYLE = {"built": "green", "reused": "cyan", "failed": "red"}
_PLAIN_EVERY_S = 20.0
_WIDEST = 400  # characters of a table of figures


class TerminalObserver(Observer):
    """Shows a run in the terminal; use it as a context manager."""

    def __init__(self, console: Console, shows_reused: bool = True) -> None:
        self.console = console
        self._shows_reused = shows_reused
        self._bars = Progress(
            SpinnerColumn(),
            TextColumn("{task.description:<16}"),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}", style="dim"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self.records: list[StageRecord] = []
        self._said: set[str] = set()
        self._warnings = _Warnings(self._warn)
        self._tasks: dict[str, TaskID] = {}
        self._next_plain_s = 0.0

    def __enter__(self) -> "TerminalObserver":
        logging.getLogger("textmill").addHandler(self._warnings)
        self._bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bars.stop()
        logging.getLogger("textmill").removeHandler(self._warnings)

    def started(self, stage: str) -> None:
        """Opens the stage's bar."""
        self._tasks[stage] = self._bars.add_task(stage, total=None, note="")
        self._next_plain_s = time.monotonic() + _PLAIN_EVERY_S

    def progressed(self, stage: str, done: float, total: float, unit: str, figures: dict[str, float]) -> None:
        """Moves the stage's bar."""
        note = escape(" ".join([f"{done:,.0f}/{total:,.0f} {unit}", *(_figure(*figure) for figure in figures.items())]))
        if stage in self._tasks:
            self._bars.update(self._tasks[stage], completed=done, total=total, note=note)
        if not self.console.is_terminal and time.monotonic() >= self._next_plain_s:
            self._next_plain_s = time.monotonic() + _PLAIN_EVERY_S
            self.console.print(f"  {stage:<16} ...     {note}", highlight=False)

    def finished(self, record: StageRecord) -> None:
        """Closes the bar and writes the stage's line."""
        self.records.append(record)
        if (task := self._tasks.pop(record.name, None)) is not None:
            self._bars.remove_task(task)
        if record.result == "reused" and not self._shows_reused:
            return
        text = record.artifact.summary() if record.artifact else record.error.splitlines()[0]
        style = _STYLE[record.result]
        self.console.print(
            f"  {record.name:<16} [{style}]{record.result:<6}[/] {record.seconds:7.1f} s  {escape(one_line(text, 160))}",
            highlight=False,
            soft_wrap=True,
        )
        for warning in getattr(record.artifact, "warnings", ()):
            self._warn(record.name, warning)

    def _warn(self, stage: str, text: str) -> None:
        if text not in self._said:  # what a model is made of warns of it again
            self._said.add(text)
            self.console.print(f"  {stage:<16} [yellow]warning[/] {escape(one_line(text, 400))}", highlight=False, soft_wrap=True)


class _Warnings(logging.Handler):
    """Hands on what is logged as a warning, and by which stage."""

    def __init__(self, warn: Callable[[str, str], None]) -> None:
        super().__init__(logging.WARNING)
        self._warn = warn

    def emit(self, record: logging.LogRecord) -> None:
        self._warn(record.name.removeprefix("textmill."), record.getMessage())


def _figure(name: str, value: float) -> str:
    return f"{timedelta(seconds=round(value))} left" if name == "seconds_left" else f"{name} {value:.4g}"


def summary_table(title: str, records: list[StageRecord]) -> Table:
    """Returns the table of a run's stages: built or reused, seconds, main facts."""
    table = Table(title=f"{title}: {_outcome(records)}", title_justify="left", show_lines=False, expand=False)
    table.add_column("stage")
    table.add_column("result")
    table.add_column("seconds", justify="right")
    table.add_column("what it came to", overflow="fold")
    said_by: dict[str, str] = {}
    for record in records:
        table.add_row(
            record.name,
            f"[{_STYLE[record.result]}]{record.result}[/]",
            f"{record.seconds:.1f}",
            escape(one_line(_came_to(record, said_by), 400)),
        )
    return table


def _came_to(record: StageRecord, said_by: dict[str, str]) -> str:
    """Returns the facts of a stage, once; a stage that hands on what another made names that one."""
    if record.artifact is None:
        return record.error.splitlines()[0]
    first = said_by.setdefault(record.artifact.address, record.name)
    return record.artifact.summary() if first == record.name else f"as {first}"


def _outcome(records: list[StageRecord]) -> str:
    counts = {result: sum(record.result == result for record in records) for result in _STYLE}
    return ", ".join(f"{count} {result}" for result, count in counts.items() if count)


def print_whole(console: Console, table: Table) -> None:
    """Prints a table of figures at the width it needs: cut to a narrow terminal or a log, no figure could be read."""
    needed = console.measure(table, options=console.options.update(max_width=_WIDEST)).maximum
    Console(file=console.file, width=max(console.width, needed)).print(table)


def facts_table(title: str, facts: dict[str, Any]) -> Table:
    """Returns a two-column table of names and values."""
    table = Table(title=title, title_justify="left", show_header=False)
    table.add_column("name", style="bold", no_wrap=True)
    table.add_column("value", overflow="fold")
    for name, value in facts.items():
        table.add_row(name, escape(one_line(str(value), 600)))
    return table
