"""`textmill ui`: the Prefect server, MLflow's server and a worker on loopback, until Ctrl-C.

In: two ports. Out: pages that show every run on this state folder, and the deployments of prefect.yaml. Invariants: all of
it stops together and nothing is left behind; what a person did to a schedule stays.
"""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from rich.console import Console

from flows.servers import Server, announced_ui, claimed_ui, mlflow_server, prefect_server, prefect_worker, require_port
from tasks.core.errors import RecipeError, StageError
from tasks.core.site import Site, current_site, settings_environment
from tasks.core.store import process_identity

POOL = "textmill"
ZOMBIES = "textmill: runs without a heartbeat are crashed"
_PROJECT_FILE = "prefect.yaml"
_OUR_FLOWS = re.compile(r"^\s*entrypoint:\s*flows\.runs\.", re.MULTILINE)  # other projects of Prefect have such a file too
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM)
_AGAIN_S = 0.5
_LOOK_EVERY_S = 2.0
_SHORT_LIFE_S = 10.0  # a worker that ends sooner would end again
HEARTBEAT_WINDOW = timedelta(seconds=90)  # three beats of 30 s, see flows.servers.prefect_worker


def serve_ui(prefect_port: int, mlflow_port: int) -> None:
    """Starts the servers, registers the deployments, and stays until Ctrl-C or SIGTERM.

    Raises:
        RecipeError: A port is in use, or another `textmill ui` runs on this state folder.
        TransientError: A server did not start, or ended.
    """
    site = current_site()
    console = Console()
    os.environ |= settings_environment(site)  # the worker's runs start in another folder
    try:
        with claimed_ui(site), ExitStack() as stack, _interruptible(stack):
            _serve(stack, site, console, prefect_port, mlflow_port)
    except KeyboardInterrupt:
        return


def _serve(stack: ExitStack, site: Site, console: Console, prefect_port: int, mlflow_port: int) -> None:
    require_port(site.host, prefect_port, "--prefect-port")
    require_port(site.host, mlflow_port, "--mlflow-port")
    with console.status("starting the Prefect and MLflow servers"):
        prefect, mlflow = _start_servers(stack, site, prefect_port, mlflow_port)
    with console.status("registering the deployments of prefect.yaml"):
        prepare_server(prefect.url)
    worker = _start_worker(stack, site, prefect)
    state = {"prefect": prefect.url, "mlflow": mlflow.url, "process": process_identity()}
    stack.enter_context(announced_ui(site, state))
    stack.callback(console.print, "stopping", highlight=False)
    console.print(f"Prefect  [bold]{prefect.url}[/]\nMLflow   [bold]{mlflow.url}[/]\nCtrl-C stops both.", highlight=False)
    _tend(stack, site, console, prefect, mlflow, worker)


def _tend(stack: ExitStack, site: Site, console: Console, prefect: Server, mlflow: Server, worker: Server) -> None:
    """Stays until a signal; a worker that was killed is replaced, so that schedules go on."""
    since = time.monotonic()
    while True:
        time.sleep(_LOOK_EVERY_S)
        prefect.require_running()
        mlflow.require_running()
        if worker.process.poll() is not None:
            if time.monotonic() - since < _SHORT_LIFE_S:
                worker.require_running()
            console.print(f"the worker ended ({worker.process.returncode}); starting another", highlight=False)
            worker, since = _start_worker(stack, site, prefect), time.monotonic()


def _start_servers(stack: ExitStack, site: Site, prefect_port: int, mlflow_port: int) -> tuple[Server, Server]:
    prefect = _stopped_with(stack, prefect_server(site, prefect_port, temporary=False))
    mlflow = _stopped_with(stack, mlflow_server(site, mlflow_port))
    prefect.wait_healthy("/api/health")
    mlflow.wait_healthy("/health")
    return prefect, mlflow


def _start_worker(stack: ExitStack, site: Site, prefect: Server) -> Server:
    return _stopped_with(stack, prefect_worker(site, POOL, f"{prefect.url}/api"))


def _stopped_with(stack: ExitStack, server: Server) -> Server:
    stack.callback(server.stop)
    return server


@contextmanager
def _interruptible(stack: ExitStack) -> Iterator[None]:
    """Lets Ctrl-C, SIGTERM and SIGHUP end the body; the clean-up in `stack`, which follows, is not cut short by another."""

    def interrupt(*_: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, _AGAIN_S)  # lost if raised inside a callback of the interpreter: say it again
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in _STOP_SIGNALS}
    stack.callback(_set_handlers, before)
    try:
        yield
    finally:
        _set_handlers(dict.fromkeys(_STOP_SIGNALS, signal.SIG_IGN))
        signal.setitimer(signal.ITIMER_REAL, 0)


