"""Both servers on PostgreSQL databases: a real cluster in a folder of its own, on loopback."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.servers import free_port, mlflow_server, prefect_server
from tasks.core.site import Site, current_site

pytestmark = pytest.mark.slow
_BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
_USER = "postgres"


def _run(*command: str) -> str:
    """Runs a PostgreSQL program, not as root: it refuses."""
    as_user = ["runuser", "-u", _USER, "--"] if os.geteuid() == 0 else []
    done = subprocess.run([*as_user, *command], capture_output=True, text=True, timeout=120, cwd="/")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A running cluster with the databases `prefect` and `mlflow`; yields its port."""
    if not _BINARIES:
        pytest.skip("no PostgreSQL server here: apt-get install postgresql")
    binaries, port = _BINARIES[-1], free_port("127.0.0.1")
    folder = Path("/tmp") / f"textmill-pg-{os.getpid()}"
    folder.mkdir(mode=0o700)
    if os.geteuid() == 0:
        shutil.chown(folder, _USER)
    control = str(binaries / "pg_ctl")
    _run(str(binaries / "initdb"), "-D", str(folder / "data"), "-U", _USER, "-A", "trust", "-E", "UTF8", "--locale", "C.UTF-8")
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder}"
    _run(control, "-D", str(folder / "data"), "-o", options, "-l", str(folder / "log"), "-w", "start")
    try:
        for name in ("prefect", "mlflow"):
            _run(str(binaries / "createdb"), "-h", "127.0.0.1", "-p", str(port), "-U", _USER, name)
        yield port
    finally:
        _run(control, "-D", str(folder / "data"), "-m", "immediate", "stop")
        shutil.rmtree(folder)


def count(port: int, database: str, table: str) -> int:
    address = ("-h", "127.0.0.1", "-p", str(port), "-U", _USER, "-d", database)
    return int(_run(str(_BINARIES[-1] / "psql"), *address, "-Atc", f"select count(*) from {table}"))


def test_prefect_keeps_its_runs_in_postgresql(cluster: int, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"postgresql+asyncpg://{_USER}@127.0.0.1:{cluster}/prefect"
    monkeypatch.setenv("PREFECT_API_DATABASE_CONNECTION_URL", url)
    server = prefect_server(site, free_port(site.host), temporary=False)
    try:
        server.wait_healthy("/api/health")
        code = "from prefect import flow\n@flow\ndef hello(): return 1\nhello()\n"
        environment = os.environ | {"PREFECT_API_URL": f"{server.url}/api"}
        subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=120, capture_output=True)
        assert count(cluster, "prefect", "flow_run where state_type = 'COMPLETED'") == 1
    finally:
        server.stop()


def test_mlflow_keeps_its_runs_in_postgresql(cluster: int, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEXTMILL_MLFLOW_URI", f"postgresql+psycopg2://{_USER}@127.0.0.1:{cluster}/mlflow")
    current_site.cache_clear()
    server = mlflow_server(current_site(), free_port(site.host))
    try:
        server.wait_healthy("/health")
        from mlflow import MlflowClient

        client = MlflowClient(server.url)
        run = client.create_run(client.create_experiment("postgres"))
        client.log_metric(run.info.run_id, "loss", 1.0, step=3)
        assert count(cluster, "mlflow", f"metrics where run_uuid = '{run.info.run_id}'") == 1
    finally:
        server.stop()
