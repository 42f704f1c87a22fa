"""Comparison: the tuned model beside its base and the champion, pair by pair on the same documents and items.

In: three `Scores`. Out: an `EvalReport` with paired intervals and a page to look at. Invariants: a difference is made of units
both models were scored on; a loss per token is compared only where both models cut the text into the same tokens.
"""

from functools import partial

from tasks.contracts import EvalReport, Interval, Scores
from tasks.core.errors import ContractError
from tasks.core.stage import StageContext, stage
from tasks.evaluation.bootstrap import difference_interval
from tasks.evaluation.metrics import Units
from tasks.evaluation.page import render_page
from tasks.evaluation.score import columns, read_units
from tasks.evaluation.side_by_side import check_roles, commit_comparison, side_by_side
from tasks.evaluation.specs import BootstrapSpec, CompareSpec


@stage(version=1, name="evaluate", packages=("numpy",))
def compare(spec: CompareSpec, base: Scores, tuned: Scores, champion: Scores, *, ctx: StageContext) -> EvalReport:
    """Compares the tuned model with its base, and with the champion where there is one."""
    present = check_roles("evaluate", base, tuned, champion)
    units = {scores.role: read_units(scores.path) for scores in present}
    metrics, differences = side_by_side(present, units, partial(paired_differences, spec.bootstrap))
    page = render_page(spec, present, metrics, differences)
    return commit_comparison(present, metrics, differences, page, ctx)


def paired_differences(spec: BootstrapSpec, tuned: dict[str, Units], other: dict[str, Units]) -> dict[str, Interval]:
    """Returns the interval of tuned - other for each metric that both have units of.

    Raises:
        ContractError: They share no unit of any metric.
    """
    differences = {}
    for name in tuned.keys() & other.keys():
        shared = [unit for unit in tuned[name] if unit in other[name]]
        one, two = ({unit: units[unit] for unit in shared} for units in (tuned[name], other[name]))
        if shared and _comparable(name, one, two):
            differences[name] = difference_interval(spec, columns(one), columns(two))
    if not differences:
        raise ContractError("the two models were not scored on a single common document or item; score both on one corpus")
    return dict(sorted(differences.items()))


def _comparable(name: str, one: Units, two: Units) -> bool:
    """Says whether a metric means the same for both: bytes are the same for all models, tokens may not be."""
    return name != "answer_loss" or all(one[unit].below == two[unit].below for unit in one)
