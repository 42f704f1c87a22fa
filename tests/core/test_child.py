"""Children: what they report comes through, what they raise keeps its type, nothing of them is left behind."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tasks.core import child
from tasks.core.child import marked_processes, run_child
from tasks.core.errors import ContractError, RecipeError, StageError, TransientError
from tasks.core.run import Observer, Run, stage_log
from tasks.core.site import Site
from tasks.core.stage import StageContext
from tests.core import childish
from tests.core.toys import count


class Listener(Observer):
    """Keeps what a stage reports."""

    def __init__(self) -> None:
        self.events: list[tuple] = []

    def progressed(self, stage, done, total, unit, figures) -> None:
        self.events.append((done, total, unit, figures))

    def measured(self, stage, step, values) -> None:
        self.events.append((step, values))


def context(site: Site, listener: Listener) -> StageContext:
    run = Run(site, observers=[listener])
    return StageContext(count, site.root, stage_log("test"), run, {}, {})


def run(
    site: Site, function: str, tmp_path: Path, listener: Listener | None = None, text: str = "zh \u4e2d\u6587", **options
) -> None:
    job = childish.Job(path=str(tmp_path / "out.txt"), text=text)
    run_child(f"tests.core.childish:{function}", job, context(site, listener or Listener()), **options)


def test_the_job_arrives_and_reports_come_back(site: Site, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    listener = Listener()
    with caplog.at_level("INFO", logger="textmill"):
        run(site, "write", tmp_path, listener)
    assert (tmp_path / "out.txt").read_text() == "zh \u4e2d\u6587"
    assert listener.events == [(1, 2, "steps", {"loss": 0.5}), (7, {"loss": 0.25})]
    assert "a line from the child" in caplog.text
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == ["something worth to know"]


@pytest.mark.parametrize("torchrun", [False, True])
def test_an_error_on_purpose_keeps_its_type(site: Site, tmp_path: Path, torchrun: bool) -> None:
    with pytest.raises(RecipeError, match="that is wrong"):
        run(site, "refuse", tmp_path, torchrun=torchrun)


def test_a_defect_is_a_stage_error(site: Site, tmp_path: Path) -> None:
    with pytest.raises(StageError, match="ZeroDivisionError: division by zero"):
        run(site, "break_down", tmp_path)


@pytest.mark.parametrize("torchrun", [False, True])
@pytest.mark.parametrize(
    ("num_bytes", "message"), [(4_096, "no space left to write .*gc --dry-run"), (16, "could not write why")]
)
def test_a_full_disk_is_told_and_not_tried_again(
    site: Site, tmp_path: Path, num_bytes: int, message: str, torchrun: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", logger="textmill"), pytest.raises(ContractError, match=message):
        run(site, "fill_disk", tmp_path, text=str(num_bytes), torchrun=torchrun)
    assert num_bytes > 16 or "no space left to write" in caplog.text


@pytest.mark.parametrize("torchrun", [False, True])
def test_a_killed_child_is_transient(site: Site, tmp_path: Path, torchrun: bool) -> None:
    with pytest.raises(TransientError, match="was killed"):
        run(site, "kill_itself", tmp_path, torchrun=torchrun)


@pytest.mark.parametrize(("rank", "told"), [("1", r"rank 1 \(SIGKILL\)"), ("none", r"rank [01] \(SIGABRT\)")])
def test_a_process_that_aborts_since_another_was_killed_is_not_named(site: Site, tmp_path: Path, rank: str, told: str) -> None:
    two = site.model_copy(update={"num_processes": 2})
    with pytest.raises(TransientError, match=rf"^{told}.* of tests\.core\.childish"):
        run(two, "abort_beside_a_killed_one", tmp_path, text=rank, torchrun=True)


def alive(mark_file: Path) -> list[int]:
    return marked_processes(mark_file.read_text())


def wait_for(condition, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def test_an_interrupt_stops_the_whole_tree(site: Site, tmp_path: Path) -> None:
    """The grandchild is in a session of its own, as torchrun's workers are."""
    out = tmp_path / "out.txt"

    def interrupt() -> None:
        wait_for(out.exists)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        run(site, "linger", tmp_path)
    assert alive(out) == []


_PARENT = """
import sys; from pathlib import Path; from tests.core.test_child import run; from tasks.core.site import current_site
run(current_site(), "linger", Path(sys.argv[1]), torchrun=sys.argv[2] == "True")
"""


@pytest.mark.parametrize("torchrun", [False, True])
def test_the_child_dies_with_a_killed_parent(site: Site, tmp_path: Path, torchrun: bool) -> None:
    parent = subprocess.Popen([sys.executable, "-c", _PARENT, str(tmp_path), str(torchrun)])
    wait_for((tmp_path / "out.txt").exists)
    child_pid = int((tmp_path / "pid.txt").read_text())
    parent.kill()
    parent.wait()
    wait_for(lambda: not Path(f"/proc/{child_pid}").exists() or "zombie" in Path(f"/proc/{child_pid}/status").read_text())


def test_reports_outside_a_child_go_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TEXTMILL_EVENTS", raising=False)
    child.report(done=1, total=1, unit="steps")
    child.metrics(1, loss=1.0)
