"""Comparison on labelled text: the tuned model beside what can be said without reading, and beside the champion.

In: three `Scores`. Out: an `EvalReport` with paired intervals, and a page. Invariants: a difference is made of items both were
asked; each metric is made anew of every resample.
"""

import json
from typing import Any

from tasks.contracts import EvalReport, Interval, Scores
from tasks.core.errors import ContractError
from tasks.core.stage import StageContext, stage
from tasks.evaluation.label_metrics import differences
from tasks.evaluation.label_page import render_label_page
from tasks.evaluation.label_specs import CompareLabelsSpec
from tasks.evaluation.label_tables import Predictions, read_predictions
from tasks.evaluation.specs import BootstrapSpec


@stage(version=1, name="evaluate_labels", packages=("numpy",))
def compare_labels(spec: CompareLabelsSpec, base: Scores, tuned: Scores, champion: Scores, *, ctx: StageContext) -> EvalReport:
    """Compares the tuned model with its base, and with the champion where there is one.

    Raises:
        ContractError: The scores are of other roles, or share no item.
    """
    for wanted, scores in (("base", base), ("tuned", tuned), ("champion", champion)):
        if scores.role != wanted:
            raise ContractError(f"evaluate_labels was given the scores of a {scores.role} model as {wanted}; check the order")
    if base.model_digest is None or tuned.model_digest is None:
        raise ContractError("base and tuned model must both have been scored")
    present = [scores for scores in (base, tuned, champion) if scores.model_digest]
    said = {scores.role: read_predictions(scores.path) for scores in present}
    metrics = {f"{scores.role}/{name}": interval for scores in present for name, interval in scores.metrics.items()}
    paired = {
        f"{role}/{name}": interval
        for role in said
        if role != "tuned"
        for name, interval in paired_differences(spec.bootstrap, said["tuned"], said[role]).items()
    }
    (ctx.dir / "comparison.json").write_text(_as_json(metrics, paired), encoding="utf-8")
    (ctx.dir / "report.html").write_text(render_label_page(spec, present, said, metrics, paired), encoding="utf-8")
    return ctx.commit(
        EvalReport,
        base_digest=base.model_digest,
        tuned_digest=tuned.model_digest,
        champion_digest=champion.model_digest,
        metrics=metrics,
        differences=paired,
    )


def paired_differences(spec: BootstrapSpec, tuned: Predictions, other: Predictions) -> dict[str, Interval]:
    """Returns the interval of tuned - other for each metric, over the items both were asked.

    Raises:
        ContractError: They were asked no common item.
    """
    asked = set(other.ids)
    shared = [name for name in tuned.ids if name in asked]
    if not shared:
        raise ContractError("the two models were not scored on a single common item; score both on one labelled set")
    return differences(spec, tuned.of(shared), other.of(shared))


def _as_json(metrics: dict[str, Interval], paired: dict[str, Interval]) -> str:
    parts: dict[str, Any] = {"metrics": metrics, "differences": paired}
    plain = {part: {name: interval.model_dump() for name, interval in found.items()} for part, found in parts.items()}
    return json.dumps(plain, indent=1, sort_keys=True)
