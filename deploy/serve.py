"""A model folder behind a server, for as long as it is wanted and no longer: OpenAI-compatible, or MLflow's where that is not.

In: a `transformers` folder and the site (engine, device, address). Out: an address that answers. Invariants: the server is
healthy before it is handed over; it stops surely (SIGTERM, then SIGKILL, by its mark) and dies with the process that wanted it;
it never reaches for the network; without a given port it is on loopback; beside its own link it removes links only.
"""

import json
import math
import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy import scoring
from tasks.core.child import MARK, die_with_parent, stop
from tasks.core.errors import ContractError, RecipeError, StageError, TransientError
from tasks.core.site import LOOPBACK, Site
from tasks.core.text import text_safe
from tasks.modeling.architecture import says_labels

START_LIMIT_S = 180.0
_POLL_S = 0.1
_STOP_GRACE_S = 10.0
# Pages of 256 tokens in the key-value cache. Left to itself, the engine takes 90% of the machine's free memory for it.
_PAGE_TOKENS = 256
_FULL_CONTEXTS = 8
_MIN_PAGES, _MAX_PAGES = 16, 512
_BATCH_TOKENS = 512


@dataclass(frozen=True, slots=True)
class Server:
    """A server that answers.

    Attributes:
        url: Its address, without the `/v1` or `/invocations`.
        model: What it calls the model.
        engine: Program that serves it; `mlflow` where only MLflow's scoring server serves it.
        labels: Whether it labels text instead of answering.
    """

    url: str
    model: str
    engine: str
    labels: bool
    process: "subprocess.Popen[bytes]"
    log: Path

    def running(self) -> bool:
        """Whether its process is there."""
        return self.process.poll() is None


@contextmanager
def served(
    folder: Path,
    site: Site,
    *,
    name: str | None = None,
    port: int | None = None,
    progress: Callable[[float, float], None] | None = None,
) -> Iterator[Server]:
    """Serves a model folder inside the context.

    Args:
        folder: A `transformers` folder, or that of a registered version's adapter.
        site: Engine, device and address.
        name: What clients call the model; none: the folder's name.
        port: Port to bind on the site's address; none: any free one on loopback.
        progress: Told the seconds waited and the most that will be waited.

    Raises:
        ContractError: The folder holds no model, or the port's own folder is a link.
        RecipeError: The port is in use.
        TransientError: The server did not get healthy in time.
        StageError: It ended by itself or does not answer; the message says what it said.
    """
    if not (folder / "config.json").exists() and not scoring.is_adapter(folder):
        raise ContractError(
            f"{folder} is no model folder: it has no config.json; give a registered name or a transformers folder"
        )
    if port is None:
        site = site.model_copy(update={"host": LOOPBACK})
        port = free_port(site.host)
    else:
        check_port(site.host, port)
    folder = folder.resolve()
    server, mark = _start(folder, site, name or folder.name, port)
    try:
        _await_health(server, progress or (lambda done, total: None))
        if server.engine != scoring.ENGINE:
            # With continuous batching the sampling settings of the first request hold for good: it is ours, and greedy.
            ask(server, [{"role": "user", "content": "hello"}], max_tokens=1)
        yield server
    finally:
        stop(server.process, mark, _STOP_GRACE_S)


def _start(folder: Path, site: Site, name: str, port: int) -> tuple[Server, str]:
    labels = says_labels(folder)
    by_mlflow = scoring.needs_scoring_server(folder)
    place = _named(folder, site, name, port)
    command = scoring.scoring_command(folder, site, port) if by_mlflow else engine_command(place, site, port)
    engine, own = (scoring.ENGINE, scoring.scoring_environment(site)) if by_mlflow else (site.engine, {})
    mark = f"{os.getpid()}-{uuid.uuid4().hex[:8]}"
    log = site.root / "logs" / f"serve-{port}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as out:
        process = subprocess.Popen(
            command,
            cwd=place.parent,
            env=_environment(site) | own | {MARK: mark},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=die_with_parent,
        )
    return Server(f"http://{site.host}:{port}", place.name, engine, labels, process, log), mark


def _named(folder: Path, site: Site, name: str, port: int) -> Path:
    """Returns a link of that name to the folder: the engine calls a model what its path says, and @ would start a revision."""
    link = site.root / "serving" / str(port) / name.replace("@", "_")
    if link.parent.is_symlink():
        raise ContractError(f"{link.parent} is a link to {link.parent.resolve()}, whose files stay as they are: remove the link")
    link.parent.mkdir(parents=True, exist_ok=True)
    for old in link.parent.iterdir():
        if old.is_symlink():
            old.unlink()
    link.symlink_to(folder, target_is_directory=True)
    return link


