"""The servers beside a run: a Prefect server (temporary or of `textmill ui`), MLflow's page, a Prefect worker.

In: a site and ports. Out: child processes that die with the one that started them. Invariants: nothing here needs the network
or a proxy; a port in use is an error before anything starts; a run's own server is on loopback whatever the site's address is.
"""

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tasks.core.child import MARK, die_with_parent, stop
from tasks.core.errors import RecipeError, TransientError
from tasks.core.site import LOOPBACK, Site
from tasks.core.store import process_alive
from tasks.core.tracking.client import make_database

_START_S = 120.0
_STOP_S = 15.0
_TELLING = {"PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "WARNING"}  # these have a log file, and no display to disturb


@dataclass(frozen=True, slots=True)
class Server:
    """A server process and where it answers."""

    name: str
    process: subprocess.Popen[bytes]
    mark: str
    url: str
    log: Path
    stop_signal: signal.Signals = signal.SIGTERM

    def wait_healthy(self, path: str) -> None:
        """Waits until `path` answers.

        Raises:
            TransientError: The process ended, or does not answer in time; the message has the end of its log.
        """
        deadline = time.monotonic() + _START_S
        while not answers(self.url + path):
            self.require_running()
            if time.monotonic() > deadline:
                raise TransientError(f"the {self.name} does not answer after {_START_S:.0f} s; {self._last_words()}")
            time.sleep(0.1)

    def require_running(self) -> None:
        """Checks that the process still runs.

        Raises:
            TransientError: It ended; the message has the end of its log.
        """
        if (code := self.process.poll()) is not None:
            raise TransientError(f"the {self.name} ended (exit status {code}); {self._last_words()}")

    def _last_words(self) -> str:
        return f"{self.log} ends with:\n{self.log.read_text(errors='replace').strip()[-800:]}"

    def stop(self) -> None:
        """Stops the process and what it started."""
        stop(self.process, self.mark, _STOP_S, self.stop_signal)


_own: dict[str, Server] = {}  # the temporary server of this process's run, by the address of its API


def answers(url: str) -> bool:
    """Says whether a GET on `url` gives 200."""
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def free_port(host: str) -> int:
    """Returns a port nobody listens on."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def require_port(host: str, port: int, option: str) -> None:
    """Checks that a port is free.

    Raises:
        RecipeError: Somebody listens on it; names the option that chooses another.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise RecipeError(f"port {port} on {host} is in use ({error.strerror}); choose another with {option}") from None


def spawn(site: Site, name: str, command: Sequence[str], url: str, environment: dict[str, str] | None = None) -> Server:
    """Starts a server process that dies with this one; its output goes to `<state>/logs/<name>.log`."""
    log = site.root / "logs" / f"{name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    mark = f"{os.getpid()}-{uuid.uuid4().hex[:8]}"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            env=os.environ | (environment or {}) | {MARK: mark},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=die_with_parent,
        )
    return Server(name, process, mark, url, log)


