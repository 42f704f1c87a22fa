"""Validation: rules over tables, decided by Great Expectations.

In: rules and tables of numbers. Out: one result a rule. Invariant: what cannot be decided has failed: no rules, a missing
table or column, an empty table, an exception inside a check, a check that gave no answer.
"""

import logging
import math
import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from data_quality.drift import MIN_COMPARED
from data_quality.profile import DRIFT, Tables
from data_quality.rules import Rule, Severity, figure
from tasks.core.errors import ContractError
from tasks.core.text import one_line


@dataclass(frozen=True, slots=True)
class Result:
    """What a rule found.

    Attributes:
        seen: The value seen, for people.
        broken: The check itself failed; it counts as critical whatever the rule's severity.
        skipped: There was nothing to compare with; it counts neither as passed nor as failed.
    """

    rule: Rule
    passed: bool
    seen: str
    broken: bool = False
    skipped: bool = False

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
        return (
            asdict(self.rule)
            | {"severity": self.severity, "passed": self.passed, "seen": self.seen, "broken": self.broken}
            | {"skipped": self.skipped}
        )


def validate(rules: Sequence[Rule], tables: Tables, compared: bool = True) -> list[Result]:
    """Checks every rule.

    Args:
        rules: What to check.
        tables: What the rules are about.
        compared: Whether there is a registered corpus, and enough of this one; else rules of drift are passed over.

    Raises:
        ContractError: No rule could be decided; nothing checked is not the same as nothing wrong.
    """
    decided = [rule for rule in rules if compared or rule.table != DRIFT]
    if not decided:
        raise ContractError("the quality suite is empty: nothing would be checked; give it checks that compare with nothing")
    suites: defaultdict[tuple[str, str], list[Rule]] = defaultdict(list)
    for rule in decided:
        suites[rule.artifact, rule.table].append(rule)
    found = {result.rule.name: result for suite, some in suites.items() for result in _validate_table(*suite, some, tables)}
    return [found[rule.name] if rule in decided else _skipped(rule) for rule in rules]


def _validate_table(artifact: str, table: str, rules: list[Rule], tables: Tables) -> list[Result]:
    rows = tables.get(table)
    if not rows:
        return [_broken(rule, f"table {table} is {'missing' if rows is None else 'empty'}") for rule in rules]
    answers = _run(artifact, table, rules, rows)
    return [_result(rule, answers.get(number), rows, tables) for number, rule in enumerate(rules)]


def _num_missing(column: str, rows: list[dict[str, Any]]) -> int:
    """Great Expectations passes over values that are missing: a column without values would pass every bound."""
    return sum(value is None or value != value for value in (row.get(column) for row in rows))


def _run(artifact: str, table: str, rules: list[Rule], rows: list[dict[str, Any]]) -> dict[int, Any]:
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
    suite = context.suites.add(gx.ExpectationSuite(name=f"{artifact}.{table}"))
    for number, rule in enumerate(rules):
        kind = getattr(gx.expectations, rule.expectation)
        suite.add_expectation(kind(**rule.settings, severity=rule.severity, meta={"number": number}))
    answer = batch.validate(suite, result_format={"result_format": "BASIC", "partial_unexpected_count": 0})
    return {one.expectation_config.meta["number"]: one for one in answer.results}


def _result(rule: Rule, answer: Any, rows: list[dict[str, Any]], tables: Tables) -> Result:
    if answer is None:
        return _broken(rule, "gave no result")
    if rule.against and not tables.get(rule.against):  # every number of rows is within a share of none
        return _broken(rule, f"table {rule.against} is empty")
    if (error := _exception(answer.exception_info)) is not None:
        return _broken(rule, error)
    if answer.success is None or not answer.result:
        return _broken(rule, "gave no answer")
    column = rule.settings.get("column")
    if column is not None and (num_missing := _num_missing(column, rows)):
        return _broken(rule, f"{num_missing} of {len(rows)} values of {column} are missing")
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
    broken = int(result.get("unexpected_count") or 0)
    if rule.expectation == "ExpectTableRowCountToBeBetween":
        return f"{len(rows):,} rows, {_rows_asked(rule)} asked for"
    if rule.expectation == "ExpectColumnQuantileValuesToBeBetween":
        return f"{rule.settings['column']} is {figure(result['observed_value']['values'][0])} there"
    if rule.expectation == "ExpectColumnValuesToBeUnique":
        return f"{broken} of {len(rows)} not unique"
    if rule.expectation in _SETS:
        found = broken if _SETS[rule.expectation] else len(rows) - broken
        return f"{found} of {len(rows)}, {figure(found / len(rows))}"
    return _worst(rule, [row[rule.settings["column"]] for row in rows], broken)


_SETS = {"ExpectColumnValuesToBeInSet": False, "ExpectColumnValuesToNotBeInSet": True}  # whether what is counted is unexpected


def _rows_asked(rule: Rule) -> str:
    bounds = (("at least", rule.settings.get("min_value")), ("at most", rule.settings.get("max_value")))
    return " and ".join(f"{word} {figure(bound)}" for word, bound in bounds if bound is not None)


def _worst(rule: Rule, values: list[float], broken: int) -> str:
    low, high = rule.settings.get("min_value", -math.inf), rule.settings.get("max_value", math.inf)
    worst = max(values, key=lambda value: max(low - value, value - high))
    shown = (
        f"{rule.settings['column']} is {figure(worst)}"
        if len(values) == 1
        else f"worst {rule.settings['column']} {figure(worst)}"
    )
    return shown + (f", {broken} of {len(values)} outside" if broken and len(values) > 1 else "")


def _skipped(rule: Rule) -> Result:
    why = f"no corpus is registered yet, or this one has fewer than {MIN_COMPARED} documents"
    return Result(rule, passed=True, seen=f"nothing to compare with: {why}", skipped=True)


def _broken(rule: Rule, why: str) -> Result:
    return Result(rule, passed=False, seen=f"the check could not be made: {why}", broken=True)
