"""Kills at random moments, cancel, Ctrl-C: nothing finished is lost, nothing is left behind, the end is the same bits."""

import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.chain import ROOT, ChainRun, environment, kill, processes_on, start, textmill, training_children, wait_until
from tests.slurm_cluster import cluster, needs_slurm, said

__all__ = ["cluster"]

pytestmark = pytest.mark.slow
SLOWER = ("--set", "pretrain.train.num_tokens=400_000", "--set", "pretrain.train.checkpoint_every_steps=5")


@pytest.fixture(scope="module")
def encoded(chain: ChainRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state folder that has everything up to the token shards."""
    state = tmp_path_factory.mktemp("encoded") / ".textmill"
    for kind in (
        "raw-corpus",
        "filtered-corpus",
        "clean-corpus",
        "quality-report",
        "tokenizer",
        "tokenized-corpus",
        "conversations",
    ):
        shutil.copytree(chain.state / "store" / kind, state / "store" / kind)
    return state


def copy_of(encoded: Path, tmp_path: Path) -> Path:
    state = tmp_path / ".textmill"
    shutil.copytree(encoded, state)
    return state


@pytest.fixture(scope="module")
def uninterrupted(encoded: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Digest of the base model of a run nobody disturbed."""
    state = copy_of(encoded, tmp_path_factory.mktemp("calm"))
    run = textmill(state, "run", "ci", *SLOWER, "--until", "pretrain")
    assert run.code == 0, run.output
    return run.manifests("pretrain")[0].digest


def checkpoints(state: Path) -> list[Path]:
    return [path for path in state.glob("store/checkpoint/*.partial/extra/checkpoints/step-*") if path.is_dir()]


@pytest.mark.parametrize("victims", ["child", "flow", "both"])
def test_killed_training_goes_on_from_its_checkpoint_to_the_same_bits(
    victims: str, encoded: Path, uninterrupted: str, tmp_path: Path
) -> None:
    state = copy_of(encoded, tmp_path)
    moments = random.Random(victims)
    process = start(state, "run", "ci", *SLOWER, "--until", "pretrain", TEXTMILL_RETRY_DELAY_S="0.5")
    wait_until(lambda: checkpoints(state), 120)
    time.sleep(moments.uniform(0.0, 3.0))
    assert process.poll() is None, "the run ended before the kill: give it more tokens"
    for pid in training_children(state) if victims in ("child", "both") else []:
        kill(pid)
    if victims in ("flow", "both"):
        kill(process.pid)
    output, _ = process.communicate(timeout=600)
    if victims == "child":
        assert process.returncode == 0, output
        assert "resum" in (state / "logs" / "textmill.log").read_text()
    else:
        wait_until(lambda: not training_children(state))
        process_output = textmill(state, "run", "ci", *SLOWER, "--until", "pretrain")
        assert process_output.code == 0, process_output.output
        assert all(result == "reused" for name, result in process_output.results if name != "pretrain")
    run = ChainRun(state, 0, "")
    assert run.manifests("pretrain")[0].digest == uninterrupted
    assert "resum" in (state / "logs" / "textmill.log").read_text()


def test_a_sigterm_to_every_process_ends_the_run_and_the_next_ends_with_the_same_bits(
    encoded: Path, uninterrupted: str, tmp_path: Path
) -> None:
    state = copy_of(encoded, tmp_path)
    process = start(state, "run", "ci", *SLOWER, "--until", "pretrain")
    wait_until(lambda: checkpoints(state), 120)
    for pid in processes_on(state):  # what a stopped service or a batch job that has to go gets
        os.kill(pid, signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 143, output
    assert "terminated; finished stages are kept" in output
    assert "defect" not in output
    wait_until(lambda: not processes_on(state), 30)
    assert textmill(state, "run", "ci", *SLOWER, "--until", "pretrain").code == 0
    assert ChainRun(state, 0, "").manifests("pretrain")[0].digest == uninterrupted
    assert "resum" in (state / "logs" / "textmill.log").read_text()


@needs_slurm
def test_a_requeued_slurm_job_goes_on_to_the_same_bits(cluster: None, encoded: Path, uninterrupted: str, tmp_path: Path) -> None:
    state = copy_of(encoded, tmp_path)
    command = shlex.join([sys.executable, "-m", "flows", "run", "ci", *SLOWER, "--until", "pretrain"])
    options = ("--parsable", "--requeue", "--cpus-per-task=2", f"--output={tmp_path}/job.log", "--open-mode=append")
    submit = ["sbatch", *options, f"--chdir={ROOT}", f"--wrap={command}"]
    job = subprocess.run(submit, env=environment(state), check=True, capture_output=True, text=True).stdout.strip()
    wait_until(lambda: checkpoints(state), 120)
    subprocess.run(["scontrol", "requeue", job], check=True)
    wait_until(lambda: job not in said("squeue", "--noheader", "--format=%i"), 300)
    assert "Restarts=1" in said("scontrol", "show", "job", job)
    assert ChainRun(state, 0, "").manifests("pretrain")[0].digest == uninterrupted, (tmp_path / "job.log").read_text()
    assert "resum" in (state / "logs" / "textmill.log").read_text()


def test_ctrl_c_leaves_no_process_and_nothing_half_done_that_counts(encoded: Path, tmp_path: Path) -> None:
    state = copy_of(encoded, tmp_path)
    process = start(state, "run", "ci", *SLOWER, "--until", "pretrain")
    wait_until(lambda: training_children(state), 120)
    os.kill(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=90)
    assert process.returncode == 130, output
    assert "interrupted" in output
    assert "Traceback" not in output
    wait_until(lambda: not processes_on(state), 30)
    assert ChainRun(state, 0, "").manifests("pretrain") == []
    assert mlflow_statuses(state) == ["KILLED"]


def test_a_killed_flow_is_closed_by_doctor_in_prefect_and_mlflow(encoded: Path, tmp_path: Path) -> None:
    state = copy_of(encoded, tmp_path)
    process = start(state, "run", "ci", *SLOWER, "--until", "pretrain")
    wait_until(lambda: training_children(state), 120)
    for pid in processes_on(state):
        kill(pid)
    process.communicate(timeout=30)
    done = textmill(state, "doctor")
    assert "1 closed as crashed" in done.output
    assert mlflow_statuses(state) == ["KILLED"]
    assert "0 closed as crashed" in textmill(state, "doctor").output


def mlflow_statuses(state: Path) -> list[str]:
    """Statuses of the MLflow runs of a state folder, read by a fresh client."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{state / 'mlflow.db'}")
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    return [run.info.status for run in client.search_runs(experiments)]