def prefect_server(site: Site, port: int, *, temporary: bool) -> Server:
    """Starts a Prefect server; a temporary one has no pages, no background services, and does not heed SIGTERM.

    It is on loopback: who sets an address for what is served does not mean it, and it asks for no log-in.
    """
    host = LOOPBACK if temporary else site.host
    url = f"http://{host}:{port}"
    quiet = {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"}
    pages = {"PREFECT_SERVER_UI_API_URL": f"{url}/api", "PREFECT_UI_URL": url, "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "false"}
    factory = "flows.servers:create_temporary_app" if temporary else "flows.pages:create_app"
    command = [sys.executable, "-m", "uvicorn", "--factory", factory]
    command += ["--host", host, "--port", str(port), "--log-level", "warning", "--lifespan", "on"]
    name = f"prefect-temporary-{uuid.uuid4().hex[:8]}" if temporary else "prefect-server"  # each run has one of its own
    server = spawn(site, name, command, url, _TELLING | (quiet if temporary else pages))
    return replace(server, stop_signal=signal.SIGINT) if temporary else server


def create_temporary_app() -> Any:
    """Returns the server of one run; uvicorn's factory.

    SIGTERM for every process at once (a stopped service, a requeued batch job) would take the server from a run that ends, and
    Prefect asks one that is gone for more than a minute; it dies with its run in any case.
    """
    from prefect.server.api.server import create_app

    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    return create_app()


def mlflow_server(site: Site, port: int) -> Server:
    """Starts MLflow's server over the site's tracking store."""
    make_database(site)
    command = [sys.executable, "-m", "mlflow", "server", "--host", site.host, "--port", str(port), "--workers", "1"]
    command += ["--artifacts-destination", str(site.root / "mlartifacts")]
    store = {"MLFLOW_BACKEND_STORE_URI": site.tracking_uri}  # may hold a password, and anybody reads a process's arguments
    light = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "PYTHONWARNINGS": "ignore:starlette.middleware.wsgi is deprecated"}
    return spawn(site, "mlflow-server", command, f"http://{site.host}:{port}", store | light)


def prefect_worker(site: Site, pool: str, api_url: str) -> Server:
    """Starts a process worker on a pool."""
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", pool, "--type", "process", "--limit", "2"]
    beat = {"PREFECT_API_URL": api_url, "PREFECT_WORKER_QUERY_SECONDS": "2", "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30"}
    return spawn(site, "prefect-worker", command, api_url, beat | _TELLING)


def _ui_file(site: Site) -> Path:
    return site.root / "ui.json"


def running_ui(site: Site) -> dict[str, Any] | None:
    """Returns the addresses of the `textmill ui` that runs on this state folder, if one does."""
    try:
        state: dict[str, Any] = json.loads(_ui_file(site).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return state if process_alive(state["process"]) and answers(f"{state['prefect']}/api/health") else None


@contextmanager
def claimed_ui(site: Site) -> Iterator[None]:
    """Lets one `textmill ui` at a time run on a state folder; the kernel frees the claim when its process dies.

    Raises:
        RecipeError: Another one runs.
    """
    site.root.mkdir(parents=True, exist_ok=True)
    with (site.root / "ui.lock").open("a") as claim:
        try:
            fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            other = running_ui(site)
            where = f"{other['prefect']} (process {other['process']['pid']})" if other else "it is starting or stopping"
            raise RecipeError(f"`textmill ui` runs already on {site.root}: {where}") from None
        yield


@contextmanager
def announced_ui(site: Site, state: dict[str, Any]) -> Iterator[None]:
    """Lets runs find the servers of `textmill ui` while it runs."""
    path = _ui_file(site)
    path.write_text(json.dumps(state), encoding="utf-8")
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


@contextmanager
def prefect_api(site: Site) -> Iterator[str]:
    """Makes a Prefect API available: the one set, that of the running `textmill ui`, else a temporary one."""
    found = site.prefect_api_url or os.environ.get("PREFECT_API_URL")
    if found is None and (ui := running_ui(site)) is not None:
        found = f"{ui['prefect']}/api"
        os.environ["PREFECT_UI_URL"] = str(ui["prefect"])
    if found is not None:
        os.environ["PREFECT_API_URL"] = found
        yield found
        return
    server = prefect_server(site, free_port(LOOPBACK), temporary=True)
    api_url = os.environ["PREFECT_API_URL"] = f"{server.url}/api"
    _own[api_url] = server
    try:
        yield api_url
    finally:
        _flush_logs()
        server.stop()
        del os.environ["PREFECT_API_URL"], _own[api_url]
    server.log.unlink(missing_ok=True)  # that of a run that failed is kept


def wait_for_prefect(api_url: str) -> None:
    """Waits until a Prefect API answers.

    Raises:
        TransientError: It does not in time, or it is this run's own and has ended.
    """
    deadline, own = time.monotonic() + _START_S, _own.get(api_url)
    while not answers(f"{api_url.rstrip('/')}/health"):
        if own is not None:
            own.require_running()
        if time.monotonic() > deadline:
            raise TransientError(f"the Prefect server at {api_url} does not answer after {_START_S:.0f} s; is it running?")
        time.sleep(0.05)


def _flush_logs() -> None:
    """Sends what Prefect still holds before its server goes."""
    if "prefect" in sys.modules:
        from prefect.logging.handlers import APILogHandler

        APILogHandler().flush()
