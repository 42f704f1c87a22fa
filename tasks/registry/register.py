"""Registration: the tuned model becomes a version that holds its own copy, says what it is, and may become champion.

In: the model with everything found out about it. Out: a version in MLflow, `version.json` and `card.md`. Invariants: one
version a digest, whatever dies in between; aliases are set last; `champion` moves only for a model that passed, and never back
to a version that was taken back.
"""

import json
from typing import Annotated

from pydantic import Field

from tasks.contracts import Checkpoint, CleanCorpus, Conversations, EvalReport, ModelVersion, QualityReport, Verdict
from tasks.core.artifact import Spec
from tasks.core.errors import ContractError
from tasks.core.provenance import source_state
from tasks.core.site import Site
from tasks.core.stage import NETWORK, StageContext, stage
from tasks.core.tracking import RegisteredVersion, aliases, find_version, set_alias, set_tags, version_by_digest
from tasks.registry.card import Findings, model_card
from tasks.registry.names import ModelName
from tasks.registry.upload import describe, upload


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
    version = find_version(site, spec.name, artifact.version)
    if version is None or version.digest != tuned.digest:
        return False
    is_champion = "champion" in version.aliases
    return is_champion == artifact.is_champion and (is_champion or not _may_be_champion(version, verdict, quality))


@stage(version=2, name="register", retry=NETWORK, holds=is_registered)
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
    _check_same_model(found)
    _check_plain(tuned)
    card = model_card(spec.name, spec.purpose, found)
    version = version_by_digest(ctx.site, spec.name, tuned.digest) or upload(spec.name, spec.answer_tokens, found, card, ctx)
    describe(version, card, ctx)
    set_tags(ctx.site, version, _tags(found, ctx))
    _point_aliases(version, found, ctx)
    return _commit(version, card, ctx)


def _check_same_model(found: Findings) -> None:
    pairs = {
        "the verdict's model": (found.verdict.tuned_digest, found.tuned.digest),
        "the report's model": (found.report.tuned_digest, found.tuned.digest),
        "the report's base": (found.report.base_digest, found.base.digest),
        "the tuned model's base": (found.tuned.base_digest, found.base.digest),
        "the checked corpus": (found.quality.corpus_digest, found.corpus.digest),
    }
    for what, (said, given) in pairs.items():
        if said != given:
            raise ContractError(f"{what} is {str(said)[:12]}, but {given[:12]} was given; pass artifacts of one run")


def _check_plain(tuned: Checkpoint) -> None:
    """Refuses what neither MLflow nor a server would load: a base with an adapter beside it instead of one model."""
    if not (tuned.path / "model" / "config.json").exists():
        raise ContractError(
            f"{tuned.address} ({tuned.method}) has no plain form and cannot be registered or served; its scores are in the "
            "store. Set tune.method.kind to one that merges (lora, ia3) or moves the weights (full), or end with --until gate"
        )


def _tags(found: Findings, ctx: StageContext) -> dict[str, str]:
    state, run = source_state(), ctx.run
    tags = {
        "textmill.digest": found.tuned.digest,
        "textmill.fingerprint": found.tuned.fingerprint,
        "textmill.base_digest": found.base.digest,
        "textmill.tokenizer_digest": found.tuned.tokenizer_digest,
        "textmill.corpus_digest": found.corpus.digest,
        "textmill.conversations_digest": found.conversations.digest,
        "textmill.report": found.report.address,
        "textmill.verdict": "passed" if found.verdict.passed else "not passed",
        "textmill.num_warnings": str(len(found.warnings)),
        "textmill.recipe": run.recipe_name,
        "textmill.git_commit": state["commit"],
        "textmill.git_dirty": str(state["dirty"]).lower(),
        "textmill.prefect_run_id": run.prefect_run_id,
        "textmill.prefect_url": run.prefect_run_url,
    }
    return {name: str(value) for name, value in tags.items() if value}


def _point_aliases(version: RegisteredVersion, found: Findings, ctx: StageContext) -> None:
    set_alias(ctx.site, version, "candidate")
    if _may_be_champion(version, found.verdict, found.quality):
        set_alias(ctx.site, version, "champion")
    elif version.rolled_back is not None:
        ctx.log.warning("%s was taken back (%s) and is not promoted again", version, version.rolled_back)


def _may_be_champion(version: RegisteredVersion, verdict: Verdict, quality: QualityReport) -> bool:
    return verdict.passed and quality.passed and version.rolled_back is None


def _commit(version: RegisteredVersion, card: str, ctx: StageContext) -> ModelVersion:
    facts = {
        "name": version.name,
        "version": version.version,
        "model_digest": version.digest,
        "is_champion": aliases(ctx.site, version.name).get("champion") == version.version,
        "run_id": version.run_id or "",
    }
    (ctx.dir / "card.md").write_text(card, encoding="utf-8")
    (ctx.dir / "version.json").write_text(json.dumps(facts, indent=1), encoding="utf-8")
    return ctx.commit(ModelVersion, **facts)
