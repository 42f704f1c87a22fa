"""Roll-out: the champion is tried and made live; and its counterpart, taking a version back.

In: a champion. Out: aliases `live` and `previous`, an audit line, the answers it gave. Invariants: a version is tried before an
alias moves, so a failed check changes nothing; each step leaves a state from which the next run goes on; a candidate never
touches what is live.
"""

import json
from collections.abc import Sequence
from functools import partial
from typing import Annotated

from pydantic import Field

from deploy.aliases import make_live
from deploy.live import open_chat, serve_foreground, start_detached, stop_detached
from deploy.rollback import rollback
from deploy.trial import Trial, try_labels, try_out
from tasks.contracts import Checkpoint, Deployment, ModelVersion
from tasks.core.artifact import Spec
from tasks.core.errors import ContractError, GateError
from tasks.core.site import Site
from tasks.core.stage import NETWORK, StageContext, stage
from tasks.core.tracking import RegisteredVersion, find_alias, find_version, served_folder

__all__ = [
    "DeployLabelledSpec",
    "DeploySpec",
    "deploy_labelled",
    "deploy_model",
    "open_chat",
    "rollback",
    "serve_foreground",
    "start_detached",
    "stop_detached",
]


class DeploySpec(Spec):
    """How the champion is rolled out."""

    prompts: Annotated[
        tuple[str, ...],
        Field(min_length=1, max_length=50, description="What it is asked before it goes live; the answers are stored and shown."),
    ] = (
        "How do I list the files of a directory?",
        "如何查看当前目录下的文件？",
        "Translate into Chinese: The package is already installed.",
    )
    max_new_tokens: Annotated[int, Field(ge=1, le=1_024, description="Longest of these answers in tokens.")] = 48


def is_live(artifact: Deployment, spec: DeploySpec, version: ModelVersion, tuned: Checkpoint, *, site: Site) -> bool:
    """Whether the alias `live` points at this version of this model."""
    return _points_at(version, tuned, site)


def _points_at(version: ModelVersion, tuned: Checkpoint, site: Site) -> bool:
    live = find_alias(site, version.name, "live")
    return live is not None and (live.version, live.digest) == (version.version, tuned.digest)


@stage(version=1, name="deploy", retry=NETWORK, holds=is_live)
def deploy_model(spec: DeploySpec, version: ModelVersion, tuned: Checkpoint, *, ctx: StageContext) -> Deployment:
    """Tries the champion and makes it live.

    Raises:
        GateError: It is not champion, was taken back, or answers otherwise when it is served.
        TransientError: MLflow does not answer, or the server did not get healthy.
    """
    registered = _champion(version, tuned, ctx.site)
    trial = try_out(ctx.site, registered, spec.prompts, spec.max_new_tokens, partial(_tell, ctx))
    make_live(ctx.site, registered, f"recipe {ctx.run.recipe_name}", prefect_run_id=ctx.run.prefect_run_id)
    return _commit(spec.prompts, registered, trial, ctx)


class DeployLabelledSpec(Spec):
    """How a labelled champion is rolled out: tried with the questions its version carries (`registry.trial_items`)."""


def is_labelled_live(
    artifact: Deployment, spec: DeployLabelledSpec, version: ModelVersion, tuned: Checkpoint, *, site: Site
) -> bool:
    """Whether the alias `live` points at this version of this model."""
    return _points_at(version, tuned, site)


@stage(version=1, retry=NETWORK, holds=is_labelled_live)
def deploy_labelled(spec: DeployLabelledSpec, version: ModelVersion, tuned: Checkpoint, *, ctx: StageContext) -> Deployment:
    """Tries the labelled champion behind MLflow's scoring server and makes it live.

    Raises:
        GateError: It is not champion, was taken back, or says other labels when it is served than when it was scored.
        TransientError: MLflow does not answer, or the server did not get healthy.
    """
    registered = _champion(version, tuned, ctx.site)
    folder = served_folder(ctx.site, registered)
    tell = partial(_tell, ctx)
    trial = try_labels(ctx.site, registered, folder, tell)
    make_live(ctx.site, registered, f"recipe {ctx.run.recipe_name}", prefect_run_id=ctx.run.prefect_run_id)
    return _commit(trial.prompts, registered, trial, ctx)


def _tell(ctx: StageContext, done: float, total: float) -> None:
    ctx.progress(done, total, "s until the server answers")


def _champion(version: ModelVersion, tuned: Checkpoint, site: Site) -> RegisteredVersion:
    if version.model_digest != tuned.digest:
        raise ContractError(
            f"{version.name} version {version.version} holds {version.model_digest[:12]}, not {tuned.digest[:12]}"
        )
    found = find_version(site, version.name, version.version)
    if found is None or found.digest != tuned.digest:
        raise ContractError(f"{version.name} version {version.version} is not in the registry any more; run again to register it")
    if found.rolled_back is not None:
        raise GateError(
            f"{found} was taken back ({found.rolled_back}) and is not rolled out again by a run. "
            f"`textmill rollback {found.name} --to {found.version}` makes it live on purpose."
        )
    if "champion" not in found.aliases:
        raise GateError(
            f"{found} is a candidate, not the champion: what is live stays live. Its card says what it did not reach."
        )
    return found


def _commit(prompts: Sequence[str], version: RegisteredVersion, trial: Trial, ctx: StageContext) -> Deployment:
    answers = [{"prompt": prompt, "answer": answer} for prompt, answer in zip(prompts, trial.answers, strict=True)]
    facts = {
        "name": version.name,
        "version": version.version,
        "model_digest": version.digest,
        "engine": trial.engine,
        "num_checks": trial.num_checks,
    }
    (ctx.dir / "answers.json").write_text(json.dumps(answers, ensure_ascii=False, indent=1), encoding="utf-8")
    (ctx.dir / "deployment.json").write_text(json.dumps(facts, indent=1), encoding="utf-8")
    return ctx.commit(Deployment, **facts)
