"""Runs that end otherwise than planned, as `textmill ui` shows them: cancelled, retried, killed, cut off by Ctrl-C."""

import os
import shutil
import signal
import socket
import time
from pathlib import Path

import pytest

from tests.chain import ChainRun, processes_on, training_children, wait_until
from tests.running_ui import RunningUi, serving_ui, start_ui, stop_ui

pytestmark = pytest.mark.slow
LONG_TRAINING = ("pretrain.train.num_tokens=8_000_000", "pretrain.train.checkpoint_every_steps=5")


def test_cancel_in_training_leaves_no_process_and_nothing_that_counts(ui: RunningUi) -> None:
    before = finished_checkpoints(ui.state)
    run = ui.run("model-demo", "ci", LONG_TRAINING, until="pretrain")
    wait_until(lambda: training_children(ui.state), 120)
    time.sleep(5)
    ui.cancel(run)
    wait_until(lambda: not training_children(ui.state), 40)
    ui.wait_for(run, "Cancelled", 60)
    assert ui.states(run)["pretrain"] in ("Crashed", "Cancelled", "Failed")
    assert finished_checkpoints(ui.state) == before
    wait_until(lambda: mlflow_status(ui, run) == "KILLED", 60)


def finished_checkpoints(state: Path) -> list[Path]:
    """Checkpoints that count: those with a manifest, outside of unfinished folders."""
    manifests = state.glob("store/checkpoint/*/manifest.json")
    return sorted(path for path in manifests if not path.parent.name.endswith(".partial"))


def mlflow_status(ui: RunningUi, flow_run_id: str) -> str:
    """Status of the MLflow run beside a flow run."""
    from mlflow import MlflowClient

    client = MlflowClient(ui.mlflow)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    found = client.search_runs(experiments, filter_string=f"tags.`textmill.prefect_run_id` = '{flow_run_id}'")
    return str(found[0].info.status)


def test_retry_of_a_failed_run_repeats_no_finished_stage(ui: RunningUi, tmp_path: Path) -> None:
    """The tokenizer to adopt is missing at first; its folder is put there, and Retry is pressed."""
    folder = tmp_path / "tokenizer"
    overrides = ("dedup.seed=83", "tokenizer.source.kind=adopt", f"tokenizer.source.path={folder}")
    run = ui.run("corpus-nightly", "ci", overrides, until="tokenizer")
    ui.wait_for(run, "Failed")
    first = ui.states(run)
    assert first["dedup"] == "Completed"
    assert first["tokenizer"] == "Failed"
    moment = max(task["end_time"] for task in ui.tasks(run))
    shutil.copytree(ChainRun(ui.state, 0, "").folder("tokenizer"), folder)
    ui.retry(run)
    ui.wait_for(run, "Stopped", attempt=2)
    second = ui.states(run, since=moment)
    assert {stage for stage, state in second.items() if state != "Reused"} == {"tokenizer"}
    assert "dedup" in second


def test_a_run_whose_worker_and_process_were_killed_is_marked_as_crashed(ui: RunningUi) -> None:
    run = ui.run("model-demo", "ci", LONG_TRAINING, until="pretrain")
    wait_until(lambda: training_children(ui.state), 120)
    wait_until(lambda: heartbeats(ui, run), 60)
    for pid in processes_on(ui.state):
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
        if b"prefect.engine" in command or b"prefect\0worker" in command:
            os.kill(pid, signal.SIGKILL)
    killed = time.monotonic()
    wait_until(lambda: not training_children(ui.state), 20)
    ui.wait_for(run, "Crashed", 150)
    assert time.monotonic() - killed < 130
    assert "no heartbeat" in ui.flow_run(run)["state"]["message"]
    again = ui.run("corpus-nightly", "ci", until="ingest")
    ui.wait_for(again, "Stopped")  # another worker has taken over


def heartbeats(ui: RunningUi, run_id: str) -> int:
    """How many heartbeats of a run the server has."""
    resource = {"id": [f"prefect.flow-run.{run_id}"]}
    return int(
        ui.ask("/events/filter", {"filter": {"event": {"name": ["prefect.flow-run.heartbeat"]}, "resource": resource}})["total"]
    )


def test_ctrl_c_stops_everything_a_run_in_training_too(chain: ChainRun, tmp_path: Path) -> None:
    state = tmp_path / ".textmill"
    shutil.copytree(chain.state, state)
    before = finished_checkpoints(state)
    with serving_ui(state) as ui:
        ui.run("model-demo", "ci", LONG_TRAINING, until="pretrain")
        wait_until(lambda: training_children(state), 120)
        code, output = stop_ui(ui.process)
        assert code == 0, output
        wait_until(lambda: not processes_on(state), 5)
    assert "Traceback" not in output
    assert not (state / "ui.json").exists()
    for url in (ui.prefect, ui.mlflow):
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", int(url.rsplit(":", 1)[1]))) != 0
    assert finished_checkpoints(state) == before


@pytest.mark.parametrize("seconds", [0.0, 4.0, 8.0])
def test_ctrl_c_while_it_starts_stops_everything(seconds: float, tmp_path: Path) -> None:
    state = tmp_path / ".textmill"
    process, *_ = start_ui(state)
    wait_until(lambda: len(processes_on(state)) >= 2, 60)
    time.sleep(seconds)
    code, output = stop_ui(process)
    assert code == 0, output
    assert "Traceback" not in output
    wait_until(lambda: not processes_on(state), 5)
