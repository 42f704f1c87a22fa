"""Registration: the tuned model becomes a version that holds its own copy, says what it is, and may become champion.

In: the model with everything found out about it. Out: a version in MLflow, `version.json` and `card.md`. Invariants: one
version a digest, whatever dies in between, and an error where it has not the form that is asked for; aliases are set last;
`champion` moves only for a model that passed against the champion of that moment, and never back to a version that was taken
back.
"""

from typing import Annotated, Literal

from pydantic import Field

from tasks.contracts import (
    Checkpoint,
    CleanCorpus,
    Conversations,
    EvalReport,
    ModelVersion,
    Preferences,
    QualityReport,
    Verdict,
)
from tasks.core.artifact import Artifact, Spec
from tasks.core.site import Site
from tasks.core.stage import NETWORK, StageContext, stage
from tasks.core.store import Store, read_manifest
from tasks.core.tracking import CORPUS_DIGEST, RegisteredVersion, set_tags, version_by_digest
from tasks.modeling.adapted import is_adapted
from tasks.registry.bases import SCRIPT, chat_signature, kind_of, register_base
from tasks.registry.card import Findings, corpus_use, model_card
from tasks.registry.form import Form, check_form
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
    holds: Annotated[
        Literal["model", "adapter"],
        Field(
            description="What a version holds: the whole model; or its adapter alone, a few megabytes, with the digest of its "
            "base, which is registered once: then MLflow's server answers, no OpenAI API. Adapters that do not merge always are."
        ),
    ] = "model"


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


@stage(version=6, name="register", retry=NETWORK, holds=is_registered)
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
        ContractError: The verdict or the reports are about another model, an adapter was trained on another base, or the name
            holds this model in another form.
        GateError: Another version became champion since the model was compared with it.
        TransientError: MLflow does not answer.
    """
    found = Findings(base, tuned, report, verdict, quality, corpus, conversations, *_before_preferences(tuned, ctx.site))
    check_same_model(same_model(base, tuned, report, verdict) | {"the checked corpus": (quality.corpus_digest, corpus.digest)})
    alone = spec.holds == "adapter" or is_adapted(tuned.path / "model")
    form = Form("adapter" if alone else "model", spec.answer_tokens)
    card = model_card(spec.name, spec.purpose, found, alone=alone)
    on = register_base(base, tuned, ctx) if alone else None
    version = version_by_digest(ctx.site, spec.name, tuned.digest)
    if version is None:
        version = upload(spec.name, _package(spec, found, on, form), card, ctx)
    else:
        check_form(version, form, ctx.site)
    describe(version, card, ctx)
    own = {"textmill.conversations_digest": conversations.digest}
    if version.corpus_digest is None:  # drift is measured from the profile among its files, which stays that of its first corpus
        own[CORPUS_DIGEST] = corpus.digest
    set_tags(ctx.site, version, tags_of(base, tuned, report, verdict, found.warnings, ctx) | own)
    point_aliases(version, report, verdict, quality, ctx)
    return commit_version(version, card, ctx)


def _before_preferences(tuned: Checkpoint, site: Site) -> tuple[Checkpoint | None, Preferences | None]:
    """Returns what a model that learned from preferences was before, and those; nothing of another one."""
    inputs = read_manifest(tuned.path).inputs
    if "preferences" not in inputs:
        return None, None
    store = Store(site.store_dir)
    return store.find(Checkpoint, inputs["base"].fingerprint), store.find(Preferences, inputs["preferences"].fingerprint)


def _used(found: Findings) -> tuple[tuple[Artifact, str], ...]:
    pairs = () if found.preferences is None else ((found.preferences, "learning from preferences"),)
    return (found.corpus, corpus_use(found)), (found.conversations, "tuning"), *pairs


def _package(spec: RegisterSpec, found: Findings, on: RegisteredVersion | None, form: Form) -> Package:
    return Package(
        base=found.base,
        tuned=found.tuned,
        report=found.report,
        used=_used(found),
        script=SCRIPT,
        model_type=kind_of(found.tuned),
        signature=lambda: chat_signature(spec.answer_tokens),
        requirements=("jinja2",) if on is None else ("jinja2", "peft"),
        on=on,
        form=form.tags,
        folders=(found.quality.path / "profile",),
    )
