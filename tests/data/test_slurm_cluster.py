"""The data stages on a Slurm cluster: what its tasks make is what processes make."""

import os
import subprocess
import threading
import time
from pathlib import Path

import pytest

from tasks.cleaning import CleanSpec, clean
from tasks.core import tables
from tasks.core.engines import Share, slurm_executor, spread
from tasks.core.errors import ContractError, TransientError
from tasks.core.site import Site
from tests.data.kit import chinese, english, raw_of
from tests.slurm_cluster import cluster, needs_slurm, said

__all__ = ["cluster"]

pytestmark = [pytest.mark.slow, needs_slurm]


def do(job: tuple[Path, str]) -> None:
    """A job that writes its name, or never ends."""
    folder, name = job
    if name == "wrong":
        raise ContractError(f"{name} cannot be read")
    if name == "endless":
        (folder / "began").touch()
        time.sleep(600)
    (folder / name).write_text(os.environ["SLURM_ARRAY_TASK_ID"])


def site(folder: Path, engine: str, **changes: object) -> Site:
    return Site(state_dir=folder / engine, data_engine=engine, slurm_partition="cpu", data_workers=2, **changes)


def test_slurm_makes_the_bytes_that_processes_make(cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "_GROUP_ROWS", 20)
    rows = [{"id": f"d{number:03d}", "text": (english if number % 2 else chinese)(number)} for number in range(80)]
    made = {}
    for engine in ("local", "slurm"):
        where = site(tmp_path, engine)
        made[engine] = clean.build(CleanSpec(filters=()), raw_of(where, tmp_path, rows), site=where)
    assert made["slurm"].digest == made["local"].digest
    assert not list((tmp_path / "slurm").rglob("engine"))


def test_jobs_run_as_tasks_of_an_array_and_an_error_keeps_its_type(cluster: None, tmp_path: Path) -> None:
    spread(do, [(tmp_path, name) for name in ("one", "two", "three")], site(tmp_path, "slurm"), tmp_path / "logs")
    assert {name: (tmp_path / name).read_text() for name in ("one", "two", "three")} == {"one": "0", "two": "1", "three": "0"}
    with pytest.raises(ContractError, match="wrong cannot be read"):
        spread(do, [(tmp_path, "wrong"), (tmp_path, "four")], site(tmp_path, "slurm"), tmp_path / "logs")
    assert (tmp_path / "four").read_text() == "1"


def test_a_cancelled_job_is_passing_trouble_and_finished_work_stays(cluster: None, tmp_path: Path) -> None:
    def cancel() -> None:
        while not ((tmp_path / "began").exists() and (tmp_path / "done").exists()):
            time.sleep(0.2)
        subprocess.run(["scancel", "--user=root"], check=True)

    canceller = threading.Thread(target=cancel, daemon=True)
    canceller.start()
    with pytest.raises(TransientError, match="slurm"):
        spread(do, [(tmp_path, "endless"), (tmp_path, "done")], site(tmp_path, "slurm"), tmp_path / "logs")
    canceller.join(5)
    assert (tmp_path / "done").read_text() == "1"


@pytest.mark.timeout(60)
def test_what_follows_a_job_that_failed_is_not_waited_for(cluster: None, tmp_path: Path) -> None:
    failed = subprocess.run(["sbatch", "--parsable", "--wait", "--wrap", "exit 1"], cwd=tmp_path, capture_output=True, text=True)
    executor = slurm_executor(Share(do, [], tmp_path), 1, site(tmp_path, "slurm"), tmp_path / "logs")
    executor.job_id = failed.stdout.strip()
    executor.launch_merge_stats()
    assert said("squeue", "--noheader") == ""
