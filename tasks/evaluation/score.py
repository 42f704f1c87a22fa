"""Scoring: one model on test documents and held-out items.

In: a `Checkpoint`, or the `Champion`. Out: `Scores` with an interval for each metric. Invariants: every model is asked the same
things in the same way; a role without a model has no figures, not zeros.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np

from tasks.contracts import Champion, Checkpoint, CleanCorpus, Conversations, Interval, Scores
from tasks.core.stage import CHILD, StageContext, stage
from tasks.core.tables import read_rows
from tasks.evaluation.ask import AskJob
from tasks.evaluation.bootstrap import Numbers, ratio_interval
from tasks.evaluation.specs import BootstrapSpec, ScoreSpec

Sums = tuple[Numbers, Numbers]


@stage(version=1, retry=CHILD, packages=("torch", "transformers", "numpy"))
def score_model(
    spec: ScoreSpec, model: Checkpoint, corpus: CleanCorpus, conversations: Conversations, *, ctx: StageContext
) -> Scores:
    """Scores a checkpoint."""
    return _score(spec, model.path / "model", model.digest, corpus, conversations, ctx)


@stage(version=1, retry=CHILD, packages=("torch", "transformers", "numpy"))
def score_champion(
    spec: ScoreSpec, champion: Champion, corpus: CleanCorpus, conversations: Conversations, *, ctx: StageContext
) -> Scores:
    """Scores the current champion; where there is none, says so."""
    if champion.version is None:
        return ctx.commit(Scores, role=spec.role, model_digest=None, metrics={})
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
    metrics = measure(spec.settings.bootstrap, read_sums(ctx.dir))
    return ctx.commit(Scores, role=spec.role, model_digest=model_digest, metrics=metrics)


def measure(spec: BootstrapSpec, sums: dict[str, dict[str, tuple[float, float]]]) -> dict[str, Interval]:
    """Returns the interval of each metric."""
    return {name: ratio_interval(spec, *columns(units)) for name, units in sums.items()}


def columns(units: dict[str, tuple[float, float]]) -> Sums:
    """Returns the two numbers of each unit as two columns."""
    both = np.array(list(units.values()), dtype=np.float64).reshape(-1, 2)
    return both[:, 0], both[:, 1]


def read_sums(folder: Path) -> dict[str, dict[str, tuple[float, float]]]:
    """Reads the tables of a scored model: for each metric, by document or item, the two numbers whose sums' ratio it is.

    A metric without a single unit is left out.
    """
    documents = list(read_rows(folder / "documents.parquet"))
    items = list(read_rows(folder / "items.parquet"))
    sums = {
        "bits_per_byte": {row["id"]: _bits_per_byte(row, row["nats"]) for row in documents},
        **{
            f"bits_per_byte/{lang}": {row["id"]: _bits_per_byte(row, row["nats"]) for row in documents if row["lang"] == lang}
            for lang in sorted({row["lang"] for row in documents})
        },
        "answer_loss": {row["id"]: (row["nats"], row["num_tokens"]) for row in items},
        "answer_bits_per_byte": {row["id"]: _bits_per_byte(row, row["nats"]) for row in items},
        "keyword_accuracy": {row["id"]: (float(row["is_matched"]), 1.0) for row in items if not row["copied"]},
        "keyword_accuracy/copied": {row["id"]: (float(row["is_matched"]), 1.0) for row in items if row["copied"]},
        "prompt_gain": {
            row["id"]: _bits_per_byte(row, row["foreign_nats"] - row["nats"]) for row in items if row["foreign_nats"] is not None
        },
    }
    return {name: units for name, units in sums.items() if units}


def _bits_per_byte(row: dict[str, Any], nats: float) -> tuple[float, float]:
    return nats / math.log(2), row["num_bytes"]
