"""A Slurm cluster of one node on this machine: its daemons run the data stages, and what they make is what processes make."""

import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tasks.cleaning import CleanSpec, clean
from tasks.core import tables
from tasks.core.engines import spread
from tasks.core.errors import ContractError, TransientError
from tasks.core.site import Site
from tests.data.kit import chinese, english, raw_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        os.geteuid() != 0 or not all(map(shutil.which, ("munged", "slurmctld", "slurmd", "sbatch"))),
        reason="needs root, and the packages slurmctld, slurmd, slurm-client and munge",
    ),
]

CONF = """
ClusterName=here
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/controller
SlurmdSpoolDir={folder}/node
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=1
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=8000 State=UNKNOWN
PartitionName=cpu Nodes=ALL Default=YES State=UP
"""


def do(job: tuple[Path, str]) -> None:
    """A job that writes its name, or never ends."""
    folder, name = job
    if name == "wrong":
        raise ContractError(f"{name} cannot be read")
    if name == "endless":
        (folder / "began").touch()
        time.sleep(600)
    (folder / name).write_text(os.environ["SLURM_ARRAY_TASK_ID"])


def free_port() -> int:
    with socket.socket() as some:
        some.bind(("127.0.0.1", 0))
        return int(some.getsockname()[1])


def wait_for(what: str, *command: str, seconds: float = 60) -> None:
    """Waits until a command says something."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if what in subprocess.run(command, capture_output=True, text=True).stdout:
            return
        time.sleep(0.2)
    raise TimeoutError(f"{what} was never said by {command}")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("slurm")
    folder.chmod(0o755)  # munged takes no socket in a folder that others cannot enter
    key = folder / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o600)
    host = socket.gethostname().partition(".")[0]
    conf = folder / "slurm.conf"
    conf.write_text(CONF.format(host=host, folder=folder, controller_port=free_port(), node_port=free_port()))
    for name in ("controller", "node"):
        (folder / name).mkdir()
    files = {"key-file": key, "socket": folder / "munge.socket", "pid-file": folder / "munge.pid", "seed-file": folder / "seed"}
    daemons = (
        ["munged", "--foreground", "--force", *(f"--{name}={path}" for name, path in files.items())],
        ["slurmctld", "-D", "-f", str(conf)],
        ["slurmd", "-D", "-f", str(conf), "-N", host],
    )
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(conf))
        for command in daemons:
            log = stack.enter_context((folder / f"{command[0]}.log").open("wb"))
            process = subprocess.Popen(command, stdout=log, stderr=log)
            stack.callback(process.wait)
            stack.callback(process.terminate)
            if command[0] == "munged":
                wait_for("munge.socket", "ls", str(folder))
        wait_for("idle", "sinfo", "--noheader", "--format=%t")
        yield


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
