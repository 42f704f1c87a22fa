"""Worker processes: errors keep their type, a killed worker is transient, none is left."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tasks.core.errors import ContractError, TransientError
from tasks.core.workers import run_jobs, workers_for


def touch(path: Path) -> None:
    path.write_text(str(os.getpid()))


def fail(path: Path) -> None:
    raise ContractError(f"{path.name} is wrong")


def die(path: Path) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_little_text_is_not_worth_a_process():
    assert workers_for(6_500_000, 8) == 1
    assert workers_for(100_000_000, 8) == 8


def test_one_worker_runs_in_this_process(tmp_path):
    assert list(run_jobs(touch, [tmp_path / "a", tmp_path / "b"], 1)) == [1, 2]
    assert (tmp_path / "a").read_text() == str(os.getpid())


def test_workers_run_elsewhere_and_are_gone_afterwards(tmp_path):
    jobs = [tmp_path / str(number) for number in range(6)]
    assert list(run_jobs(touch, jobs, 2)) == [1, 2, 3, 4, 5, 6]
    pids = {int(path.read_text()) for path in jobs}
    assert os.getpid() not in pids
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_an_error_keeps_its_type_and_message(tmp_path):
    with pytest.raises(ContractError, match="b is wrong"):
        list(run_jobs(fail, [tmp_path / "b", tmp_path / "b"], 2))


def test_a_killed_worker_is_transient(tmp_path):
    with pytest.raises(TransientError, match=r"a worker process .* was killed"):
        list(run_jobs(die, [tmp_path / "a", tmp_path / "b"], 2))


def linger(path: Path) -> None:
    path.write_text(str(os.getpid()))
    time.sleep(60)


def test_workers_die_with_the_process_that_started_them(tmp_path):
    code = (
        "from pathlib import Path; from tasks.core.workers import run_jobs; from tests.core.test_workers import linger\n"
        f"if __name__ == '__main__': list(run_jobs(linger, [Path({str(tmp_path)!r}) / name for name in 'ab'], 2))"
    )
    script = tmp_path / "main.py"
    script.write_text(code)
    parent = subprocess.Popen([sys.executable, str(script)], env=os.environ | {"PYTHONPATH": str(Path.cwd())})
    deadline = time.monotonic() + 30
    while not all((tmp_path / name).exists() and (tmp_path / name).read_text() for name in "ab"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    pids = [int((tmp_path / name).read_text()) for name in "ab"]
    parent.kill()
    parent.wait()
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        assert time.monotonic() < deadline, "a worker outlived its parent"
        time.sleep(0.05)


@pytest.mark.parametrize(("guard", "says"), [("if __name__ == '__main__': ", "6"), ("", "needs `if __name__")])
def test_a_script_without_its_guard_is_told_so(tmp_path, guard, says):
    script = tmp_path / "main.py"
    script.write_text(
        "from tasks.core.site import Site; from tests.core.toys import CountSpec, spread\n"
        f"{guard}print(spread.build(CountSpec(), site=Site(state_dir={str(tmp_path)!r})).total)"
    )
    done = subprocess.run(
        [sys.executable, str(script)],
        env=os.environ | {"PYTHONPATH": str(Path.cwd())}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert says in done.stdout + done.stderr
    assert (done.returncode == 0) == bool(guard)
