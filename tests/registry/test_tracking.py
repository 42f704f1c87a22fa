"""The tracker: what a run says arrives once, its status is true, and MLflow being down costs nothing but time to wait."""

import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from flows import runner
from flows.runner import TrackerObserver
from tasks.contracts import Interval, Scores
from tasks.core.errors import RecipeError, TransientError
from tasks.core.run import Run, StageRecord
from tasks.core.site import Site
from tasks.core.store import process_identity
from tasks.core.tracking import RegisteredVersion, RunTracker, aliases, deliver_pending, reap, registered_answers
from tasks.core.tracking.client import experiment_id, mlflow_client, shown
from tasks.core.tracking.deliver import Delivery, _read_events
from tasks.core.tracking.send import name_of, user_name
from tasks.core.tracking.spool import Spool, spool_dir
from tasks.core.wheels import fetch_wheel

DEAD = "http://127.0.0.1:9"  # the discard port: nothing listens

RUN_THAT_IS_KILLED = """
import sys, time
from pathlib import Path
from typing import Any
from tasks.core.site import Site
from tasks.core.store import process_identity
from tasks.core.tracking import RunTracker
tracker = RunTracker.start(Site(state_dir=Path(sys.argv[1])), "killed")
tracker.metrics(1, {"loss": 2.0})
print(tracker.run_id(60), flush=True)
tracker.metrics(2, {"loss": 1.0})
time.sleep(600)
"""


def write_spool(site: Site, name: str, *events: dict[str, Any]) -> Spool:
    gone = {"host": os.uname().nodename, "boot_id": "an earlier boot", "pid": 1, "started": 0.0}
    start = {
        "kind": "start",
        "time_ms": 1,
        "run": name,
        "name": name,
        "tags": {},
        "params": {},
        "process": gone,
    }
    path = spool_dir(site) / f"{name}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"time_ms": 1} | event) + "\n" for event in (start, *events)))
    return Spool(path)


def metric(step: int, **values: float) -> dict[str, Any]:
    return {"kind": "metrics", "step": step, "values": values}


def the_run(site: Site) -> Any:
    (run,) = mlflow_client(site).search_runs([experiment_id(site)])
    return run


def steps(site: Site, run_id: str, key: str) -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in mlflow_client(site).get_metric_history(run_id, key)]


