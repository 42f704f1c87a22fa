"""One MLflow run, as calls to its client.

In: events of a spool. Out: the same in MLflow. Invariants: the run is found again by its tag before one is made; a step of a
metric is sent once, also when delivery was killed between sending and noting it.
"""

import getpass
import json
import os
import re
from hashlib import sha256
from pathlib import Path
from typing import Any

from tasks.core.site import Site
from tasks.core.text import text_safe
from tasks.core.tracking.client import experiment_id, mlflow_client

_MAX_METRICS, _MAX_PARAMS = 1_000, 100
_MAX_VALUE_CHARS = 5_000
_MAX_NAME_CHARS = 250
_NAME = re.compile(r"[^\w\-. /]", re.ASCII)


class Sender:
    """Sends events to one MLflow run."""

    def __init__(self, site: Site, ids: dict[str, str], *, is_new: bool) -> None:
        self.client, self.ids, self._is_new = mlflow_client(site), ids, is_new
        self._last_step: dict[str, int] = {}

    @classmethod
    def start(cls, site: Site, event: dict[str, Any]) -> "Sender":
        """Makes the run, or finds it where it was made before a kill."""
        client, experiment = mlflow_client(site), experiment_id(site)
        found = client.search_runs([experiment], f"tags.`textmill.spool` = '{event['run']}'", max_results=1)
        run = found[0] if found else None
        if run is None:
            run = client.create_run(
                experiment, start_time=event["time_ms"], tags=_start_tags(event), run_name=safe(event["name"], 200)
            )
        sender = cls(site, {"run_id": run.info.run_id, "experiment_id": experiment}, is_new=not found)
        sender._params(event["params"])
        return sender

    @classmethod
    def resume(cls, site: Site, ids: dict[str, str]) -> "Sender":
        """Goes on with a run that another process began to send."""
        return cls(site, ids, is_new=False)

    def send(self, events: list[dict[str, Any]]) -> None:
        """Sends one event, or several of metrics."""
        event, run_id = events[0], self.ids["run_id"]
        match event["kind"]:
            case "metrics":
                self._metrics(events)
            case "artifact":
                self._artifact(Path(event["path"]), event["to"])
            case "dataset":
                self._dataset(event)
            case "tags":
                for name, value in event["tags"].items():
                    self.client.set_tag(run_id, name_of(name), safe(value))
            case "end":
                self.client.set_terminated(run_id, event["status"], event["time_ms"])

    def _params(self, params: dict[str, str]) -> None:
        from mlflow.entities import Param

        entities = [Param(name_of(name), safe(value)) for name, value in params.items()]
        for start in range(0, len(entities), _MAX_PARAMS):
            self.client.log_batch(self.ids["run_id"], params=entities[start : start + _MAX_PARAMS])

    def _metrics(self, events: list[dict[str, Any]]) -> None:
        from mlflow.entities import Metric

        new = []
        for event in events:
            for name, value in event["values"].items():
                if event["step"] > self._last(key := name_of(name)):
                    new.append(Metric(key, value, event["time_ms"], event["step"]))
                    self._last_step[key] = event["step"]
        try:
            for start in range(0, len(new), _MAX_METRICS):
                self.client.log_batch(self.ids["run_id"], metrics=new[start : start + _MAX_METRICS])
        except Exception:
            self._last_step, self._is_new = {}, False  # what arrived of it is looked up at the next attempt
            raise

    def _last(self, key: str) -> int:
        """Returns the last step MLflow has of a metric, -1 before the first."""
        if key not in self._last_step:
            history = [] if self._is_new else self.client.get_metric_history(self.ids["run_id"], key)
            self._last_step[key] = max((metric.step for metric in history), default=-1)
        return self._last_step[key]

    def _artifact(self, path: Path, to: str) -> None:
        if not path.exists():
            raise FileNotFoundError(path)
        send = self.client.log_artifacts if path.is_dir() else self.client.log_artifact
        send(self.ids["run_id"], str(path), to or None)

    def _dataset(self, event: dict[str, Any]) -> None:
        dataset = dataset_input(event["name"], event["digest"], event["source"], event["context"])
        self.client.log_inputs(self.ids["run_id"], datasets=[dataset])


def dataset_input(name: str, digest: str, source: str, context: str) -> Any:
    """Returns a data set as MLflow records it: digests there have at most 36 characters."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    dataset = Dataset(safe(name, 400), digest[:36], "local", json.dumps({"uri": safe(source)}))
    return DatasetInput(dataset, [InputTag("mlflow.data.context", safe(context, 200))])


def _start_tags(event: dict[str, Any]) -> dict[str, str]:
    process = event["process"]
    ours = {
        "mlflow.user": user_name(),
        "mlflow.source.name": "textmill",
        "mlflow.source.type": "LOCAL",
        "textmill.spool": event["run"],
        "textmill.host": str(process["host"]),
        "textmill.boot_id": str(process["boot_id"]),
        "textmill.pid": str(process["pid"]),
        "textmill.start_ticks": str(process.get("start_ticks") or ""),
    }
    if commit := event["tags"].get("textmill.git_commit"):
        ours["mlflow.source.git.commit"] = commit
    return {name_of(name): safe(value) for name, value in event["tags"].items()} | ours


def user_name() -> str:
    """Returns who runs this; in a container a user may have a number and no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def name_of(name: str) -> str:
    """Returns a name MLflow takes for a metric, a parameter or a tag; two names stay two."""
    taken = _NAME.sub("_", name)[:_MAX_NAME_CHARS] or "_"
    if taken == name:
        return name
    digest = sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:6]
    return f"{taken[: _MAX_NAME_CHARS - len(digest) - 1]}-{digest}"


def safe(value: object, max_chars: int = _MAX_VALUE_CHARS) -> str:
    """Returns a value as text that MLflow and its databases can store."""
    return text_safe(str(value), max_chars)
