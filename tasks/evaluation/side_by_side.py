"""What every comparison does: three scored roles in their order, side by side, as a report.

In: three `Scores`. Out: an `EvalReport` with `comparison.json` beside it. Invariant: a role without a model has no part in it.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from tasks.contracts import EvalReport, Interval, Role, Scores
from tasks.core.errors import ContractError
from tasks.core.stage import StageContext

T = TypeVar("T")
Intervals = dict[str, Interval]


def check_roles(stage_name: str, base: Scores, tuned: Scores, champion: Scores) -> list[Scores]:
    """Returns the scores of the roles that have a model.

    Raises:
        ContractError: The scores are of other roles, or base or tuned model was not scored.
    """
    for wanted, scores in (("base", base), ("tuned", tuned), ("champion", champion)):
        if scores.role != wanted:
            raise ContractError(f"{stage_name} was given the scores of a {scores.role} model as {wanted}; check the order")
    if base.model_digest is None or tuned.model_digest is None:
        raise ContractError("base and tuned model must both have been scored")
    return [scores for scores in (base, tuned, champion) if scores.model_digest]


def side_by_side(
    present: list[Scores], seen: Mapping[Role, T], paired: Callable[[T, T], Intervals]
) -> tuple[Intervals, Intervals]:
    """Returns the metrics by `<role>/<metric>`, and the intervals of tuned - other by `<other>/<metric>`."""
    metrics = {f"{scores.role}/{name}": interval for scores in present for name, interval in scores.metrics.items()}
    differences = {
        f"{role}/{name}": interval
        for role in seen
        if role != "tuned"
        for name, interval in paired(seen["tuned"], seen[role]).items()
    }
    return metrics, differences


def commit_comparison(
    present: list[Scores], metrics: Intervals, differences: Intervals, page: str, ctx: StageContext
) -> EvalReport:
    """Writes the intervals and the page, and commits the report."""
    parts: dict[str, Any] = {"metrics": metrics, "differences": differences}
    plain = {part: {name: interval.model_dump() for name, interval in found.items()} for part, found in parts.items()}
    (ctx.dir / "comparison.json").write_text(json.dumps(plain, indent=1, sort_keys=True), encoding="utf-8")
    (ctx.dir / "report.html").write_text(page, encoding="utf-8")
    digests = {scores.role: scores.model_digest for scores in present}
    return ctx.commit(
        EvalReport,
        base_digest=digests["base"],
        tuned_digest=digests["tuned"],
        champion_digest=digests.get("champion"),
        metrics=metrics,
        differences=differences,
    )
