"""Scoring: one model on test documents and held-out items.

In: a `Checkpoint`, or the `Champion`. Out: `Scores` with an interval for each metric. Invariants: every model is asked the same
things in the same way; a role without a model has no figures, not zeros.
"""

from pathlib import Path

import numpy as np

from tasks.contracts import Champion, Checkpoint, CleanCorpus, Conversations, Interval, Scores
from tasks.core.errors import ContractError
from tasks.core.stage import CHILD, StageContext, stage
from tasks.core.tables import read_rows
from tasks.evaluation.ask import AskJob
from tasks.evaluation.bootstrap import Numbers, ratio_interval
from tasks.evaluation.metrics import Units, measure_units
from tasks.evaluation.specs import BootstrapSpec, ScoreSpec
from tasks.evaluation.speed import read_speed
from tasks.modeling.architecture import says_labels


@stage(version=9, retry=CHILD, packages=("torch", "transformers", "numpy"), base_first=True)
def score_model(
    spec: ScoreSpec, model: Checkpoint, corpus: CleanCorpus, conversations: Conversations, *, ctx: StageContext
) -> Scores:
    """Scores a checkpoint."""
    return _score(spec, model.path / "model", model.digest, corpus, conversations, ctx)


@stage(version=9, retry=CHILD, packages=("torch", "transformers", "numpy"))
def score_champion(
    spec: ScoreSpec, champion: Champion, corpus: CleanCorpus, conversations: Conversations, *, ctx: StageContext
) -> Scores:
    """Scores the current champion; where there is none, says so.

    Raises:
        ContractError: It is a model that labels.
    """
    if champion.version is None:
        return ctx.commit(Scores, role=spec.role, model_digest=None, metrics={})
    if says_labels(champion.path / "model"):
        raise ContractError(
            f"the champion {champion.model_name} version {champion.version} labels text and writes none; set registry.name to "
            "another name"
        )
    return _score(spec, champion.path / "model", champion.model_digest, corpus, conversations, ctx)


def _score(
    spec: ScoreSpec,
    model_dir: Path,
    model_digest: str | None,
    corpus: CleanCorpus,
    conversations: Conversations,
    ctx: StageContext,
) -> Scores:
    job = AskJob(
        dir=ctx.dir,
        model_dir=model_dir,
        documents=corpus.path / "documents",
        conversations=conversations.path,
        device=ctx.site.resolved_device,
        settings=spec.settings,
    )
    ctx.run_child("tasks.evaluation.ask:ask_main", job)
    metrics = measure(spec.settings.bootstrap, read_units(ctx.dir))
    return ctx.commit(Scores, role=spec.role, model_digest=model_digest, metrics=metrics, tokens_per_s=read_speed(ctx.dir))


def measure(spec: BootstrapSpec, units: dict[str, Units]) -> dict[str, Interval]:
    """Returns the interval of each metric."""
    return {name: ratio_interval(spec, *columns(found)) for name, found in units.items()}


def columns(units: Units) -> tuple[Numbers, Numbers]:
    """Returns the two numbers of each group of units as two columns: what was written of one thing is drawn together."""
    sums: dict[str, tuple[float, float]] = {}
    for above, below, group in units.values():
        so_far = sums.get(group, (0.0, 0.0))
        sums[group] = so_far[0] + above, so_far[1] + below
    both = np.array(list(sums.values()), dtype=np.float64).reshape(-1, 2)
    return both[:, 0], both[:, 1]


def read_units(folder: Path) -> dict[str, Units]:
    """Reads the tables of a scored model and returns each metric's two numbers by document or item."""
    return measure_units(read_rows(folder / "documents.parquet"), read_rows(folder / "items.parquet"))
