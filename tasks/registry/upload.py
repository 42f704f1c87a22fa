"""The making of a version: files, logged model, version, in an order that any kill leaves mendable.

In: a checkpoint and its card. Out: a version in the registry. Invariants: an unfinished upload of the same digest, name and
form is gone on with instead of begun again; nothing is pickled (models from code); the version's requirements are stated, not
guessed.
"""

import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Any

from tasks.contracts import Checkpoint, EvalReport
from tasks.core.artifact import Artifact
from tasks.core.errors import StageError, TransientError
from tasks.core.stage import StageContext
from tasks.core.tracking import RegisteredVersion, RunTracker, find_version
from tasks.core.tracking.client import answering, experiment_id, mlflow_client, shown
from tasks.core.tracking.registry import DIGEST
from tasks.core.tracking.send import dataset_input, name_of
from tasks.modeling.adapted import ADAPTER, adapter_of

_RUN_WAIT_S = 60.0
_MAX_DESCRIPTION_CHARS = 5_000  # the column's width on PostgreSQL
_CARD = "card.md"
_OF_MODEL = "models:/"  # how the source of a version begins; its logged model's id follows
_NEEDED = ("mlflow", "torch", "transformers", "safetensors")


@dataclass(frozen=True, slots=True)
class Package:
    """What a version is made of.

    Attributes:
        report: What was found out about it; none: nothing was.
        on: The version that holds the base, where the model is an adapter and no more.
        used: Data it was made from, and for what.
        script: Loads and answers where Textmill is not installed.
        model_type: What MLflow shows as its kind.
        signature: Makes MLflow's signature; called where MLflow is loaded.
        requirements: Packages the script needs beside mlflow, torch, transformers and safetensors.
        files: Further files of the version, by name.
        folders: Folders that are kept beside the checkpoint.
        form: Tags that tell its logged model from others of the same checkpoint.
    """

    base: Checkpoint
    tuned: Checkpoint
    used: tuple[tuple[Artifact, str], ...]
    script: Path
    model_type: str
    signature: Callable[[], Any]
    report: EvalReport | None = None
    on: RegisteredVersion | None = None
    requirements: tuple[str, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    folders: tuple[Path, ...] = ()
    form: Mapping[str, str] = field(default_factory=dict)


def upload(name: str, found: Package, card: str, ctx: StageContext) -> RegisteredVersion:
    """Makes the version that holds this checkpoint.

    Raises:
        TransientError: MLflow does not answer.
    """
    with _run_of(name, ctx) as run_id, answering(ctx.site):
        model_id = _logged_model(name, found, run_id, ctx)
        _store_files(model_id, run_id, found, card, ctx)
        _link_to_run(model_id, run_id, found, ctx)
        return _create_version(name, model_id, run_id, found, ctx)


def describe(version: RegisteredVersion, card: str, ctx: StageContext) -> None:
    """Makes the card the version's description, cut where the database would refuse it, and its file, which holds all of it."""
    file = ctx.dir / _CARD
    file.write_text(card, encoding="utf-8")
    note = f"\n\n... the whole card is `{_CARD}` in the version's files."
    if len(card) > _MAX_DESCRIPTION_CHARS:
        card = card[: _MAX_DESCRIPTION_CHARS - len(note)].rsplit("\n", 1)[0] + note
    with answering(ctx.site):
        client = mlflow_client(ctx.site)
        client.update_model_version(version.name, str(version.version), description=card)
        client.log_model_artifact(version.source.removeprefix(_OF_MODEL), str(file))


@contextmanager
def _run_of(name: str, ctx: StageContext) -> Iterator[str]:
    """Yields the MLflow run the version belongs to: the pipeline's, else one of its own."""
    if ctx.run.tracker is not None:
        yield _known(ctx.run.mlflow_run_id, ctx)
        return
    tracker, ended = RunTracker.start(ctx.site, f"register-{name}"), False
    try:
        yield _known(tracker.run_id(_RUN_WAIT_S), ctx)
        ended = True
    finally:
        tracker.close("FINISHED" if ended else "FAILED")


def _known(run_id: str | None, ctx: StageContext) -> str:
    if run_id is None:
        raise TransientError(
            f"MLflow at {shown(ctx.site.tracking_uri)} made no run within {_RUN_WAIT_S:.0f} s, and a version must belong to one. "
            f"See {ctx.site.root / 'spool'} for why; what is built stays, run again afterwards."
        )
    return run_id


def _logged_model(name: str, found: Package, run_id: str, ctx: StageContext) -> str:
    """Returns the id of the logged model of this digest, name and form, made where there is none that a killed run left."""
    client, experiment = mlflow_client(ctx.site), experiment_id(ctx.site)
    tags = {DIGEST: found.tuned.digest, **found.form}
    same = " AND ".join([f"name = '{name}'", *(f"tags.`{key}` = '{value}'" for key, value in tags.items())])
    left = client.search_logged_models([experiment], same, max_results=1)
    if left:
        return str(left[0].model_id)
    params = {
        "method": found.tuned.method,
        "num_parameters": str(found.tuned.num_parameters),
        "num_tokens": str(found.base.num_tokens),
        "precision": found.tuned.precision,
    }
    made = client.create_logged_model(
        experiment, name=name, source_run_id=run_id, tags=tags, params=params, model_type=found.model_type
    )
    return str(made.model_id)


def _store_files(model_id: str, run_id: str, found: Package, card: str, ctx: StageContext) -> None:
    client = mlflow_client(ctx.site)
    if str(client.get_logged_model(model_id).status) == "READY":
        return
    ctx.log.info("copying the model into MLflow")
    staging = ctx.dir / "staging"
    shutil.rmtree(staging, ignore_errors=True)
    try:
        _save(staging, model_id, run_id, found, ctx)
        for file, text in {_CARD: card, **found.files}.items():
            (staging / file).write_text(text, encoding="utf-8")
        client.log_model_artifacts(model_id, str(staging))
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    client.finalize_logged_model(model_id, "READY")


def _save(folder: Path, model_id: str, run_id: str, found: Package, ctx: StageContext) -> None:
    """Writes the MLflow model folder: the script, the checkpoint, the adapter where there is one, what is kept beside it."""
    import mlflow
    from mlflow.models import Model

    mlflow_client(ctx.site)  # sets the environment that keeps MLflow off the network
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # type hints in the script would narrow what it takes
        mlflow.pyfunc.save_model(
            path=str(folder),
            python_model=str(found.script),
            artifacts=_artifacts(found),
            model_config=None if found.on is None else {"base": found.on.uri},
            pip_requirements=[_requirement(name) for name in (*_NEEDED, *found.requirements)],
            signature=found.signature(),
            mlflow_model=Model(model_uuid=model_id, run_id=run_id, model_id=model_id),
            metadata={DIGEST: found.tuned.digest, "base_digest": found.base.digest},
        )


def _artifacts(found: Package) -> dict[str, str]:
    """Returns the folders of a version: its model and the adapter beside it, or the adapter alone, and what is kept with them."""
    folder = found.tuned.path
    model = {"checkpoint": folder / "model"} if found.on is None else {}
    adapter = adapter_of(folder)
    there = model | ({ADAPTER: adapter} if adapter.exists() else {}) | {one.name: one for one in found.folders}
    return {name: str(path) for name, path in there.items()}


def _requirement(name: str) -> str:
    return f"{name}=={package_version(name).split('+')[0]}"


def _link_to_run(model_id: str, run_id: str, found: Package, ctx: StageContext) -> None:
    """Shows in MLflow what the model was made from and how good it is."""
    from mlflow.entities import LoggedModelOutput, Metric

    client, now_ms = mlflow_client(ctx.site), int(time.time() * 1_000)
    client.log_inputs(run_id, datasets=[dataset_input(one.address, one.digest, one.uri, what) for one, what in found.used])
    if any(output.model_id == model_id for output in client.get_run(run_id).outputs.model_outputs):
        return
    said = {} if found.report is None else found.report.metrics
    figures = {name_of(name): value.mean for name, value in said.items() if name.startswith("tuned/")}
    metrics = [Metric(name, value, now_ms, 0, model_id=model_id, run_id=run_id) for name, value in figures.items()]
    if metrics:
        client.log_batch(run_id, metrics=metrics)
    client.log_outputs(run_id, models=[LoggedModelOutput(model_id, step=0)])


def _create_version(name: str, model_id: str, run_id: str, found: Package, ctx: StageContext) -> RegisteredVersion:
    from mlflow.exceptions import MlflowException

    client = mlflow_client(ctx.site)
    try:
        client.create_registered_model(
            name, tags={"textmill": "true"}, description="Made by Textmill; each version has its card."
        )
    except MlflowException as error:
        if getattr(error, "error_code", "") != "RESOURCE_ALREADY_EXISTS":
            raise
    made = client.create_model_version(
        name, source=f"{_OF_MODEL}{model_id}", run_id=run_id, tags={DIGEST: found.tuned.digest}, model_id=model_id
    )
    version = find_version(ctx.site, name, int(made.version))
    if version is None:
        raise StageError(f"MLflow made {name} version {made.version} and does not know it")
    return version
