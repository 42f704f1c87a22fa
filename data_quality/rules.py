"""Rules: one check of one column of a table of numbers, with its severity, its bound and what to do when it fails.

In: names and bounds. Out: values that say which expectation of Great Expectations decides. Invariant: a rule names its table,
its bound and its remedy.
"""

from dataclasses import dataclass
from typing import Any, Literal

Severity = Literal["critical", "warning", "info"]


@dataclass(frozen=True, slots=True)
class Rule:
    """One check.

    Attributes:
        artifact: What it is about, where a suite has checks of several artifacts.
        against: Table with whose rows those of its own are compared, where it compares any.
        expectation: Name of a Great Expectations class.
        bound: What is asked for, for people.
        remedy: What to do when it fails.
    """

    name: str
    table: str
    severity: Severity
    expectation: str
    settings: dict[str, Any]
    bound: str
    remedy: str
    artifact: str = ""
    against: str = ""


def figure(value: float) -> str:
    """Returns a number as people read it."""
    return f"{int(value):,}" if float(value).is_integer() else f"{value:.4g}"
