"""Several tunings side by side: which is best on validation, at what cost, and what it is worth on the test split.

In: a `TuningSummary` for each cell of a grid. Out: a `TuningComparison` with a page. Invariants: validation figures alone choose;
of the test split the page shows the chosen run's figures and no others.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Literal

from pydantic import Field

from tasks.contracts import TuningComparison, TuningSummary
from tasks.core.artifact import EXTRA_DIR, Spec
from tasks.core.errors import ContractError
from tasks.core.stage import StageContext, stage
from tasks.evaluation.choices import Choice, Run, ranked
from tasks.evaluation.tuning_page import render_tuning_page
from tasks.evaluation.tuning_plots import draw_tunings
from tasks.modeling.labels import LOWER_IS_BETTER, Criterion

PICTURE = "quality.svg"
TuningCriterion = Criterion | Literal["preference_accuracy"]


class CellSpec(Spec):
    """One run of a comparison."""

    settings: Annotated[dict[str, str], Field(description="What it is chosen by: fields of the recipe and their values.")]
    seeds: Annotated[dict[str, str], Field(description="Its seeds, which are not chosen among.")]


class CompareTuningsSpec(Spec):
    """Which runs are compared, and by what."""

    cells: Annotated[tuple[CellSpec, ...], Field(min_length=1, description="The runs, in the order of their summaries.")]
    criterion: Annotated[TuningCriterion, Field(description="Figure on the validation split that chooses.")]


@stage(version=6)
def compare_tunings(spec: CompareTuningsSpec, *summaries: TuningSummary, ctx: StageContext) -> TuningComparison:
    """Chooses among tunings.

    Raises:
        ContractError: There is not one summary a cell, one has no such validation figure, losses are of different tokens, two
            cells are one training, or figures were taken on different validation items.
    """
    choices = _ranked(spec, summaries)
    best = choices[0]
    chosen = best.best_run(spec.criterion in LOWER_IS_BETTER)
    picture = draw_tunings(choices, spec.criterion)
    (ctx.dir / EXTRA_DIR).mkdir(exist_ok=True)
    (ctx.dir / EXTRA_DIR / PICTURE).write_text(picture, encoding="utf-8")
    page = render_tuning_page(choices, chosen, spec.criterion, picture)
    (ctx.dir / "report.html").write_text(page, encoding="utf-8")
    rows = {"criterion": spec.criterion, "choices": [asdict(choice.row()) for choice in choices]}
    (ctx.dir / "comparison.json").write_text(json.dumps(rows, ensure_ascii=False, indent=1), encoding="utf-8")
    return ctx.commit(
        TuningComparison,
        criterion=spec.criterion,
        num_runs=len(summaries),
        chosen=best.settings,
        chosen_digest=chosen.summary.model_digest,
        validation=best.figure.mean,
        test={name: interval.model_dump() for name, interval in chosen.summary.test.items()},
    )


def _ranked(spec: CompareTuningsSpec, summaries: Sequence[TuningSummary]) -> list[Choice]:
    if len(spec.cells) != len(summaries):
        raise ContractError(f"{len(spec.cells)} cells, but {len(summaries)} summaries; give one for each, in their order")
    for summary in summaries:
        if spec.criterion not in summary.validation:
            raise ContractError(
                f"{summary.address} has no {spec.criterion} on validation; choose by {', '.join(summary.validation)}"
            )
    of_answers = [summary for summary in summaries if not summary.validation_intervals]  # labels have losses of their own
    if spec.criterion == "loss" and len({summary.tokenizer_digest for summary in of_answers}) > 1:
        raise ContractError(
            "the models read by different tokenizers, and a loss per token says nothing across them; compare others"
        )
    runs = [Run(cell.settings, cell.seeds, summary) for cell, summary in zip(spec.cells, summaries, strict=True)]
    _require_different(runs)
    _require_same_items(runs)
    return ranked(runs, spec.criterion, spec.criterion in LOWER_IS_BETTER)


def _require_different(runs: Sequence[Run]) -> None:
    """Raises ContractError where two runs are one training: it would win over itself, or count as two seeds."""
    seen: dict[tuple[str, float], Run] = {}
    for run in runs:
        first = seen.setdefault((run.summary.model_digest, run.summary.seconds), run)
        if first is not run:
            raise ContractError(
                f"{first.label} and {run.label} are one training: what differs changes nothing that is tuned; leave it out of "
                "--grid"
            )


def _require_same_items(runs: Sequence[Run]) -> None:
    """Raises ContractError where runs of the same seeds were judged on more or fewer items, as far as that is known."""
    seen: dict[tuple[tuple[str, str], ...], tuple[str, int]] = {}
    for run in runs:
        num_items = max((interval.num_items for interval in run.summary.validation_intervals.values()), default=0)
        first, num_before = seen.setdefault(tuple(run.seeds.items()), (run.label, num_items))
        if num_items != num_before:
            raise ContractError(
                f"{first} was judged on {num_before} validation items, {run.label} on {num_items}: such figures do not say which "
                "is better; compare what keeps the same items"
            )