def _set_handlers(handlers: dict[signal.Signals, Any]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)


def prepare_server(prefect_url: str) -> None:
    """Makes the work pool, the deployments and the automation on a Prefect server.

    Raises:
        RecipeError: There is no prefect.yaml.
        StageError: `prefect deploy` failed.
    """
    os.environ["PREFECT_API_URL"] = f"{prefect_url}/api"
    make_pool()
    deploy_all(project_folder())
    make_automation()


def project_folder() -> Path:
    """Returns the folder of Textmill's prefect.yaml: the working folder, or the checkout this code runs from.

    Raises:
        RecipeError: Neither has one.
    """
    for folder in (Path.cwd(), Path(__file__).resolve().parents[1]):
        file = folder / _PROJECT_FILE
        if file.is_file() and _OUR_FLOWS.search(file.read_text(encoding="utf-8", errors="replace")):
            return folder
    raise RecipeError(f"no {_PROJECT_FILE} of Textmill in {Path.cwd()}: start `textmill ui` in a checkout of Textmill")


def make_pool() -> None:
    """Makes the process work pool, once."""
    from prefect import get_client
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectAlreadyExists

    with get_client(sync_client=True) as client:
        try:
            client.create_work_pool(WorkPoolCreate(name=POOL, type="process"))
        except ObjectAlreadyExists:
            return


def deploy_all(folder: Path) -> None:
    """Registers every deployment of prefect.yaml; those that are there already keep their schedules."""
    with tempfile.TemporaryDirectory() as name:
        file = Path(name, _PROJECT_FILE)
        file.write_text(_without_schedules((folder / _PROJECT_FILE).read_text(encoding="utf-8"), _deployed()), encoding="utf-8")
        command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all", "--prefect-file", str(file)]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        raise StageError(f"`prefect deploy --all` in {folder} failed:\n{(done.stdout + done.stderr)[-2_000:]}")


def _deployed() -> set[str]:
    """Returns the deployments that the server has, as `flow/deployment`."""
    from prefect import get_client

    with get_client(sync_client=True) as client:
        flows = {flow.id: flow.name for flow in client.read_flows()}
        return {f"{flows.get(deployment.flow_id)}/{deployment.name}" for deployment in client.read_deployments()}


def _without_schedules(project: str, deployed: Collection[str]) -> str:
    """Returns prefect.yaml without the schedules of what is deployed: Prefect would put them in the place of those it has."""
    import yaml

    found: dict[str, Any] = yaml.safe_load(project)
    for deployment in found["deployments"]:
        flow = deployment["entrypoint"].rsplit(".", 1)[-1]
        if f"{flow}/{deployment['name']}" in deployed:
            deployment.pop("schedules", None)
    return str(yaml.safe_dump(found))


def make_automation() -> None:
    """Sets up the automation that marks runs without a heartbeat as crashed, once."""
    from prefect.automations import Automation
    from prefect.client.schemas.objects import StateType
    from prefect.events.actions import ChangeFlowRunState
    from prefect.events.schemas.automations import EventTrigger, Posture
    from prefect.events.schemas.events import ResourceSpecification

    ended = {f"prefect.flow-run.{name}" for name in ("Completed", "Failed", "Cancelled", "Crashed", "Stopped")}
    trigger = EventTrigger(
        after={"prefect.flow-run.heartbeat"},
        expect={"prefect.flow-run.heartbeat", *ended},
        match=ResourceSpecification({"prefect.resource.id": ["prefect.flow-run.*"]}),
        for_each={"prefect.resource.id"},
        posture=Posture.Proactive,
        threshold=1,
        within=HEARTBEAT_WINDOW,
    )
    message = f"no heartbeat for {HEARTBEAT_WINDOW.seconds} s: the process is gone. Run again: finished stages are reused."
    action = ChangeFlowRunState(state=StateType.CRASHED, name="Crashed", message=message)
    if not _automation_exists(ZOMBIES):
        Automation(name=ZOMBIES, trigger=trigger, actions=[action]).create()


def _automation_exists(name: str) -> bool:
    from prefect import get_client

    with get_client(sync_client=True) as client:
        found: list[Any] = client.read_automations_by_name(name)
        return bool(found)
