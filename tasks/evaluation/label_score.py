"""Scoring on labelled text: one model, or what can be said without reading, on validation and test items.

In: a `Checkpoint`, or the `Champion`. Out: `Scores` with `predictions.parquet` and an interval for each metric over the test
items.
Invariants: every model is asked the same items; the base, which knows no labels, is stood for by the best constant answer of the
training items (majority label, mean value): a head of random weights would measure chance.
"""

import json
import math
from collections import Counter
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from tasks.contracts import Champion, Checkpoint, Labelled, LabelledTask, Scores
from tasks.core.child import report
from tasks.core.errors import ContractError
from tasks.core.stage import CHILD, StageContext, stage
from tasks.core.tables import read_rows
from tasks.evaluation.label_metrics import measure
from tasks.evaluation.label_specs import ScoreLabelsSpec
from tasks.evaluation.label_tables import read_predictions, scored_items, write_predictions
from tasks.evaluation.speed import note_speed, read_speed
from tasks.modeling.labelled_items import Item, Prediction
from tasks.modeling.labels import PROBLEMS

_UNSAID_NAMES = {"0": "LABEL_0", "1": "LABEL_1"}  # transformers writes no names where they are those it gives itself


class PredictJob(BaseModel):
    """Which model, on which items, and where the table goes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dir: Path
    model_dir: Path
    labelled: Labelled
    device: str


@stage(version=5, retry=CHILD, packages=("torch", "transformers", "numpy"))
def score_labels(spec: ScoreLabelsSpec, model: Checkpoint, labelled: Labelled, *, ctx: StageContext) -> Scores:
    """Scores a checkpoint tuned on labelled text."""
    return _score(spec, model.path / "model", model.digest, labelled, ctx)


@stage(version=5, retry=CHILD, packages=("torch", "transformers", "numpy"))
def score_labels_champion(spec: ScoreLabelsSpec, champion: Champion, labelled: Labelled, *, ctx: StageContext) -> Scores:
    """Scores the current champion; where there is none, says so.

    Raises:
        ContractError: It says other labels.
    """
    if champion.version is None:
        return ctx.commit(Scores, role=spec.role, model_digest=None, metrics={})
    _check_labels(champion, labelled)
    return _score(spec, champion.path / "model", champion.model_digest, labelled, ctx)


@stage(version=4, packages=("numpy",))
def score_majority(spec: ScoreLabelsSpec, base: Checkpoint, labelled: Labelled, *, ctx: StageContext) -> Scores:
    """Scores the best constant answer of the training items in the place of the base."""
    _require_test(labelled)
    items = scored_items(labelled)
    said = _constants(labelled, items)
    write_predictions(ctx.dir, labelled.task, labelled.label_names, items, said, {"items": len(items), "too_long": 0})
    return _commit(spec, base.digest, None, ctx)


def _score(spec: ScoreLabelsSpec, model_dir: Path, digest: str | None, labelled: Labelled, ctx: StageContext) -> Scores:
    _require_test(labelled)
    job = PredictJob(dir=ctx.dir, model_dir=model_dir, labelled=labelled, device=ctx.site.resolved_device)
    ctx.run_child("tasks.evaluation.label_score:predict_main", job)
    return _commit(spec, digest, read_speed(ctx.dir), ctx)


def _commit(spec: ScoreLabelsSpec, digest: str | None, tokens_per_s: float | None, ctx: StageContext) -> Scores:
    metrics = measure(spec.settings.bootstrap, read_predictions(ctx.dir))
    return ctx.commit(Scores, role=spec.role, model_digest=digest, metrics=metrics, tokens_per_s=tokens_per_s)


def _require_test(labelled: Labelled) -> None:
    if not labelled.items_by_split.get("test"):
        raise ContractError(f"{labelled.address} has no test items to score on; add some, or a share for that split")


def _check_labels(champion: Champion, labelled: Labelled) -> None:
    config = json.loads((champion.path / "model" / "config.json").read_text(encoding="utf-8"))
    problem = config.get("problem_type")
    names = config.get("id2label") or (_UNSAID_NAMES if problem else {})
    known = [names[number] for number in sorted(names, key=int)]
    wanted = labelled.label_names or ("value",)
    if problem != PROBLEMS[labelled.task] or set(known) != set(wanted):
        raise ContractError(
            f"the champion {champion.model_name} version {champion.version} says {', '.join(known) or 'no labels'} "
            f"({problem}), not {', '.join(wanted)} ({labelled.task}); set registry.name to another name"
        )


def predict_main(job: PredictJob) -> None:
    """Asks a model of all items."""
    from tasks.modeling.labelled_predict import predict_timed

    items = scored_items(job.labelled)

    def tell(done: int, total: int) -> None:
        report(done=done, total=total, unit="items")

    said, notes, tokens_per_s = predict_timed(job.model_dir, items, job.device, tell)
    note_speed(job.dir, tokens_per_s)
    write_predictions(job.dir, job.labelled.task, job.labelled.label_names, items, said, notes)


def _constants(labelled: Labelled, items: list[Item]) -> list[Prediction]:
    """Returns what is said of every item without reading it."""
    rows = list(read_rows(labelled.path / "items.parquet", ("split", "labels", "value")))
    train = [row for row in rows if row["split"] == "train"]
    if labelled.task == "regression":
        mean = sum(row["value"] for row in train) / len(train)
        return [Prediction((), (), mean, None) for _ in items]
    counts = Counter(label for row in train for label in row["labels"])
    if labelled.task == "multi_label":
        shares = {name: (counts[name] + 1) / (len(train) + 2) for name in labelled.label_names}
        said = tuple(name for name, share in shares.items() if share > 0.5)
        return [Prediction(said, tuple(shares.values()), None, _many_nats(shares, item["labels"])) for item in items]
    shares = {name: (counts[name] + 1) / (counts.total() + len(labelled.label_names)) for name in labelled.label_names}
    return [_majority(labelled.task, shares, item["labels"]) for item in items]


def _majority(task: LabelledTask, shares: dict[str, float], truth: list[str]) -> Prediction:
    """Returns the most frequent label, with the share of each as its probability (Laplace's rule)."""
    top = max(shares, key=lambda name: shares[name])
    by_word = task == "token_classification"
    scores = (shares[top],) * len(truth) if by_word else tuple(shares.values())
    return Prediction((top,) * len(truth), scores, None, -sum(math.log(shares[label]) for label in truth))


def _many_nats(shares: dict[str, float], truth: list[str]) -> float:
    return -sum(math.log(share if name in truth else 1 - share) for name, share in shares.items()) / len(shares)
