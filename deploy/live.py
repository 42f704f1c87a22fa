"""The server people talk to: found by a model's name, kept in the foreground or left behind, followed when `live` moves.

In: NAME, NAME@alias, NAME:version or a model folder. Out: an address, or answers. Invariants: what `<state>/serving/NAME.json`
says is checked before it is believed; a server started here is stopped by whoever started it, on every way out.
"""

import json
import logging
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy import scoring
from deploy.serve import START_LIMIT_S, Server, ask_at, free_port, healthy, served
from tasks.core.errors import RecipeError, StageError, TransientError
from tasks.core.signals import ended_by_sigterm
from tasks.core.site import Site, current_site
from tasks.core.store import process_alive, process_identity, write_durably
from tasks.core.tracking import RegisteredVersion, aliases, find_version, served_folder
from tasks.core.tracking.spool import delivery_environment

Notify = Callable[[str], None]
Ask = Callable[[str, int], str]

_LOOK_S = 5.0
_MAX_UNHEALTHY_LOOKS = 6
_POLL_S = 0.2
_BETWEEN = "|||"  # two texts of a pair, in one line of a talk
_NAME = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)(?:@(?P<alias>[\w.-]+)|:(?P<version>\d+))?")


@dataclass(frozen=True, slots=True)
class Target:
    """What is to be served."""

    folder: Path
    version: RegisteredVersion | None = None

    @property
    def name(self) -> str:
        """What clients call it."""
        return self.version.name if self.version else self.folder.name

    def __str__(self) -> str:
        return str(self.version or self.folder)


def resolve(site: Site, model: str) -> Target:
    """Finds what a person means by a model.

    Args:
        site: Where the registry is.
        model: NAME (live, else champion, else candidate), NAME@alias, NAME:version, or a model folder.

    Raises:
        RecipeError: There is no such model.
    """
    if Path(model).is_dir():
        return Target(Path(model).resolve())
    if (match := _NAME.fullmatch(model)) is None:
        raise RecipeError(f"{model!r} is neither a folder nor NAME, NAME@alias or NAME:version")
    name, known = match["name"], aliases(site, match["name"])
    wanted = (match["alias"],) if match["alias"] else ("live", "champion", "candidate")
    number = int(match["version"]) if match["version"] else next((known[alias] for alias in wanted if alias in known), None)
    version = find_version(site, name, number) if number is not None else None
    if version is None:
        has = ", ".join(f"{alias} -> {number}" for alias, number in sorted(known.items())) or "no version"
        raise RecipeError(f"the registry has no {model} ({name} has {has}); `textmill run` makes and registers a model")
    return Target(served_folder(site, version), version)


def serve_foreground(site: Site, model: str, notify: Notify = lambda text: None) -> None:
    """Serves a model until Ctrl-C or SIGTERM; goes over to the new version when its alias moves, and starts anew what got sick.

    Raises:
        RecipeError: There is no such model, or the port is in use.
        StageError: The server ended by itself.
    """
    port = site.serve_port or free_port(site.host)
    with suppress(KeyboardInterrupt), ended_by_sigterm():
        while True:
            target = resolve(site, model)
            notify(f"starting {target} ...")
            with served(target.folder, site, name=target.name, port=port) as server, _announced(site, model, target, server):
                notify(f"{target} answers at {_entry(server, target.folder)}; Ctrl-C ends it")
                _wait_until_moved(site, model, target, server, notify)


def _entry(server: Server, folder: Path) -> str:
    """Says where a server is asked, and what a question looks like."""
    if server.engine != scoring.ENGINE:
        return f"{server.url}/v1 (model name {server.model})"
    asked = scoring.trial_questions(folder)[0]["record"] if server.labels else {"prompt": ""}
    record = {column: ["..."] if isinstance(value, list) else "..." for column, value in asked.items()}
    return f"{server.url}/invocations (POST {json.dumps({'dataframe_records': [record]})})"


def _column(server: Server, folder: Path) -> str | None:
    """Returns the last column that a model which labels reads, `text`, `text_pair` or `words`; none of one that answers."""
    return list(scoring.trial_questions(folder)[0]["record"])[-1] if server.labels else None


def _wait_until_moved(site: Site, model: str, target: Target, server: Server, notify: Notify) -> None:
    """Returns when another version is meant, or the server runs and serves no more."""
    num_unhealthy = 0
    while num_unhealthy < _MAX_UNHEALTHY_LOOKS:
        next_look_s = time.monotonic() + _LOOK_S
        while time.monotonic() < next_look_s:
            if not server.running():
                raise StageError(f"the model server ended by itself; see {server.log}")
            time.sleep(_POLL_S)
        num_unhealthy = 0 if healthy(server.url) else num_unhealthy + 1
        try:
            if _number(resolve(site, model)) != _number(target):
                return
        except (TransientError, RecipeError):
            continue  # a registry that does not answer is no reason to stop answering
    notify(f"{target} was not healthy {num_unhealthy} times in a row; see {server.log}")


def _number(target: Target) -> int | None:
    return target.version.version if target.version else None


def record_file(site: Site, model: str) -> Path:
    """Returns where the address of a model's server is noted."""
    return site.root / "serving" / f"{model.replace(os.sep, '_')}.json"


@contextmanager
def _announced(site: Site, model: str, target: Target, server: Server) -> Iterator[None]:
    path = record_file(site, model)
    path.parent.mkdir(parents=True, exist_ok=True)
    record = {
        "url": server.url,
        "model": server.model,
        "engine": server.engine,
        "labels": server.labels,
        "column": _column(server, target.folder),
        "version": _number(target),
        "process": process_identity(),
    }
    write_durably(path, json.dumps(record))
    try:
        yield
    finally:
        if _noted(site, model) == record:  # a second server of the model may have put its own there
            path.unlink(missing_ok=True)


