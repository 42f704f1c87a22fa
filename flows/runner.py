"""Runs a chain as a Prefect flow: sets the run up, watches it, tells the tracker how it ended.

In: a chain (a function of the recipe) and the recipe. Out: its stages as tasks of one flow run, one MLflow run beside it.
Invariants: a flow body holds calls only, everything else is here; after an error MLflow says FAILED, after a cancel or
Ctrl-C KILLED.
"""

import json
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

from flows.pipeline import LAST_STAGES, AnyRecipe, Chain, stages_of
from flows.servers import running_ui
from flows.watch import owned
from tasks.contracts import ModelVersion
from tasks.core.artifact import EXTRA_DIR, Artifact
from tasks.core.errors import RecipeError
from tasks.core.provenance import source_state
from tasks.core.publish import PrefectObserver, publish_link
from tasks.core.run import Observer, Run, StageRecord, running, watchers
from tasks.core.site import Site, current_site
from tasks.core.stage import Stopped
from tasks.core.tracking import RunTracker, shown
from tasks.core.tracking.spool import Status

_REPORTS = ("*.html", "*.md", "verdict.json", "comparison.json", "results.json", "answers.json", "samples.json")


@dataclass(frozen=True, slots=True)
class TrackerObserver(Observer):
    """Sends what stages measured and made to the tracker.

    Attributes:
        attempts: How often each stage has ended: the tracker shows a figure's last step, so that is the last attempt.
    """

    tracker: RunTracker
    attempts: Counter[str] = field(default_factory=Counter)

    def measured(self, stage: str, step: int, values: dict[str, float]) -> None:
        """Sends figures of a step, named by stage."""
        self.tracker.metrics(step, {f"{stage}/{name}": value for name, value in values.items()})

    def finished(self, record: StageRecord) -> None:
        """Sends the stage's facts, reports and plots."""
        name = record.shown_name
        step = self.attempts[name]
        self.attempts[name] += 1
        self.tracker.metrics(step, {f"stage_seconds/{name}": record.seconds})
        if record.artifact is not None:
            self._send(name, step, record.artifact)

    def _send(self, stage: str, step: int, artifact: Artifact) -> None:
        self.tracker.tags({f"textmill.artifact.{stage}": artifact.address, f"textmill.digest.{stage}": artifact.digest[:16]})
        self.tracker.metrics(step, {f"{stage}/{name}": value for name, value in numbers(artifact.facts()).items()})
        for path in _reports(artifact.path):
            self.tracker.artifact(path, stage)
        if artifact.kind() in ("clean-corpus", "tokenized-corpus", "conversations", "labelled"):
            self.tracker.dataset(artifact.address, artifact.digest, artifact.uri, artifact.kind())


def _reports(folder: Path) -> list[Path]:
    plots = [path for suffix in ("*.png", "*.svg") for path in (folder / EXTRA_DIR).glob(suffix)]
    return sorted({path for pattern in _REPORTS for path in folder.glob(pattern)} | set(plots))


def numbers(facts: dict[str, Any], prefix: str = "") -> dict[str, float]:
    """Returns the numbers among nested facts, by their joined names."""
    found: dict[str, float] = {}
    for name, value in facts.items():
        if isinstance(value, dict):
            found |= numbers(value, f"{prefix}{name}/")
        elif isinstance(value, int | float):
            found[prefix + name] = float(value)
    return found


def run_chain(chain: Chain, recipe: AnyRecipe, until: str | None) -> Run:
    """Runs the stages of `chain` as tasks of the current flow run.

    Raises:
        PipelineError: What a stage raised, or a recipe that this machine cannot run.
    """
    require_reach(chain, recipe, until)
    recipe.check_site(current_site())
    return run_stages(recipe.name, recipe.model_dump(mode="json"), lambda: chain(recipe.resolved()), until)


