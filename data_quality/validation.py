"""Validation: rules over tables, decided by Great Expectations.

In: rules and tables of numbers. Out: one result a rule. Invariant: what cannot be decided has failed: no rules, a missing
table or column, an empty table, an exception inside a check, a check that gave no answer.
"""

import logging
import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from data_quality.profile import Tables
from data_quality.rules import Rule, Severity, figure
from tasks.core.errors import ContractError
from tasks.core.text import one_line


@dataclass(frozen=True, slots=True)
class Result:
    """What a rule found.

    Attributes:
        seen: The value seen, for people.
        broken: The check itself failed; it counts as critical whatever the rule's severity.
    """

    rule: Rule
    passed: bool
    seen: str
    broken: bool = False

    @property
    def severity(self) -> Severity:
        """Severity of the rule, or critical where the check itself failed."""
        return "critical" if self.broken else self.rule.severity

    @property
    def line(self) -> str:
        """One line: rule, expectation, value seen, bound, remedy."""
        return f"{self.rule.name} ({self.rule.expectation}): {self.seen}, asked for {self.rule.bound}; {self.rule.remedy}"

    def row(self) -> dict[str, Any]:
        """Returns plain values, for results.json."""
        return asdict(self.rule) | {"severity": self.severity, "passed": self.passed, "seen": self.seen, "broken": self.broken}


def validate(rules: Sequence[Rule], tables: Tables) -> list[Result]:
    """Checks every rule.

    Raises:
        ContractError: There are no rules; nothing checked is not the same as nothing wrong.
    """
    if not rules:
        raise ContractError("the quality suite is empty: nothing would be checked; give it rules")
    by_table: defaultdict[str, list[Rule]] = defaultdict(list)
    for rule in rules:
        by_table[rule.table].append(rule)
    found = {rule.name: result for table, some in by_table.items() for rule, result in _validate_table(table, some, tables)}
    return [found.get(rule.name) or _broken(rule, "gave no result") for rule in rules]


def _validate_table(table: str, rules: list[Rule], tables: Tables) -> list[tuple[Rule, Result]]:
    rows = tables.get(table)
    if not rows:
        return [(rule, _broken(rule, f"table {table} is {'missing' if rows is None else 'empty'}")) for rule in rules]
    results = _run(table, rules, rows)
    return [(rule, _result(rule, results[number], rows)) for number, rule in enumerate(rules) if number in results]


def _num_missing(column: str, rows: list[dict[str, Any]]) -> int:
    """Great Expectations passes over values that are missing: a column without values would pass every bound."""
    return sum(value is None or value != value for value in (row.get(column) for row in rows))


def _run(table: str, rules: list[Rule], rows: list[dict[str, Any]]) -> dict[int, Any]:
    """Returns what Great Expectations answers, by the number of the rule."""
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    import great_expectations as gx
    import pandas as pd
    from great_expectations.data_context.types.base import ProgressBarsConfig

    logging.getLogger("great_expectations").setLevel(logging.ERROR)
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    asset = context.data_sources.add_pandas("profile").add_dataframe_asset(table)
    batch = asset.add_batch_definition_whole_dataframe("all").get_batch(batch_parameters={"dataframe": pd.DataFrame(rows)})
    suite = context.suites.add(gx.ExpectationSuite(name=table))
    for number, rule in enumerate(rules):
        kind = getattr(gx.expectations, rule.expectation)
        suite.add_expectation(kind(**rule.settings, severity=rule.severity, meta={"number": number}))
    answer = batch.validate(suite, result_format={"result_format": "BASIC", "partial_unexpected_count": 0})
    return {one.expectation_config.meta["number"]: one for one in answer.results}


def _result(rule: Rule, answer: Any, rows: list[dict[str, Any]]) -> Result:
    if (error := _exception(answer.exception_info)) is not None:
        return _broken(rule, error)
    if answer.success is None or not answer.result:
        return _broken(rule, "gave no answer")
    if num_missing := _num_missing(rule.settings["column"], rows):
        return _broken(rule, f"{num_missing} of {len(rows)} values of {rule.settings['column']} are missing")
    return Result(rule, bool(answer.success), _seen(rule, answer.result, rows))


def _exception(info: Any) -> str | None:
    """Returns the message of an exception inside a check; Great Expectations has two forms for it."""
    if not isinstance(info, dict):
        return None
    parts = [info, *(part for part in info.values() if isinstance(part, dict))]
    raised = [part for part in parts if part.get("raised_exception")]
    return one_line(str(raised[0].get("exception_message")), 160) if raised else None


def _seen(rule: Rule, result: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    """Returns the value a person asks for: the worst value, and how many rows break the bound."""
    values = [row[rule.settings["column"]] for row in rows]
    broken = int(result.get("unexpected_count") or 0)
    if rule.expectation == "ExpectColumnValuesToBeUnique":
        return f"{broken} of {len(values)} not unique"
    worst = min(values) if "min_value" in rule.settings else max(values)
    shown = (
        f"{rule.settings['column']} is {figure(worst)}"
        if len(values) == 1
        else f"worst {rule.settings['column']} {figure(worst)}"
    )
    return shown + (f", {broken} of {len(values)} outside" if broken and len(values) > 1 else "")


def _broken(rule: Rule, why: str) -> Result:
    return Result(rule, passed=False, seen=f"the check could not be made: {why}", broken=True)
