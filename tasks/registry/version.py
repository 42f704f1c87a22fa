"""What every registration does: checks that its inputs belong together, tags, aliases, the artifact.

In: a registered version and what was found out about its model. Out: tags and aliases in MLflow, a `ModelVersion`. Invariants:
aliases are set last; `champion` moves only for a model that passed against the champion of that moment, and never back to a
version that was taken back.
"""

import json
from collections.abc import Mapping

from tasks.contracts import Checkpoint, EvalReport, ModelVersion, QualityReport, Verdict
from tasks.core.errors import ContractError, GateError
from tasks.core.provenance import source_state
from tasks.core.site import Site
from tasks.core.stage import StageContext
from tasks.core.tracking import BASE_DIGEST, RegisteredVersion, aliases, champion, find_version, moving_aliases, set_alias


def still_registered(
    artifact: ModelVersion, name: str, tuned: Checkpoint, verdict: Verdict, quality: QualityReport, site: Site
) -> bool:
    """Whether the version is there, holds this model, and the aliases are what the verdict asks for."""
    version = find_version(site, name, artifact.version)
    if version is None or version.digest != tuned.digest:
        return False
    is_champion = "champion" in version.aliases
    return is_champion == artifact.is_champion and (is_champion or not may_be_champion(version, verdict, quality))


def check_same_model(pairs: Mapping[str, tuple[str | None, str]]) -> None:
    """Compares digests that artifacts name with those that were given.

    Raises:
        ContractError: They are of different runs.
    """
    for what, (said, given) in pairs.items():
        if said != given:
            raise ContractError(f"{what} is {str(said)[:12]}, but {given[:12]} was given; pass artifacts of one run")


def same_model(base: Checkpoint, tuned: Checkpoint, report: EvalReport, verdict: Verdict) -> dict[str, tuple[str | None, str]]:
    """Returns what must be equal for a verdict to be about this model."""
    return {
        "the verdict's model": (verdict.tuned_digest, tuned.digest),
        "the report's model": (report.tuned_digest, tuned.digest),
        "the report's base": (report.base_digest, base.digest),
        "the tuned model's base": (tuned.base_digest, base.digest),
    }


def tags_of(
    base: Checkpoint, tuned: Checkpoint, report: EvalReport, verdict: Verdict, warnings: tuple[str, ...], ctx: StageContext
) -> dict[str, str]:
    """Returns the tags of a version: what it holds, what was found, which run made it."""
    state, run = source_state(), ctx.run
    tags = {
        "textmill.digest": tuned.digest,
        "textmill.fingerprint": tuned.fingerprint,
        BASE_DIGEST: base.digest,
        "textmill.tokenizer_digest": tuned.tokenizer_digest,
        "textmill.report": report.address,
        "textmill.verdict": "passed" if verdict.passed else "not passed",
        "textmill.num_warnings": str(len(warnings)),
        "textmill.recipe": run.recipe_name,
        "textmill.git_commit": state["commit"],
        "textmill.git_dirty": str(state["dirty"]).lower(),
        "textmill.prefect_run_id": run.prefect_run_id,
        "textmill.prefect_url": run.prefect_run_url,
    }
    return {name: str(value) for name, value in tags.items() if value}


def point_aliases(
    version: RegisteredVersion, report: EvalReport, verdict: Verdict, quality: QualityReport, ctx: StageContext
) -> None:
    """Makes the version candidate, and champion where it may be.

    Raises:
        GateError: Another version became champion since the model was compared with it; this one stays candidate.
    """
    with moving_aliases(ctx.site, version.name):
        set_alias(ctx.site, version, "candidate")
        version = find_version(ctx.site, version.name, version.version) or version
        if may_be_champion(version, verdict, quality):
            _check_champion(version, report, ctx.site)
            set_alias(ctx.site, version, "champion")
        elif version.rolled_back is not None:
            ctx.log.warning("%s was taken back (%s) and is not promoted again", version, version.rolled_back)


def _check_champion(version: RegisteredVersion, report: EvalReport, site: Site) -> None:
    current = champion(site, version.name)
    digest = current.digest if current else None
    if digest not in (version.digest, report.champion_digest):
        raise GateError(
            f"{version} stays a candidate: it was judged against {_named(report.champion_digest)}, and the champion is "
            f"{_named(digest)} by now. Run again: it is judged against that one, and what is built is reused"
        )


def _named(digest: str | None) -> str:
    return "no champion" if digest is None else f"model {digest[:12]}"


def may_be_champion(version: RegisteredVersion, verdict: Verdict, quality: QualityReport) -> bool:
    """Whether verdict and quality said yes, and nobody took it back."""
    return verdict.passed and quality.passed and version.rolled_back is None


def commit_version(version: RegisteredVersion, card: str, ctx: StageContext) -> ModelVersion:
    """Commits what was registered."""
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
