"""Which method is advised: the rules by hand, and what `plan` says of them."""

import pytest
from click.testing import CliRunner

from flows.__main__ import main
from flows.advise import advice_line
from flows.presets import load_recipe
from tasks.contracts import Checkpoint, Labelled
from tasks.core.site import Site
from tasks.tuning.advice import RULES, Situation, advise
from tasks.tuning.labelled_methods import LabelledMethodSpec
from tasks.tuning.methods import MethodSpec

GB = 10**9


@pytest.mark.parametrize(
    ("situation", "method"),
    [
        (Situation(None, 7 * GB, 24 * GB, has_cuda=True), "qlora"),
        (Situation(None, 7 * GB, 80 * GB, has_cuda=True), "lora"),
        (Situation(None, 7 * GB, 16 * GB, has_cuda=False), "a smaller base"),
        (Situation(None, 135_000_000, 8 * GB, has_cuda=False), "lora"),
        (Situation(None, 4_000_000, 8 * GB, has_cuda=False), "full"),
        (Situation(32, 7 * GB, 24 * GB, has_cuda=True), "a smaller base"),  # no 4-bit base takes a head here
        (Situation(5_000, 340_000_000, 6 * GB, has_cuda=False), "lora"),
        (Situation(5_000, 23_000_000, None, has_cuda=False), "full"),
    ],
)
def test_the_first_rule_that_holds_speaks(situation: Situation, method: str) -> None:
    found = advise(situation)
    assert found.method == method
    assert found.reason in str(found)
    assert found.source in str(found)


def test_labels_decide_among_what_fits() -> None:
    """Each boundary of the table, from both sides."""
    methods = [advise(Situation(number, 23_000_000, 8 * GB, has_cuda=False)).method for number in (99, 100, 999, 1_000)]
    assert methods[0] != methods[1] == methods[2] != methods[3]


def test_what_is_advised_can_be_asked_for() -> None:
    def kinds(union) -> set[str]:
        return {one.model_fields["kind"].annotation.__args__[0] for one in union.__args__[0].__args__}

    advised = {rule.advice.method for rule in RULES} - {"a smaller base"}
    assert advised <= kinds(MethodSpec)
    assert advised - {"qlora"} <= kinds(LabelledMethodSpec)


def test_plan_advises_for_a_model_that_answers(site: Site) -> None:
    result = CliRunner().invoke(main, ["plan", "demo"])
    assert result.exit_code == 0, result.output
    assert "advice    full: a base this small" in result.output
    assert "the recipe says full" in result.output
    assert "advice" not in CliRunner().invoke(main, ["plan", "demo", "--until", "encode"]).output


def test_plan_advises_for_labels_once_base_and_items_are_there(site: Site) -> None:
    recipe = load_recipe("labels-toy")
    assert "known when the base" in advice_line(recipe, site, {})
    base = Checkpoint.model_construct(method="pretrain", num_parameters=23_000_000)
    labelled = Labelled.model_construct(items_by_split={"train": 5_000, "validation": 1, "test": 1})
    assert advice_line(recipe, site, {"pretrain": base, "labelled": labelled}).startswith(
        "advice    full: there are labels enough"
    )
