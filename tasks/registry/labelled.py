"""Registration of a labelled model: a version that holds its own copy, its trial questions, and may become champion.

In: the model with everything found out about it. Out: a version in MLflow, `version.json` and `card.md`. Invariants: those of
`tasks.registry.register`; the version carries test items with the predictions that were scored, so that whoever rolls it out, or
goes back to it, can tell whether what is served is what was judged.
"""

import json
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from tasks.contracts import Checkpoint, EvalReport, Labelled, ModelVersion, QualityReport, Scores, Verdict
from tasks.core.artifact import Spec
from tasks.core.errors import ContractError
from tasks.core.site import Site
from tasks.core.stage import NETWORK, StageContext, stage
from tasks.core.tables import read_rows
from tasks.core.tracking import TRIAL, set_tags, version_by_digest
from tasks.registry.form import check_trial
from tasks.registry.labelled_card import LabelFindings, are_pairs, labelled_card
from tasks.registry.names import ModelName
from tasks.registry.upload import Package, describe, upload
from tasks.registry.version import (
    check_same_model,
    commit_version,
    point_aliases,
    same_model,
    still_registered,
    tags_of,
)


class RegisterLabelledSpec(Spec):
    """How a labelled model is registered."""

    name: ModelName = "textmill-labels"
    purpose: Annotated[str, Field(max_length=1_000, description="What the model is for; opens its card.")] = (
        "A model that labels text, made by Textmill."
    )
    trial_items: Annotated[
        int, Field(ge=1, le=100, description="Test items kept with the version: asked again before it goes live.")
    ] = 16


def is_registered(
    artifact: ModelVersion,
    spec: RegisterLabelledSpec,
    base: Checkpoint,
    tuned: Checkpoint,
    scores: Scores,
    report: EvalReport,
    verdict: Verdict,
    quality: QualityReport,
    labelled: Labelled,
    *,
    site: Site,
) -> bool:
    """Whether the version is there, holds this model, and the aliases are what the verdict asks for."""
    return still_registered(artifact, spec.name, tuned, verdict, quality, site)


@stage(version=3, retry=NETWORK, holds=is_registered)
def register_labelled(
    spec: RegisterLabelledSpec,
    base: Checkpoint,
    tuned: Checkpoint,
    scores: Scores,
    report: EvalReport,
    verdict: Verdict,
    quality: QualityReport,
    labelled: Labelled,
    *,
    ctx: StageContext,
) -> ModelVersion:
    """Registers the tuned model as candidate, and as champion where the verdict says so.

    Raises:
        ContractError: The verdict or the reports are about another model, or the name holds this model with other trial items.
        GateError: Another version became champion since the model was compared with it.
        TransientError: MLflow does not answer.
    """
    checked = {
        "the checked data": (quality.corpus_digest, labelled.digest),
        "the scored model": (scores.model_digest, tuned.digest),
    }
    check_same_model(same_model(base, tuned, report, verdict) | checked)
    found = LabelFindings(base, tuned, scores, report, verdict, quality, labelled)
    card = labelled_card(spec.name, spec.purpose, found)
    questions = trial_questions(spec.trial_items, found)
    version = version_by_digest(ctx.site, spec.name, tuned.digest)
    if version is None:
        version = upload(spec.name, _package(found, questions), card, ctx)
    else:
        check_trial(version, spec.trial_items, len(questions), ctx.site)
    describe(version, card, ctx)
    own = {"textmill.task": labelled.task, "textmill.labelled_digest": labelled.digest}
    set_tags(ctx.site, version, tags_of(base, tuned, report, verdict, found.warnings, ctx) | own)
    point_aliases(version, report, verdict, quality, ctx)
    return commit_version(version, card, ctx)


def _package(found: LabelFindings, questions: Sequence[dict[str, Any]]) -> Package:
    return Package(
        base=found.base,
        tuned=found.tuned,
        report=found.report,
        used=((found.labelled, "tuning and scoring"),),
        script=Path(__file__).with_name("served_labels.py"),
        model_type=found.labelled.task.replace("_", "-"),
        signature=lambda: _signature(found.labelled),
        requirements=("pandas",),
        files={TRIAL: json.dumps(questions, ensure_ascii=False, indent=1)},
        form={"textmill.trial_items": str(len(questions))},
    )


def trial_questions(count: int, found: LabelFindings) -> list[dict[str, Any]]:
    """Returns test items spread over the split, each a record to ask and the prediction that was scored.

    Raises:
        ContractError: The scores are of other items.
    """
    said = {row["id"]: row for row in read_rows(found.scores.path / "predictions.parquet")}
    items = [row for row in read_rows(found.labelled.path / "items.parquet") if row["split"] == "test" and row["id"] in said]
    if not items:
        raise ContractError(f"{found.scores.address} holds no test item of {found.labelled.address}; score this labelled set")
    chosen = items[:: max(1, len(items) // count)][:count]
    return [{"record": _record(row), "expected": _expected(found.labelled, said[row["id"]])} for row in chosen]


def _record(row: dict[str, Any]) -> dict[str, Any]:
    if row["words"] is not None:
        return {"words": row["words"]}
    return {"text": row["text"]} | ({} if row["text_pair"] is None else {"text_pair": row["text_pair"]})


def _expected(labelled: Labelled, row: dict[str, Any]) -> dict[str, Any]:
    """Returns the scored prediction in the form the served model gives."""
    if labelled.task == "regression":
        return {"value": row["said_value"]}
    if labelled.task == "token_classification":
        words = zip_longest(row["said"], row["scores"])  # the last words may have none
        return {"labels": row["said"], "scores": [None if label is None else score for label, score in words]}
    scores = dict(zip(labelled.label_names, row["scores"], strict=True))
    return (
        {"labels": row["said"], "scores": scores}
        if labelled.task == "multi_label"
        else {"label": row["said"][0], "scores": scores}
    )


def _signature(labelled: Labelled) -> Any:
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema
    from mlflow.types.schema import Array

    text, words = DataType.string, Array(DataType.string)
    by_word = labelled.task == "token_classification"
    columns = [("words", words, True)] if by_word else [("text", text, True), ("text_pair", text, are_pairs(labelled))]
    return ModelSignature(Schema([ColSpec(type=kind, name=name, required=must) for name, kind, must in columns]))
