"""The gate on labelled text: whether the tuned model may become champion.

In: an `EvalReport` and the `Champion`. Out: a `Verdict`, committed whether yes or no. Invariants: those of
`tasks.evaluation.gate`.
"""

from typing import Literal

from tasks.contracts import Champion, EvalReport, Interval, Verdict
from tasks.core.errors import RecipeError
from tasks.core.stage import StageContext, stage
from tasks.evaluation.gate import Rule, check_champion, commit_verdict
from tasks.evaluation.label_metrics import metric_named
from tasks.evaluation.label_specs import DEFAULT_METRICS, LabelGateSpec


def label_rules(spec: LabelGateSpec, report: EvalReport) -> list[Rule]:
    """Returns what is asked of this comparison.

    Raises:
        RecipeError: The metric is none of the task's.
    """
    known = [name.partition("/")[2] for name in report.metrics if name.startswith("tuned/")]
    usual = next(metric for metric in DEFAULT_METRICS if metric in known)
    name = spec.metric or usual
    if name not in known:
        raise RecipeError(f"gate.metric {name!r} was not measured; choose {', '.join(known)}, or off for the usual one")
    gain = _better_by(
        name, report.differences.get(f"base/{name}"), "gain over what can be said without reading", spec.gain_over_base
    )
    asked = [gain]
    if report.champion_digest is not None:
        asked.append(_no_worse(name, report.differences.get(f"champion/{name}"), spec.champion_loss))
    if spec.calibration is not None:
        error = report.metrics.get("tuned/calibration_error")
        asked.append(Rule("calibration error", error, "at most", spec.calibration, ""))
    return asked


def _better_by(name: str, interval: Interval | None, what: str, gain: float) -> Rule:
    metric = metric_named(name)
    side: Literal["below", "above"] = "below" if metric.lower_is_better else "above"
    return Rule(f"{name}, {what}", interval, side, (0.0 - gain) if metric.lower_is_better else gain, metric.unit)


def _no_worse(name: str, interval: Interval | None, loss: float) -> Rule:
    metric = metric_named(name)
    side: Literal["at most", "at least"] = "at most" if metric.lower_is_better else "at least"
    return Rule(f"{name} against champion", interval, side, loss if metric.lower_is_better else 0.0 - loss, metric.unit)


@stage(version=1, name="gate_labels")
def judge_labels(spec: LabelGateSpec, report: EvalReport, champion: Champion, *, ctx: StageContext) -> Verdict:
    """Judges the tuned model; the verdict is an artifact either way."""
    check_champion(report, champion)
    return commit_verdict(label_rules(spec, report), spec.min_items, report, ctx)