def _environment(site: Site) -> dict[str, str]:
    hub = site.root / "cache" / "hub"
    hub.mkdir(parents=True, exist_ok=True)  # `/v1/models` answers 500 where the folder is missing
    threads = {"OMP_NUM_THREADS": str(site.num_threads)} if site.num_threads else {}
    return (
        os.environ
        | threads
        | {
            "HF_HUB_CACHE": str(hub),
            "HF_HUB_OFFLINE": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "DO_NOT_TRACK": "1",
            "VLLM_NO_USAGE_STATS": "1",
            "PYTHONUNBUFFERED": "1",
        }
    )


def engine_command(folder: Path, site: Site, port: int) -> list[str]:
    """Returns the command line of the site's engine, to be run beside the folder, whose name becomes the model's."""
    if site.engine == "vllm":
        command = ["vllm", "serve", str(folder), "--served-model-name", folder.name, "--seed", "0"]
        return [*command, "--host", site.host, "--port", str(port)]
    # `-P`: the working folder holds a link of the model's name, which may be that of a package.
    command = [sys.executable, "-P", "-m", "deploy.engine", "serve", "--continuous-batching"]
    if site.resolved_device == "cpu":
        command += ["--cb-num-blocks", str(_cache_pages(folder)), "--cb-max-batch-tokens", str(_BATCH_TOKENS)]
    return [*command, "--device", site.resolved_device, "--host", site.host, "--port", str(port), folder.name]


def _cache_pages(folder: Path) -> int:
    """Returns pages for a few requests of full length at once."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    context_tokens = int(config.get("max_position_embeddings") or 2_048)
    return min(_MAX_PAGES, max(_MIN_PAGES, _FULL_CONTEXTS * math.ceil(context_tokens / _PAGE_TOKENS)))


def free_port(host: str) -> int:
    """Returns a port nobody listens on."""
    with socket.create_server((host, 0)) as listener:
        return int(listener.getsockname()[1])


def check_port(host: str, port: int) -> None:
    """Raises RecipeError where a port is taken."""
    try:
        with socket.create_server((host, port)):
            return
    except OSError as error:
        raise RecipeError(
            f"cannot serve on {host}:{port}: {error.strerror}. Stop what listens there, or choose another port "
            "(--port, serve_port in textmill.toml or TEXTMILL_SERVE_PORT; 0 takes any free one)."
        ) from None


def _await_health(server: Server, progress: Callable[[float, float], None]) -> None:
    start = time.monotonic()
    while not healthy(server.url):
        waited_s = time.monotonic() - start
        if not server.running():
            raise _ended(server)
        if waited_s > START_LIMIT_S:
            raise TransientError(f"the model server did not answer within {START_LIMIT_S:.0f} s; it said:\n{_tail(server.log)}")
        progress(waited_s, START_LIMIT_S)
        time.sleep(_POLL_S)
    if not server.running():  # something else took the port and answers there
        raise _ended(server)


def _ended(server: Server) -> StageError | TransientError:
    code = server.process.poll()
    if code is not None and code < 0:
        return TransientError(f"the model server was killed (signal {-code}) while it started")
    return StageError(f"the model server ended with exit status {code}; it said:\n{_tail(server.log)}")


def _tail(log: Path) -> str:
    return text_safe(log.read_text(encoding="utf-8", errors="replace")[-2_000:])


def healthy(url: str) -> bool:
    """Whether a server of this machine answers at this address; a proxy is not asked."""
    import httpx

    try:
        return bool(httpx.get(f"{url}/health", timeout=5.0, trust_env=False).status_code == 200)
    except httpx.HTTPError:
        return False


def ask(server: Server, messages: list[dict[str, str]], max_tokens: int) -> str:
    """Returns the greedy answer of a server to a conversation; see `ask_at`."""
    if server.engine == scoring.ENGINE:
        return scoring.answer_at(server.url, messages, max_tokens)
    return ask_at(server.url, server.model, messages, max_tokens)


def ask_at(url: str, model: str, messages: list[dict[str, str]], max_tokens: int) -> str:
    """Returns the greedy answer of the server at `url`.

    Args:
        url: Address of the server, without the `/v1`.
        model: What it calls the model.
        messages: Turns of the conversation, each with `role` and `content`.
        max_tokens: Longest answer in tokens.

    Raises:
        TransientError: It does not answer.
        StageError: It answers with an error.
    """
    import httpx

    body: dict[str, Any] = {"model": model, "messages": messages, "max_tokens": max_tokens, "temperature": 0}
    try:
        response = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=scoring.ANSWER_LIMIT_S, trust_env=False)
        response.raise_for_status()
        return str(response.json()["choices"][0]["message"]["content"])
    except httpx.HTTPStatusError as error:
        raise StageError(f"the model server at {url} refused: {text_safe(error.response.text, 500)}") from error
    except (httpx.HTTPError, KeyError, ValueError) as error:
        raise TransientError(f"the model server at {url} gave no answer: {type(error).__name__}: {error}") from error
