"""The gate: each rule says yes, no and nothing, by hand."""

import json
from pathlib import Path

import pytest

from tasks.contracts import Champion, EvalReport, Interval
from tasks.core.errors import ContractError, GateError
from tasks.core.site import Site
from tasks.evaluation import GateSpec, RequireVerdictSpec, judge, require_verdict
from tasks.evaluation.gate import rules
from tests.evaluation.kit import ToyChampionSpec, ToyReportSpec, toy_champion, toy_report

SPEC = GateSpec(min_items=30, forgetting=0.1, champion_loss=0.05)
GOOD = {
    "tuned/prompt_gain": (0.2, 0.1, 0.3),
    "base/answer_loss": (-0.5, -0.6, -0.4),
    "base/prompt_gain": (0.1, 0.05, 0.2),
    "base/bits_per_byte": (0.05, 0.02, 0.09),
    "champion/answer_bits_per_byte": (0.0, -0.03, 0.04),
}


def report(
    changes: dict[str, tuple[float, float, float] | None] | None = None, num_items: int = 30, champion: bool = True
) -> EvalReport:
    seen = {name: values for name, values in (GOOD | (changes or {})).items() if values is not None}
    intervals = {name: Interval(mean=mean, low=low, high=high, num_items=num_items) for name, (mean, low, high) in seen.items()}
    own = {name: interval for name, interval in intervals.items() if name.startswith("tuned/")}
    return EvalReport(
        uri="",
        fingerprint="",
        digest="",
        base_digest="b",
        tuned_digest="t",
        champion_digest="c" if champion else None,
        metrics=own,
        differences={name: interval for name, interval in intervals.items() if name not in own},
    )


def answers(found: EvalReport, spec: GateSpec = SPEC) -> list[str]:
    return [rule.answer(spec.min_items) for rule in rules(spec, found)]


def test_a_good_model_passes_every_rule() -> None:
    assert answers(report()) == ["yes"] * 5


def test_without_a_champion_there_is_nothing_to_be_worse_than() -> None:
    assert answers(report(champion=False)) == ["yes"] * 4


@pytest.mark.parametrize(
    ("number", "name", "interval"),
    [
        (0, "base/answer_loss", (0.0, 0.0, 0.0)),  # nothing learned
        (0, "base/answer_loss", (-0.1, -0.25, 0.01)),  # better on the mean only
        (1, "tuned/prompt_gain", (0.01, -0.01, 0.03)),  # answers that do not depend on the question
        (2, "base/prompt_gain", (0.0, -0.003, 0.003)),  # depends on it as much as before tuning: shuffled answers
        (3, "base/bits_per_byte", (0.08, 0.05, 0.11)),  # forgot too much
        (4, "champion/answer_bits_per_byte", (0.02, -0.01, 0.06)),  # may be worse than the champion
    ],
)
def test_each_rule_says_no_alone(number: int, name: str, interval: tuple[float, float, float]) -> None:
    expected = ["yes"] * 5
    expected[number] = "no"
    assert answers(report({name: interval})) == expected


@pytest.mark.parametrize(
    ("number", "setting", "met", "missed"),
    [
        (0, "answer_loss_gain", 0.39, 0.4),
        (1, "prompt_gain", 0.09, 0.1),
        (2, "prompt_gain_over_base", 0.04, 0.05),
        (3, "forgetting", 0.09, 0.08),
        (4, "champion_loss", 0.04, 0.03),
    ],
)
def test_each_limit_is_what_is_set(number: int, setting: str, met: float, missed: float) -> None:
    assert answers(report(), SPEC.model_copy(update={setting: met})) == ["yes"] * 5
    assert answers(report(), SPEC.model_copy(update={setting: missed})) == ["yes"] * number + ["no"] + ["yes"] * (4 - number)


def test_below_zero_the_worth_of_the_prompt_may_fall() -> None:
    fallen = report({"base/prompt_gain": (-0.1, -0.2, 0.1)})
    assert answers(fallen)[2] == "no"
    assert answers(fallen, SPEC.model_copy(update={"prompt_gain_over_base": -0.3}))[2] == "yes"


@pytest.mark.parametrize("name", sorted(GOOD))
def test_what_was_not_measured_is_no_yes(name: str) -> None:
    assert answers(report({name: None})).count("undecided") == 1


def test_too_few_items_give_no_verdict() -> None:
    found = report(num_items=29)
    assert answers(found) == ["undecided"] * 5
    assert rules(SPEC, found)[0].reason(30) == (
        "answers against base: asked below 0 nats a token, saw -0.500 [-0.600, -0.400] over 29 items, fewer than 30: undecided"
    )


def test_the_verdict_is_an_artifact_either_way_and_require_raises(site: Site) -> None:
    champion = toy_champion.build(ToyChampionSpec(), site=site)
    good = judge.build(SPEC, toy_report.build(ToyReportSpec(facts=report().model_dump_json()), site=site), champion, site=site)
    bad_facts = report({"base/bits_per_byte": (0.5, 0.4, 0.6)}).model_dump_json()
    bad = judge.build(SPEC, toy_report.build(ToyReportSpec(facts=bad_facts), site=site), champion, site=site)
    assert (good.passed, bad.passed, bad.tuned_digest) == (True, False, "t")
    written = json.loads((Path(bad.uri) / "verdict.json").read_text())
    assert [line["answer"] for line in written["rules"]] == ["yes", "yes", "yes", "no", "yes"]
    assert require_verdict.build(RequireVerdictSpec(), good, site=site) == good
    with pytest.raises(
        GateError, match=r"forgetting: asked at most 0.1 bits a byte, saw 0.500 \[0.400, 0.600\] over 30 items: no"
    ):
        require_verdict.build(RequireVerdictSpec(), bad, site=site)


def test_a_champion_that_changed_meanwhile_is_refused() -> None:
    other = Champion(uri="", fingerprint="", digest="", model_name="m", version=2, model_digest="other")
    with pytest.raises(ContractError, match="run the evaluation again"):
        judge.fn(SPEC, report(), other, ctx=None)