def test_a_run_arrives_whole(site: Site, tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    report.write_text("<p>fine</p>")
    tracker = RunTracker.start(site, "first", tags={"textmill.recipe": "ci"}, params={"tune.lr": "0.1"})
    for step in range(5):
        tracker.metrics(step, {"train/loss": 5.0 - step})
    tracker.metrics(3, {"train/loss": 99.0})  # a resumed run says steps again
    tracker.artifact(report, "check")
    tracker.tags({"note": "lone \ud800 surrogate"})
    tracker.dataset("clean-corpus/abc", "0" * 64, "/store/clean-corpus/abc", "training")
    assert tracker.close("FINISHED", wait_s=60)
    run = the_run(site)
    assert run.info.status == "FINISHED"
    assert run.info.run_id == tracker.run_id()
    assert run.data.params == {"tune.lr": "0.1"}
    assert run.data.tags["textmill.recipe"] == "ci"
    assert steps(site, run.info.run_id, "train/loss") == [(0, 5.0), (1, 4.0), (2, 3.0), (3, 2.0), (4, 1.0)]
    assert run.inputs.dataset_inputs[0].dataset.digest == "0" * 36
    client = mlflow_client(site)
    assert [item.path for item in client.list_artifacts(run.info.run_id, "check")] == ["check/report.html"]
    assert list(spool_dir(site).iterdir()) == [], "a delivered spool leaves nothing"


def test_models_that_one_stage_scores_and_attempts_of_one_stage_stand_apart(site: Site) -> None:
    def scores(role: str, loss: float) -> Scores:
        interval = Interval(mean=loss, low=loss, high=loss, num_items=1)
        facts = {"role": role, "model_digest": role, "metrics": {"answer_loss": interval}}
        return Scores(uri=str(site.root), fingerprint=role[0] * 64, digest=role[0] * 64, **facts)

    tracker = RunTracker.start(site, "scored")
    observer = TrackerObserver(tracker)
    observer.finished(StageRecord("pretrain", "failed", 9.0, error="preempted"))
    observer.finished(StageRecord("pretrain", "built", 2.0))
    for role, loss in (("base", 4.0), ("tuned", 1.0)):
        observer.finished(StageRecord("score_model", "built", loss, scores(role, loss), role=role))
    assert tracker.close("FINISHED", wait_s=60)
    found = the_run(site).data
    assert found.metrics["stage_seconds/pretrain"] == 2.0
    for role, loss in (("base", 4.0), ("tuned", 1.0)):
        name = f"score_model-{role}"
        assert found.metrics[f"{name}/metrics/answer_loss/mean"] == found.metrics[f"stage_seconds/{name}"] == loss
        assert found.tags[f"textmill.digest.{name}"] == role[0] * 16


def test_a_killed_run_is_killed_in_mlflow(site: Site) -> None:
    command = [sys.executable, "-c", RUN_THAT_IS_KILLED, str(site.root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        run_id = process.stdout.readline().strip()
        time.sleep(0.2)
        process.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 30
    while list(spool_dir(site).glob("*.jsonl")) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert mlflow_client(site).get_run(run_id).info.status == "KILLED"
    assert steps(site, run_id, "loss") == [(1, 2.0), (2, 1.0)]


@pytest.fixture
def silent_server() -> Iterator[str]:
    """A server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize("how", ["refuses", pytest.param("is silent", marks=pytest.mark.slow)])
def test_mlflow_down_blocks_nothing_and_is_caught_up(site: Site, silent_server: str, how: str) -> None:
    unreachable = site.model_copy(update={"mlflow_uri": DEAD if how == "refuses" else silent_server})
    began = time.monotonic()
    tracker = RunTracker.start(unreachable, "offline")
    for step in range(1_000):
        tracker.metrics(step, {"loss": 1.0})
    assert time.monotonic() - began < 1.0
    assert tracker.run_id(0.0) is None
    assert tracker.close("FINISHED", wait_s=1.0) is False
    assert time.monotonic() - began < 6.0
    assert deliver_pending(site) == (1, 0)
    run = the_run(site)
    assert run.info.status == "FINISHED"
    assert len(steps(site, run.info.run_id, "loss")) == 1_000


def test_pending_is_left_where_mlflow_is_down(site: Site) -> None:
    write_spool(site, "old", {"kind": "end", "status": "FINISHED"})
    began = time.monotonic()
    assert deliver_pending(site.model_copy(update={"mlflow_uri": DEAD})) == (0, 1)
    assert time.monotonic() - began < 20.0
    assert (spool_dir(site) / "old.jsonl").exists()


@pytest.mark.parametrize("status", ["FINISHED", "FAILED", "KILLED"])
def test_each_end_is_told(site: Site, status: str) -> None:
    write_spool(site, "ended", {"kind": "end", "status": status})
    assert deliver_pending(site) == (1, 0)
    assert the_run(site).info.status == status


def test_a_spool_cut_by_a_kill_ends_killed(site: Site) -> None:
    spool = write_spool(site, "cut", metric(1, loss=2.0))
    with spool.path.open("ab") as file:
        file.write(b'{"kind": "metrics", "step": 2, "val')
    assert deliver_pending(site) == (1, 0)
    run = the_run(site)
    assert run.info.status == "KILLED"
    assert steps(site, run.info.run_id, "loss") == [(1, 2.0)]


@pytest.mark.parametrize("what_was_lost", ["the note of what was sent", "the run id too"])
def test_delivery_killed_before_its_note_repeats_nothing(site: Site, what_was_lost: str) -> None:
    spool = write_spool(site, "twice", metric(1, loss=2.0), metric(2, loss=1.0))
    first = Delivery(spool, site)
    assert first.step()
    spool.state.unlink()  # sent, then killed before the offset was on disk
    if what_was_lost == "the run id too":
        spool.run_id.unlink()
    assert deliver_pending(site) == (1, 0)
    run = the_run(site)  # one run, not two
    assert steps(site, run.info.run_id, "loss") == [(1, 2.0), (2, 1.0)]


def test_an_event_mlflow_refuses_is_left_out_and_the_rest_arrives(site: Site) -> None:
    write_spool(
        site,
        "refused",
        {"kind": "artifact", "path": "/nowhere/at/all", "to": ""},
        metric(1, **{"bits per byte (zh)!": 1.0}),
        {"kind": "end", "status": "FINISHED"},
    )
    assert deliver_pending(site) == (1, 0)
    run = the_run(site)
    assert run.info.status == "FINISHED"
    assert run.data.metrics == {"bits per byte _zh__-47595a": 1.0}


def test_reap_ends_runs_whose_process_is_gone_and_no_others(site: Site) -> None:
    client, experiment = mlflow_client(site), experiment_id(site)
    spool = write_spool(site, "gone", metric(1, loss=1.0))
    Delivery(spool, site).step()
    for path in spool_dir(site).iterdir():  # the whole machine went down, the spool with it
        path.unlink()
    here = {f"textmill.{key}": str(value) for key, value in process_identity().items()}
    alive_id = client.create_run(experiment, tags=here).info.run_id
    foreign_id = client.create_run(experiment, tags={"textmill.pid": "1", "textmill.host": "another"}).info.run_id
    (gone,) = reap(site)
    assert client.get_run(gone).info.run_name == "gone"
    assert client.get_run(gone).info.status == "KILLED"
    assert {client.get_run(run_id).info.status for run_id in (alive_id, foreign_id)} == {"RUNNING"}


def test_a_spool_that_cannot_be_written_does_not_stop_the_run(site: Site) -> None:
    (site.root / "spool").write_text("a file where the folder should be")
    tracker = RunTracker.start(site, "unwritable")
    tracker.metrics(1, {"loss": 1.0})
    assert tracker.run_id(1.0) is None
    assert tracker.close("FINISHED", wait_s=1.0) is False


def test_whole_lines_only(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"kind": "a"}\nnot json\n{"kind": "b"}\n{"kind": "c"')
    events, end = _read_events(path, 0)
    assert [event["kind"] for event in events] == ["a", "b"]
    assert end == len(b'{"kind": "a"}\nnot json\n{"kind": "b"}\n')


def test_a_password_is_not_shown() -> None:
    assert shown("postgresql://me:secret@host/db") == "postgresql://***@host/db"
    assert shown("http://host:5000") == "http://host:5000"
    assert shown("asked http://me:p@ss@host/api of http://host/@") == "asked http://***@host/api of http://host/@"


def test_links_and_logs_show_no_password(site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    secret = site.model_copy(update={"mlflow_uri": "http://me:p@ss@127.0.0.1:9/", "tracker_wait_s": 0.0})
    assert runner._mlflow_server(secret) == "http://127.0.0.1:9"
    monkeypatch.setattr(runner, "_publish_links", lambda *_: None)
    with runner._tracked(Run(secret)):
        pass
    assert "MLflow at http://***@127.0.0.1:9/ did not take everything" in caplog.text
    assert "ss@" not in caplog.text


class Refusing(BaseHTTPRequestHandler):
    """Lets nobody in."""

    def do_GET(self) -> None:
        self.send_response(self.server.status)
        self.end_headers()
        self.wfile.write(b"You are not authenticated.")

    def log_message(self, *_: object) -> None: ...


@pytest.mark.parametrize("status", [401, 403])
def test_wrong_credentials_are_the_recipe_s_fault_and_nothing_is_lost(site: Site, status: int) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        server.status = status
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        closed = site.model_copy(update={"mlflow_uri": f"http://me:secret@127.0.0.1:{server.server_address[1]}"})
        with pytest.raises(RecipeError, match=r"//\*\*\*@127.*did not let us in.*TEXTMILL_MLFLOW_TOKEN") as refused:
            aliases(closed, "toy")
        write_spool(site, "waits", metric(1, loss=1.0))
        assert deliver_pending(closed) == (0, 1)
        server.shutdown()
        thread.join()
    assert "secret" not in str(refused.value)
    assert deliver_pending(site) == (1, 0)


def test_a_database_that_is_down_is_a_passing_trouble(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("psycopg2")
    monkeypatch.setattr("mlflow.store.db.utils.MAX_RETRY_COUNT", 1)  # ten times take it a minute and a half
    down = site.model_copy(update={"mlflow_uri": "postgresql+psycopg2://me:secret@127.0.0.1:9/mlflow"})
    with pytest.raises(TransientError, match=r"//\*\*\*@127.*does not answer") as refused:
        aliases(down, "toy")
    assert "secret" not in str(refused.value)


def test_a_database_keeps_files_in_the_state_folder(site: Site, tmp_path: Path) -> None:
    shutil.copy(site.root / "mlflow.db", tmp_path / "other.db")
    elsewhere = site.model_copy(update={"mlflow_uri": f"sqlite:///{tmp_path / 'other.db'}"})
    found = mlflow_client(elsewhere).get_experiment(experiment_id(elsewhere))
    assert found.artifact_location == (site.root / "mlartifacts").as_uri()


def test_an_empty_address_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEXTMILL_MLFLOW_URI", "")
    assert Site().mlflow_uri is None


def test_an_experiment_that_was_deleted_is_brought_back(site: Site) -> None:
    client, number = mlflow_client(site), experiment_id(site)
    client.delete_experiment(number)
    assert experiment_id(site) == number
    assert client.create_run(number).info.status == "RUNNING"


def test_names_that_mlflow_does_not_take_stay_apart() -> None:
    names = ["tuned/accuracy/评论", "tuned/accuracy/新闻", "train/loss", "x" * 300, "x" * 299 + "y", ""]
    found = [name_of(name) for name in names]
    assert len(set(found)) == len(names)
    assert found[2] == "train/loss"
    assert all(0 < len(name) <= 250 and re.fullmatch(r"[\w\-. /]+", name, re.ASCII) for name in found)


def test_a_user_without_a_name_is_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 54_321)
    assert user_name() == "54321"


def test_answers_that_take_too_long_are_a_passing_trouble(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.core.tracking.model._ANSWERS_LIMIT_S", 0.01)
    version = RegisteredVersion("toy", 3, None, None, "")
    with pytest.raises(TransientError, match=r"toy version 3.*did not answer 2 prompts within 0.01 s"):
        registered_answers(site, version, ["a", "b"], 4)


def test_a_wheel_that_takes_too_long_is_a_passing_trouble(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.core.wheels._PIP_LIMIT_S", 0.01)
    with pytest.raises(TransientError, match=r"pip did not fetch a wheel of toy==1 within 0.01 s"):
        fetch_wheel("toy", "1", "0" * 64, tmp_path)


def test_loading_the_tracker_imports_no_mlflow() -> None:
    code = "import sys, tasks.core.tracking; sys.exit('mlflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_kill_while_the_database_is_made_leaves_none_that_cannot_be_opened(tmp_path: Path) -> None:
    site = Site(state_dir=tmp_path / "state")
    code = "import sys; from tasks.core.site import Site; from tasks.core.tracking.client import make_database as make"
    making = subprocess.Popen([sys.executable, "-c", f"{code}; make(Site(state_dir=sys.argv[1]))", str(site.root)])
    partial = site.root / "cache" / "mlflow.partial"
    until = time.monotonic() + 60
    while not _tables(partial) > 3:
        assert time.monotonic() < until
        assert making.poll() is None
        time.sleep(0.001)
    making.kill()
    making.wait()
    assert not (site.root / "mlflow.db").exists()
    assert experiment_id(site, "after the kill") == "1"
    assert not list(partial.parent.glob("mlflow.partial*"))
    assert _tables(site.root / "mlflow.db") > 30


def _tables(database: Path) -> int:
    if not database.exists():
        return 0
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        (count,) = connection.execute("SELECT count(*) FROM sqlite_master WHERE type = 'table'").fetchone()
    return int(count)
