"""The writing end of the tracker: events of one run as lines of a file, and a process that sends them to MLflow.

In: parameters, metrics, artifacts, data sets of a run. Out: `<state>/spool/<run>.jsonl`, emptied by `deliver`. Invariants:
nothing here waits for MLflow unless asked to, and nothing here raises: a run is worth more than its record in a tracker.
"""

import json
import logging
import os
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal

from tasks.core.site import Site, service_environment
from tasks.core.store import process_identity

Status = Literal["FINISHED", "FAILED", "KILLED"]

_POLL_S = 0.05
_STOP_GRACE_S = 2.0
_log = logging.getLogger("textmill.tracking")


@dataclass(frozen=True, slots=True)
class Spool:
    """The files of one run's events."""

    path: Path

    @property
    def run(self) -> str:
        """Name of the run, unique on all machines."""
        return self.path.stem

    @property
    def state(self) -> Path:
        """How far delivery got."""
        return self.path.with_suffix(".state.json")

    @property
    def run_id(self) -> Path:
        """MLflow's id of the run and its experiment, once known."""
        return self.path.with_suffix(".run_id")

    @property
    def lock(self) -> Path:
        """Held by the one process that delivers."""
        return self.path.with_suffix(".lock")

    @property
    def log(self) -> Path:
        """What the delivering process said."""
        return self.path.with_suffix(".log")


def spool_dir(site: Site) -> Path:
    """Returns the folder of the spools."""
    return site.root / "spool"


def delivery_environment(site: Site) -> dict[str, str]:
    """Returns the environment in which a process of our own reaches the same MLflow."""
    environment = os.environ | service_environment(site) | {"TEXTMILL_STATE_DIR": str(site.root)}
    for name, value in (("TEXTMILL_MLFLOW_URI", site.mlflow_uri), ("TEXTMILL_MLFLOW_TOKEN", site.mlflow_token)):
        environment.pop(name, None)
        if value is not None:
            environment[name] = value if isinstance(value, str) else value.get_secret_value()
    return environment


@dataclass(slots=True)
class RunTracker:
    """One MLflow run, written to a spool."""

    spool: Spool
    site: Site
    _file: IO[str] | None = None
    _process: "subprocess.Popen[bytes] | None" = None
    _ids: dict[str, str] = field(default_factory=dict)

    @classmethod
    def start(
        cls,
        site: Site,
        name: str,
        *,
        tags: dict[str, str] | None = None,
        params: dict[str, str] | None = None,
    ) -> "RunTracker":
        """Opens the spool of a new run and starts the process that delivers it."""
        tracker = cls(Spool(spool_dir(site) / f"{time.strftime('%Y%m%dT%H%M%S')}-{uuid.uuid4().hex[:12]}.jsonl"), site)
        try:
            tracker.spool.path.parent.mkdir(parents=True, exist_ok=True)
            tracker._file = tracker.spool.path.open("a", encoding="utf-8", errors="replace", buffering=1)
            tracker._write("start", run=tracker.spool.run, name=name, tags=tags or {}, params=params or {})
            tracker._process = _spawn(tracker.spool, site)
        except OSError as error:
            tracker._give_up(error)
        return tracker

    def metrics(self, step: int, values: dict[str, float]) -> None:
        """Records figures of a step; a step that was recorded before is dropped on delivery."""
        self._write("metrics", step=int(step), values={name: float(value) for name, value in values.items()})

    def artifact(self, path: Path, to: str = "") -> None:
        """Records a file or a folder; it is read when it is delivered, so it must not change."""
        self._write("artifact", path=str(Path(path).absolute()), to=to)

    def dataset(self, name: str, digest: str, source: str, context: str) -> None:
        """Records a data set the run used."""
        self._write("dataset", name=name, digest=digest, source=source, context=context)

    def tags(self, tags: dict[str, str]) -> None:
        """Records tags of the run."""
        self._write("tags", tags=tags)

    def run_id(self, wait_s: float = 0.0) -> str | None:
        """Returns MLflow's id of the run, waiting for it at most `wait_s` seconds; None where MLflow did not answer."""
        return self._read_ids(wait_s).get("run_id")

    def url(self, server: str, wait_s: float = 0.0) -> str | None:
        """Returns the run's page on an MLflow server; None where MLflow did not answer yet."""
        ids = self._read_ids(wait_s)
        return f"{server.rstrip('/')}/#/experiments/{ids['experiment_id']}/runs/{ids['run_id']}" if ids else None

    def close(self, status: Status, wait_s: float | None = None) -> bool:
        """Records the end, waits for delivery at most `wait_s` seconds, and ends the delivering process.

        Returns:
            Whether MLflow has everything. If not, the spool stays and is delivered by the next run.
        """
        self._write("end", status=status)
        self._close_file()
        deadline = time.monotonic() + (self.site.tracker_wait_s if wait_s is None else wait_s)
        while self.spool.path.exists() and self._delivering() and time.monotonic() < deadline:
            time.sleep(_POLL_S)
        delivered = self._process is not None and not self.spool.path.exists()
        self._read_ids(0.0)
        self._end_process()
        if delivered:
            self.spool.run_id.unlink(missing_ok=True)
        return delivered

    def _delivering(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def _write(self, kind: str, **event: Any) -> None:
        if self._file is None:
            return
        event = {"kind": kind, "time_ms": int(time.time() * 1000), **event}
        if kind == "start":
            event["process"] = process_identity()
        try:
            self._file.write(json.dumps(event) + "\n")
        except (OSError, TypeError, ValueError) as error:
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        _log.warning("the run is not recorded in MLflow any more: cannot write %s (%s)", self.spool.path, error)
        self._file = None

    def _close_file(self) -> None:
        if self._file is None:
            return
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
        except OSError as error:
            self._give_up(error)
        self._file = None

    def _read_ids(self, wait_s: float) -> dict[str, str]:
        deadline = time.monotonic() + wait_s
        while not self._ids:
            if self.spool.run_id.exists():
                self._ids = json.loads(self.spool.run_id.read_text(encoding="utf-8"))
            elif time.monotonic() >= deadline or not self._delivering():
                break
            else:
                time.sleep(_POLL_S)
        return self._ids

    def _end_process(self) -> None:
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(_STOP_GRACE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()  # safe: delivery is idempotent
            self._process.wait()


def _spawn(spool: Spool, site: Site) -> "subprocess.Popen[bytes]":
    """Starts the delivering process, in a session of its own: Ctrl-C must not cut off the news of the cancel."""
    with spool.log.open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "tasks.core.tracking", "deliver", str(spool.path)],
            env=delivery_environment(site),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