def run_stages(name: str, asked: dict[str, Any], build: Callable[[], Any], until: str | None = None) -> Run:
    """Runs the stages that `build` calls as tasks of the current flow run, under a recipe's name.

    Args:
        name: The recipe's.
        asked: What the tracker shows as the parameters of the run.
        build: Calls the stages.
        until: Stage to end after.

    Raises:
        PipelineError: What a stage raised.
    """
    from prefect.runtime import flow_run

    site = current_site()
    run = Run(site, name, asked, until, flow_run.get_id(), flow_run.get_flow_run_ui_url())
    run.observers = [*watchers(), PrefectObserver()]
    with owned(site, run.prefect_run_id), _tracked(run), running(run):
        build()
    return run


def require_reach(chain: Chain, recipe: AnyRecipe, until: str | None) -> None:
    """Checks before any work that the run comes to the stage it is to end after, and every stage takes the recipe's models.

    Raises:
        RecipeError: It does not, or one of them does not.
    """
    stages, last = stages_of(recipe), LAST_STAGES[chain]
    reached = stages[: stages.index(last) + 1]
    if until and until not in reached:
        raise RecipeError(f"until {until!r} is no stage of this part of {recipe.name}; there are: {', '.join(reached)}")
    recipe.require_reach(until or last, stages)


@contextmanager
def _tracked(run: Run) -> Iterator[None]:
    """Opens the MLflow run, keeps its end truthful, and logs the whole to a file."""
    tracker = RunTracker.start(
        run.site,
        name=f"{run.recipe_name}-{(run.prefect_run_id or 'local')[:8]}",
        tags=_run_tags(run),
        params=flat_params(run.recipe),
    )
    run.tracker = tracker
    run.observers.append(TrackerObserver(tracker))
    status: Status = "KILLED"
    try:
        with log_file(run.site):
            yield
        status = "FINISHED"
    except Stopped:
        status = "FINISHED"
        raise
    except Exception:
        status = "FAILED"
        raise
    finally:
        _publish_links(run, tracker)
        if not tracker.close(status):
            logging.getLogger("textmill.run").warning(
                "MLflow at %s did not take everything; what is left is sent by the next run or `textmill doctor`",
                shown(run.site.tracking_uri),
            )


def _publish_links(run: Run, tracker: RunTracker) -> None:
    """Links the flow run to its MLflow run and model version, where a server shows them."""
    server = _mlflow_server(run.site)
    if server is None or run.prefect_run_id is None:
        return
    try:
        if (url := tracker.url(server)) is not None:
            publish_link("mlflow-run", url, "MLflow run")
        for record in run.records:
            if isinstance(made := record.artifact, ModelVersion):
                publish_link("mlflow-model", f"{server}/#/models/{made.name}/versions/{made.version}", made.summary())
    except Exception as error:  # a link is a courtesy
        logging.getLogger("textmill.run").warning("could not publish the links to MLflow: %s", error)


def _mlflow_server(site: Site) -> str | None:
    """Returns the address of MLflow's pages, for anyone to read: the server set, else that of the running `textmill ui`."""
    if site.tracking_uri.startswith("http"):
        return shown(site.tracking_uri.rstrip("/"), instead="")
    ui = running_ui(site)
    return str(ui["mlflow"]) if ui else None


def _run_tags(run: Run) -> dict[str, str]:
    state = source_state()
    tags = {
        "textmill.recipe": run.recipe_name,
        "textmill.git_commit": state["commit"],
        "textmill.git_dirty": str(state["dirty"]).lower(),
        "textmill.prefect_run_id": run.prefect_run_id,
        "textmill.prefect_url": run.prefect_run_url,
    }
    return {name: str(value) for name, value in tags.items() if value}


def flat_params(tree: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """Returns a recipe as flat parameters: `pretrain.model.depth` and so on; lists as JSON."""
    flat: dict[str, str] = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            flat |= flat_params(value, f"{prefix}{name}.")
        else:
            text = "off" if value is None else json.dumps(value, ensure_ascii=False) if isinstance(value, list) else str(value)
            flat[prefix + name] = text
    return flat


@contextmanager
def log_file(site: Site) -> Iterator[None]:
    """Writes what stages log to `<state>/logs/textmill.log`."""
    folder = site.root / "logs"
    folder.mkdir(parents=True, exist_ok=True)
    handler = RotatingFileHandler(folder / "textmill.log", maxBytes=20_000_000, backupCount=3, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(name)s %(message)s"))
    logger = logging.getLogger("textmill")
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        handler.close()
