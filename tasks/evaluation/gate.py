"""The gate: whether the tuned model may become champion.

In: an `EvalReport` and the `Champion`. Out: a `Verdict`, committed whether yes or no. Invariants: a rule is about a whole
interval, never about a mean; too few items give no verdict, and no verdict is a no; each rule says what it asked and saw.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from tasks.contracts import Champion, EvalReport, Interval, Verdict
from tasks.core.errors import ContractError, GateError
from tasks.core.stage import StageContext, stage
from tasks.evaluation.specs import GateSpec, RequireVerdictSpec

Answer = Literal["yes", "no", "undecided"]


@dataclass(frozen=True, slots=True)
class Rule:
    """The whole interval must lie on one side of a limit.

    Attributes:
        interval: What was measured; none where it was not.
        side: Where it must lie: `below` the limit, `above` it, or `at most` or `at least` at it.
    """

    name: str
    interval: Interval | None
    side: Literal["below", "above", "at most", "at least"]
    limit: float
    unit: str

    def answer(self, min_items: int) -> Answer:
        """Says yes, no, or undecided where there are fewer than `min_items` items."""
        if self.interval is None or self.interval.num_items < min_items:
            return "undecided"
        low, high = self.interval.low, self.interval.high
        holds = {
            "below": high < self.limit,
            "at most": high <= self.limit,
            "above": low > self.limit,
            "at least": low >= self.limit,
        }[self.side]
        return "yes" if holds else "no"

    def reason(self, min_items: int) -> str:
        """Returns one line: what was asked, what was seen, the answer."""
        answer = self.answer(min_items)
        asked = f"{self.name}: asked {self.side} {self.limit:g} {self.unit}"
        if self.interval is None:
            return f"{asked}, not measured: {answer}"
        few = f", fewer than {min_items}" if self.interval.num_items < min_items else ""
        return f"{asked}, saw {self.interval} over {self.interval.num_items} items{few}: {answer}"


def rules(spec: GateSpec, report: EvalReport) -> list[Rule]:
    """Returns what is asked of this comparison."""
    seen, differences = report.metrics.get, report.differences.get
    asked = [
        Rule("answers against base", differences("base/answer_loss"), "below", 0.0 - spec.answer_loss_gain, "nats a token"),
        Rule("worth of the prompt", seen("tuned/prompt_gain"), "above", spec.prompt_gain, "bits an answer byte"),
        Rule(
            "worth of the prompt against base",
            differences("base/prompt_gain"),
            "above",
            spec.prompt_gain_over_base,
            "bits an answer byte",
        ),
        Rule("forgetting", differences("base/bits_per_byte"), "at most", spec.forgetting, "bits a byte"),
    ]
    if report.champion_digest is not None:
        against = differences("champion/answer_bits_per_byte")
        asked.append(Rule("answers against champion", against, "at most", spec.champion_loss, "bits an answer byte"))
    return asked


@stage(version=1, name="gate")
def judge(spec: GateSpec, report: EvalReport, champion: Champion, *, ctx: StageContext) -> Verdict:
    """Judges the tuned model; the verdict is an artifact either way."""
    check_champion(report, champion)
    return commit_verdict(rules(spec, report), spec.min_items, report, ctx)


def check_champion(report: EvalReport, champion: Champion) -> None:
    """Raises ContractError where the report compares with another champion."""
    if champion.model_digest != report.champion_digest:
        raise ContractError(
            f"the report compares with champion {report.champion_digest}, but the champion is {champion.model_digest}; "
            "run the evaluation again"
        )


def commit_verdict(asked: Sequence[Rule], min_items: int, report: EvalReport, ctx: StageContext) -> Verdict:
    """Commits the answers to what was asked."""
    answers = [rule.answer(min_items) for rule in asked]
    reasons = tuple(rule.reason(min_items) for rule in asked)
    passed = all(answer == "yes" for answer in answers)
    (ctx.dir / "verdict.json").write_text(_as_json(passed, answers, asked, reasons), encoding="utf-8")
    return ctx.commit(Verdict, passed=passed, tuned_digest=report.tuned_digest, reasons=reasons)


def _as_json(passed: bool, answers: Iterable[Answer], asked: Iterable[Rule], reasons: Iterable[str]) -> str:
    lines = [
        {"rule": rule.name, "side": rule.side, "limit": rule.limit, "answer": answer, "reason": reason}
        for rule, answer, reason in zip(asked, answers, reasons, strict=True)
    ]
    return json.dumps({"passed": passed, "rules": lines}, indent=1)


@stage(version=1, name="require_verdict", always_runs=True)
def require_verdict(spec: RequireVerdictSpec, verdict: Verdict, *, ctx: StageContext) -> Verdict:
    """Ends the run where the verdict is no.

    Raises:
        GateError: With every rule that was not answered with yes.
    """
    if not verdict.passed:
        failed = [reason for reason in verdict.reasons if not reason.endswith(": yes")]
        raise GateError(
            f"the gate said no ({verdict.address}); the version stays candidate and what is live stays live:\n  "
            + "\n  ".join(failed)
        )
    return verdict
