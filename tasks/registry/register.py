"""Registration: the tuned model becomes a version that holds its own copy, says what it is, and may become champion.

In: the model with everything found out about it. Out: a version in MLflow, `version.json` and `card.md`. Invariants: one
version a digest, whatever dies in between; aliases are set last; `champion` moves only for a model that passed, and never back
to a version that was taken back.
"""

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from tasks.contracts import Checkpoint, CleanCorpus, Conversations, EvalReport, ModelVersion, QualityReport, Verdict
from tasks.core.artifact import Spec
from tasks.core.site import Site
from tasks.core.stage import NETWORK, StageContext, stage
from tasks.core.tracking import CORPUS_DIGEST, set_tags, version_by_digest
from tasks.registry.card import Findings, model_card
from tasks.registry.names import ModelName
from tasks.registry.upload import Package, describe, upload
from tasks.registry.version import (
    check_plain,
    check_same_model,
    commit_version,
    point_aliases,
    same_model,
    still_registered,
    tags_of,
)


class RegisterSpec(Spec):
    """How the model is registered."""

    name: ModelName = "textmill-demo"
    purpose: Annotated[str, Field(max_length=1_000, description="What the model is for; opens its card.")] = (
        "A small language model made by Textmill, to show the whole way from raw text to a served model."
    )
    answer_tokens: Annotated[
        int,
        Field(ge=1, le=100_000, description="Longest answer of the registered model in tokens, unless a caller says otherwise."),
    ] = 128


def is_registered(
    artifact: ModelVersion,
    spec: RegisterSpec,
    base: Checkpoint,
    tuned: Checkpoint,
    report: EvalReport,
    verdict: Verdict,
    quality: QualityReport,
    corpus: CleanCorpus,
    conversations: Conversations,
    *,
    site: Site,
) -> bool:
    """Whether the version is there, holds this model, and the aliases are what the verdict asks for."""
    return still_registered(artifact, spec.name, tuned, verdict, quality, site)


@stage(version=3, name="register", retry=NETWORK, holds=is_registered)
def register_model(
    spec: RegisterSpec,
    base: Checkpoint,
    tuned: Checkpoint,
    report: EvalReport,
    verdict: Verdict,
    quality: QualityReport,
    corpus: CleanCorpus,
    conversations: Conversations,
    *,
    ctx: StageContext,
) -> ModelVersion:
    """Registers the tuned model as candidate, and as champion where the verdict says so.

    Raises:
        ContractError: The verdict or the reports are about another model, or the model has no plain form.
        TransientError: MLflow does not answer.
    """
    found = Findings(base, tuned, report, verdict, quality, corpus, conversations)
    check_same_model(same_model(base, tuned, report, verdict) | {"the checked corpus": (quality.corpus_digest, corpus.digest)})
    check_plain(tuned)
    card = model_card(spec.name, spec.purpose, found)
    version = version_by_digest(ctx.site, spec.name, tuned.digest) or upload(spec.name, _package(spec, found), card, ctx)
    describe(version, card, ctx)
    own = {CORPUS_DIGEST: corpus.digest, "textmill.conversations_digest": conversations.digest}
    set_tags(ctx.site, version, tags_of(base, tuned, report, verdict, found.warnings, ctx) | own)
    point_aliases(version, verdict, quality, ctx)
    return commit_version(version, card, ctx)


def _package(spec: RegisterSpec, found: Findings) -> Package:
    return Package(
        base=found.base,
        tuned=found.tuned,
        report=found.report,
        used=((found.corpus, "pretraining"), (found.conversations, "tuning")),
        script=Path(__file__).with_name("served_model.py"),
        model_type="causal-lm",
        signature=lambda: _signature(spec.answer_tokens),
        requirements=("jinja2",),
        folders=(found.quality.path / "profile",),
    )


def _signature(answer_tokens: int) -> Any:
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema

    text = Schema([ColSpec("string")])  # without a name it takes a list as well as a table
    return ModelSignature(text, text, ParamSchema([ParamSpec("max_new_tokens", "long", answer_tokens)]))