def live_record(site: Site, model: str) -> dict[str, Any] | None:
    """Returns the note of a server that really runs and answers."""
    record = _running_record(site, model)
    return record if record is not None and healthy(record["url"]) else None


def _running_record(site: Site, model: str) -> dict[str, Any] | None:
    record = _noted(site, model)
    return record if record is not None and process_alive(record["process"]) else None


def _noted(site: Site, model: str) -> dict[str, Any] | None:
    try:
        record: dict[str, Any] = json.loads(record_file(site, model).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return record


def start_detached(site: Site, model: str) -> str:
    """Leaves a server behind that outlives this process, and returns its address.

    Raises:
        StageError: It did not start; the message ends with what it said.
    """
    if (record := live_record(site, model)) is not None:
        return str(record["url"])
    log = site.root / "logs" / f"{record_file(site, model).stem}.serving.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = delivery_environment(site) | {"TEXTMILL_SERVE_PORT": str(site.serve_port), "TEXTMILL_ENGINE": site.engine}
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "deploy.live", model],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    deadline = time.monotonic() + START_LIMIT_S
    while (record := live_record(site, model)) is None:
        if process.poll() is not None or time.monotonic() > deadline:
            process.terminate()
            raise StageError(f"{model} is not served; its server said:\n{log.read_text(errors='replace')[-2_000:]}")
        time.sleep(_POLL_S)
    return str(record["url"])


def stop_detached(site: Site, model: str, wait_s: float = 30.0) -> bool:
    """Stops the server of a model, if one runs, healthy or not, and says whether one did.

    Raises:
        StageError: It did not end in time.
    """
    record = _running_record(site, model)
    if record is None:
        return False
    pid = int(record["process"]["pid"])
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + wait_s
    while process_alive(record["process"]):  # it takes its note away first, and its engine after that
        if time.monotonic() > deadline:
            raise StageError(f"the server of {model} did not end within {wait_s:.0f} s of SIGTERM; end it by `kill -9 {pid}`")
        time.sleep(_POLL_S)
    return True


@contextmanager
def open_chat(site: Site, model: str, notify: Notify = lambda text: None) -> Iterator[Ask]:
    """Yields a function that answers within one conversation, by the running server or one of its own.

    Args:
        site: Where the registry is.
        model: As for `resolve`.
        notify: Told where the conversation outgrew the model's context.

    Raises:
        RecipeError: There is no such model.
    """
    record = live_record(site, model)
    if record is not None:
        column = record.get("column", "text" if record["labels"] else None)  # an earlier release noted none
        yield _asking(record["url"], record["model"], record["engine"], column, notify)
        return
    target = resolve(site, model)
    with served(target.folder, site, name=target.name) as server:
        yield _asking(server.url, server.model, server.engine, _column(server, target.folder), notify)


def _asking(url: str, model: str, engine: str, column: str | None, notify: Notify = lambda text: None) -> Ask:
    """Returns the way to ask a server: within one conversation, or one text after the other for its labels."""
    if column is not None:
        return _labelling(url, column)
    if engine == scoring.ENGINE:
        return _conversation(lambda messages, max_tokens: scoring.answer_at(url, messages, max_tokens), notify)
    return _conversation(lambda messages, max_tokens: ask_at(url, model, messages, max_tokens), notify)


def _labelling(url: str, column: str) -> Ask:
    def ask(text: str, max_tokens: int) -> str:
        return json.dumps(scoring.label_at(url, [_record(column, text)])[0], ensure_ascii=False)

    return ask


def _record(column: str, text: str) -> dict[str, Any]:
    """Returns what a line of text is to a model whose last column is `column`.

    Raises:
        RecipeError: The model reads two texts, and the line is not two.
    """
    if column != "text_pair":
        return {column: text.split() if column == "words" else text}
    first, sign, second = (part.strip() for part in text.partition(_BETWEEN))
    if not (first and sign and second):
        raise RecipeError(f"this model compares two texts: write FIRST {_BETWEEN} SECOND")
    return {"text": first, column: second}


def _conversation(answer_to: Callable[[list[dict[str, str]], int], str], notify: Notify) -> Ask:
    messages: list[dict[str, str]] = []
    has_told = False

    def ask(prompt: str, max_tokens: int) -> str:
        nonlocal has_told
        turn = {"role": "user", "content": prompt}
        num_left_out, answer = _fitting_answer([*messages, turn], lambda told: answer_to(told, max_tokens))
        if num_left_out and not has_told:
            notify("(the talk is longer than the model reads: its oldest turns are left out from here on)")
            has_told = True
        del messages[:num_left_out]
        messages.extend((turn, {"role": "assistant", "content": answer}))
        return answer

    return ask


def _fitting_answer(messages: list[dict[str, str]], answer_to: Callable[[list[dict[str, str]]], str]) -> tuple[int, str]:
    """Returns how many of the first messages were left out, oldest question and answer first, until the server took the rest.

    Raises:
        StageError: It refuses the last question alone too.
    """
    for num_left_out in range(0, len(messages), 2):
        try:
            return num_left_out, answer_to(messages[num_left_out:])
        except StageError as error:
            refused = error
    raise refused


if __name__ == "__main__":
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(message)s")
    serve_foreground(current_site(), sys.argv[1], logging.getLogger("textmill.serve").info)
