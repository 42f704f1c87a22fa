"""Comparison on labelled text: the tuned model beside what can be said without reading, and beside the champion.

In: three `Scores`. Out: an `EvalReport` with paired intervals, and a page. Invariants: a difference is made of items both were
asked; each metric is made anew of every resample.
"""

from functools import partial

from tasks.contracts import EvalReport, Interval, Scores
from tasks.core.errors import ContractError
from tasks.core.stage import StageContext, stage
from tasks.evaluation.label_metrics import differences as paired_intervals
from tasks.evaluation.label_page import render_label_page
from tasks.evaluation.label_specs import CompareLabelsSpec
from tasks.evaluation.label_tables import Predictions, read_predictions
from tasks.evaluation.side_by_side import check_roles, commit_comparison, side_by_side
from tasks.evaluation.specs import BootstrapSpec


@stage(version=4, name="evaluate_labels", packages=("numpy",))
def compare_labels(spec: CompareLabelsSpec, base: Scores, tuned: Scores, champion: Scores, *, ctx: StageContext) -> EvalReport:
    """Compares the tuned model with its base, and with the champion where there is one.

    Raises:
        ContractError: The scores are of other roles, or share no item.
    """
    present = check_roles("evaluate_labels", base, tuned, champion)
    said = {scores.role: read_predictions(scores.path) for scores in present}
    metrics, differences = side_by_side(present, said, partial(paired_differences, spec.bootstrap))
    page = render_label_page(spec, present, said, metrics, differences)
    return commit_comparison(present, metrics, differences, page, ctx)


def paired_differences(spec: BootstrapSpec, tuned: Predictions, other: Predictions) -> dict[str, Interval]:
    """Returns the interval of tuned - other for each metric, over the items both were asked.

    Raises:
        ContractError: They were asked no common item.
    """
    asked = set(other.ids)
    shared = [name for name in tuned.ids if name in asked]
    if not shared:
        raise ContractError("the two models were not scored on a single common item; score both on one labelled set")
    return paired_intervals(spec, tuned.of(shared), other.of(shared))
