"""A running `textmill ui` for tests: its process, its two addresses, and what one asks of Prefect's API.

In: a state folder. Out: a `RunningUi`. Invariant: a process of its own, as a user starts it, ended by Ctrl-C.
"""

import os
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

from flows.pipeline import STAGES
from flows.presets import load_recipe
from flows.servers import free_port
from tests.chain import processes_on, start, wait_until

FINAL = ("COMPLETED", "FAILED", "CANCELLED", "CRASHED")
CORPUS_STAGES = STAGES[: STAGES.index("mix") + 1]


@dataclass(frozen=True)
class RunningUi:
    """A `textmill ui` that answers."""

    state: Path
    process: subprocess.Popen[str]
    prefect: str
    mlflow: str
    printed: str

    def post(self, path: str, body: Any) -> httpx.Response:
        """Posts to Prefect's API, whatever comes back."""
        return httpx.post(f"{self.prefect}/api{path}", json=body, timeout=60)

    def ask(self, path: str, body: Any = None) -> Any:
        """Asks Prefect's API: GET, or POST where there is a body."""
        url = f"{self.prefect}/api{path}"
        answer = httpx.get(url, timeout=60) if body is None else self.post(path, body)
        assert answer.is_success, f"{path}: {answer.status_code} {answer.text[:500]}"
        return answer.json() if answer.content else None

    def patch(self, path: str, body: Any) -> None:
        """Changes something."""
        httpx.patch(f"{self.prefect}/api{path}", json=body, timeout=60).raise_for_status()

    def delete(self, path: str) -> None:
        """Removes something."""
        httpx.delete(f"{self.prefect}/api{path}", timeout=60).raise_for_status()

    def deployment(self, name: str) -> dict[str, Any]:
        """The deployment of this name."""
        (found,) = self.ask("/deployments/filter", {"deployments": {"name": {"any_": [name]}}})
        return dict(found)

    def run(self, deployment: str, preset: str, overrides: Sequence[str] = (), until: str | None = None) -> str:
        """Starts a run of a deployment on a recipe and returns its id."""
        recipe = load_recipe(preset, overrides).model_dump(mode="json")
        path = f"/deployments/{self.deployment(deployment)['id']}/create_flow_run"
        return str(self.ask(path, {"parameters": {"recipe": recipe, "until": until}})["id"])

    def set_state(self, run_id: str, state: dict[str, str]) -> None:
        """Asks for another state of a run, in the very words of the buttons of the pages."""
        answer = self.ask(f"/flow_runs/{run_id}/set_state", {"state": state, "force": True})
        assert answer["status"] == "ACCEPT", answer

    def cancel(self, run_id: str) -> None:
        """The Cancel button."""
        self.set_state(run_id, {"type": "CANCELLING", "name": "Cancelling"})

    def retry(self, run_id: str) -> None:
        """The Retry button."""
        self.set_state(run_id, {"type": "SCHEDULED", "name": "AwaitingRetry", "message": "Retry from the UI"})

    def flow_run(self, run_id: str) -> dict[str, Any]:
        """A run as the API tells it."""
        return dict(self.ask(f"/flow_runs/{run_id}"))

    def wait_for(self, run_id: str, name: str, seconds: float = 120.0, attempt: int = 1) -> None:
        """Waits until a run is in the state of this name; another end fails with what the run said."""

        def there() -> bool:
            run = self.flow_run(run_id)
            if run["run_count"] >= attempt and run["state_type"] in FINAL and run["state_name"] != name:
                raise AssertionError(
                    f"{run['state_name']}, not {name}: {run['state']['message']}\n{self.log_text(run_id)[-3000:]}"
                )
            return bool(run["state_name"] == name and run["run_count"] >= attempt)

        wait_until(there, seconds)

    def tasks(self, run_id: str, since: str = "") -> list[dict[str, Any]]:
        """Task runs of a flow run in the order they began; of a retried run those after `since`."""
        found = self.ask("/task_runs/filter", {"flow_runs": {"id": {"any_": [run_id]}}})
        later = [task for task in found if (task["start_time"] or "") > since]
        return sorted(later, key=lambda task: task["start_time"] or "")

    def states(self, run_id: str, since: str = "") -> dict[str, str]:
        """State of each stage of a run; names are those of the graph without their suffix."""
        return {stage_of(task): task["state_name"] for task in self.tasks(run_id, since)}

    def nodes(self, run_id: str) -> Counter[str]:
        """How many nodes each stage has in the graph of a run."""
        return Counter(stage_of(task) for task in self.tasks(run_id))

    def artifacts(self, run_id: str) -> dict[str, dict[str, Any]]:
        """Artifacts of a run by key, the newest of each."""
        found = self.ask("/artifacts/filter", {"flow_runs": {"id": {"any_": [run_id]}}, "sort": "CREATED_DESC"})
        return {artifact["key"]: artifact for artifact in reversed(found)}

    def logs(self, run_id: str) -> list[dict[str, Any]]:
        """Log lines of a run."""
        return list(self.ask("/logs/filter", {"logs": {"flow_run_id": {"any_": [run_id]}}, "sort": "TIMESTAMP_ASC"}))

    def log_text(self, run_id: str) -> str:
        """The log of a run as one text."""
        return "\n".join(line["message"] for line in self.logs(run_id))

    def listening(self) -> list[tuple[str, int]]:
        """Addresses that any process on the state folder listens on."""
        found = []
        for pid in [self.process.pid, *processes_on(self.state)]:
            sockets = psutil.Process(pid).net_connections("inet")
            found += [(entry.laddr.ip, entry.laddr.port) for entry in sockets if entry.status == psutil.CONN_LISTEN]
        return sorted(set(found))


def stage_of(task: dict[str, Any]) -> str:
    """The stage a task run belongs to: Prefect adds a suffix to its name."""
    return str(task["name"].split("-")[0])


def start_ui(state: Path) -> tuple[subprocess.Popen[str], int, int]:
    """Starts `textmill ui` on free ports; returns before it answers."""
    prefect_port, mlflow_port = free_port("127.0.0.1"), free_port("127.0.0.1")
    ports = ("--prefect-port", str(prefect_port), "--mlflow-port", str(mlflow_port))
    return start(state, "ui", *ports, OMP_NUM_THREADS="1"), prefect_port, mlflow_port


def stop_ui(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Presses Ctrl-C; returns the exit status and what was printed since."""
    os.kill(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=90)
    return process.returncode, output


@contextmanager
def serving_ui(state: Path) -> Iterator[RunningUi]:
    """Runs `textmill ui` on a state folder; at the end nothing of it may be left."""
    process, prefect_port, mlflow_port = start_ui(state)
    try:
        wait_until(lambda: (state / "ui.json").exists() or process.poll() is not None, 150)
        assert process.stdout is not None
        printed = "".join(process.stdout.readline() for _ in range(3))
        assert process.poll() is None, printed + process.stdout.read()
        yield RunningUi(state, process, f"http://127.0.0.1:{prefect_port}", f"http://127.0.0.1:{mlflow_port}", printed)
    finally:
        if process.poll() is None:
            code, output = stop_ui(process)
            assert code == 0, output
    wait_until(lambda: not processes_on(state), 30)
