"""The summary of one tuning: what it cost, what it brought, what it took.

In: the tuned `Checkpoint`, the `Scores` of its base and its own. Out: a `TuningSummary`. Invariant: validation figures, which may
choose among tunings, and test figures, which may not, stand apart.
"""

import json
from typing import Annotated

from pydantic import Field

from tasks.contracts import Checkpoint, Interval, Scores, TuningSummary
from tasks.core.artifact import Spec
from tasks.core.errors import ContractError
from tasks.core.stage import StageContext, stage
from tasks.evaluation.compare import paired_differences
from tasks.evaluation.label_metrics import measure
from tasks.evaluation.label_tables import SCORED, read_predictions
from tasks.evaluation.score import read_units
from tasks.evaluation.specs import BootstrapSpec


class SummarizeSpec(Spec):
    """How sure one wants to be of the figures."""

    bootstrap: Annotated[BootstrapSpec, Field(description="Intervals.")] = BootstrapSpec()


@stage(version=4, packages=("numpy",), by_origin=True)
def summarize(
    spec: SummarizeSpec, tuned: Checkpoint, base_scores: Scores, tuned_scores: Scores, *, ctx: StageContext
) -> TuningSummary:
    """Puts together what is known of one tuning.

    Raises:
        ContractError: The scores are of another model, or the checkpoint was not tuned.
    """
    if tuned_scores.model_digest != tuned.digest:
        raise ContractError(f"{tuned_scores.address} are the scores of another model than {tuned.address}; check the order")
    if "seconds" not in tuned.figures or tuned.validation_loss is None:
        raise ContractError(f"{tuned.address} ({tuned.method}) records no tuning; give the checkpoint of a tuning stage")
    intervals = _validation_intervals(spec, tuned_scores)
    preferred = {name: tuned.figures[name] for name in ("preference_accuracy",) if name in tuned.figures}
    facts = {
        "model_digest": tuned.digest,
        "tokenizer_digest": tuned.tokenizer_digest,
        "method": tuned.method,
        "num_parameters": tuned.num_parameters,
        "num_trained_parameters": tuned.num_trained_parameters,
        "trained_share": tuned.figures["trained_share"],
        "kept_bytes": int(tuned.figures["kept_bytes"]),
        "seconds": tuned.figures["seconds"],
        "peak_memory_bytes": int(tuned.figures["peak_memory_bytes"]),
        "tokens_per_s": tuned_scores.tokens_per_s,
        "train_validation_gap": tuned.figures["train_validation_gap"],
        "validation": {"loss": tuned.validation_loss} | tuned.held_out | preferred,
        "validation_intervals": {name: interval.model_dump() for name, interval in intervals.items()},
        "test": {name: interval.model_dump() for name, interval in tuned_scores.metrics.items()},
        "forgetting": None if (lost := _forgetting(spec, base_scores, tuned_scores)) is None else lost.model_dump(),
    }
    (ctx.dir / "summary.json").write_text(json.dumps(facts, indent=1), encoding="utf-8")
    return ctx.commit(TuningSummary, **facts)


def _is_labelled(scores: Scores) -> bool:
    return (scores.path / SCORED).exists()


def _validation_intervals(spec: SummarizeSpec, scores: Scores) -> dict[str, Interval]:
    """Returns the figures on single validation items; a model that answers is asked none of them."""
    return measure(spec.bootstrap, read_predictions(scores.path, "validation")) if _is_labelled(scores) else {}


def _forgetting(spec: SummarizeSpec, base: Scores, tuned: Scores) -> Interval | None:
    """Returns the bits a byte that the general text costs more than before."""
    if _is_labelled(tuned):
        return None
    return paired_differences(spec.bootstrap, read_units(tuned.path), read_units(base.path))["bits_per_byte"]
