"""The reading end of the tracker: sends a spool to MLflow, exactly once, whatever dies in between.

In: a spool. Out: an MLflow run with batched metrics and a true status. Invariants: how far delivery got is kept on disk;
what may have been sent before a kill is looked up, so no step is there twice and no run is made twice; a run whose process
is gone without a word ends as KILLED; MLflow being down only means trying again.
"""

import json
import logging
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import filelock
import psutil

from tasks.core.site import Site
from tasks.core.store import process_alive, write_durably
from tasks.core.tracking.client import experiment_id, is_missing, is_refusal, mlflow_client, shown
from tasks.core.tracking.send import Sender
from tasks.core.tracking.spool import Spool, spool_dir

_POLL_S = 0.3
_MAX_BACKOFF_S = 15.0
_ORPHAN_LIMIT_S = 120.0
_PENDING_LIMIT_S = 60.0
_MAX_LINES = 2_000
_log = logging.getLogger("textmill.tracking")


class Delivery:
    """Delivery of one spool, from where it last got to."""

    def __init__(self, spool: Spool, site: Site) -> None:
        self.spool, self.site = spool, site
        self.offset = _read_offset(spool)
        self.sender: Sender | None = None
        self.ended = False

    def step(self) -> bool:
        """Sends what is new.

        Returns:
            Whether anything was.
        """
        events, end = _read_events(self.spool.path, self.offset)
        for group in _groups(events):
            self._send(group)
        if end == self.offset:
            return False
        self.offset = end
        write_durably(self.spool.state, json.dumps({"offset": end}))
        return True

    def finish(self) -> None:
        """Removes the spool of a run that MLflow knows to have ended."""
        self.spool.path.unlink()
        self.spool.state.unlink(missing_ok=True)
        if self.spool.log.exists() and self.spool.log.stat().st_size == 0:
            self.spool.log.unlink()

    def _send(self, events: list[dict[str, Any]]) -> None:
        if events[0]["kind"] == "start":
            self.sender = Sender.start(self.site, events[0])
            write_durably(self.spool.run_id, json.dumps(self.sender.ids))
            return
        if self.sender is None:
            self.sender = Sender.resume(self.site, json.loads(self.spool.run_id.read_text(encoding="utf-8")))
        try:
            self.sender.send(events)
        except Exception as error:
            if not _hopeless(error):
                raise
            _log.warning("left out of the MLflow run: %s (%s)", events[0]["kind"], _described(error))
        self.ended = self.ended or events[0]["kind"] == "end"


def follow(spool: Spool, site: Site) -> bool:
    """Delivers a spool while its run writes it, until the run has ended; also what earlier runs left behind.

    Returns:
        Whether everything was delivered.
    """
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(asctime)s %(message)s")
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    with filelock.UnixFileLock(spool.lock):
        delivered = _follow(spool, site, stop)
    if delivered:
        spool.lock.unlink(missing_ok=True)
    return delivered


def _follow(spool: Spool, site: Site, stop: threading.Event) -> bool:
    delivery, process = Delivery(spool, site), _first_event(spool)["process"]
    backoff_s, pending_seen, orphaned_s = _POLL_S, False, None
    while not stop.is_set():
        try:
            moved = delivery.step()
            backoff_s = _POLL_S
            if delivery.ended:
                delivery.finish()
                _forget_orphan(spool, process)
                return True
            if not pending_seen:
                pending_seen = True
                deliver_pending(site, stop=stop)
        except Exception as error:
            moved, backoff_s = False, min(2 * backoff_s, _MAX_BACKOFF_S)
            _log.warning("MLflow did not take an event, trying again in %.1f s: %s", backoff_s, _described(error))
        if not moved and not is_running(process):
            orphaned_s = orphaned_s or time.monotonic()
            _mark_killed(spool)
            if time.monotonic() - orphaned_s > _ORPHAN_LIMIT_S:
                return False
        stop.wait(0 if moved else backoff_s)
    return False


def _forget_orphan(spool: Spool, process: dict[str, Any]) -> None:
    if not is_running(process):
        spool.run_id.unlink(missing_ok=True)


def deliver_pending(site: Site, limit_s: float = _PENDING_LIMIT_S, stop: threading.Event | None = None) -> tuple[int, int]:
    """Delivers the spools of runs that have ended or whose process is gone.

    Args:
        site: Whose spools.
        limit_s: Seconds it may take.
        stop: Ends it early when set.

    Returns:
        Spools delivered, and spools left because MLflow did not answer.
    """
    deadline, delivered, left = time.monotonic() + limit_s, 0, 0
    for path in sorted(spool_dir(site).glob("*.jsonl")):
        if time.monotonic() > deadline or (stop is not None and stop.is_set()):
            break
        outcome = _deliver_ended(Spool(path), site)
        delivered, left = delivered + (outcome is True), left + (outcome is False)
        if outcome is False:
            break  # MLflow is down: the others would wait as long
    return delivered, left


def _deliver_ended(spool: Spool, site: Site) -> bool | None:
    """Returns whether the spool was delivered, None where its run goes on or another process delivers it."""
    try:
        with filelock.UnixFileLock(spool.lock, timeout=0):
            process = _first_event(spool)["process"]
            if not _has_ended(spool):
                if is_running(process) is not False:
                    return None
                _mark_killed(spool)
            delivery = Delivery(spool, site)
            while delivery.step():
                pass
            delivery.finish()
            spool.run_id.unlink(missing_ok=True)
    except filelock.Timeout:
        return None
    except (OSError, ValueError, KeyError) as error:
        _log.warning("%s is no spool that can be delivered: %s", spool.path, error)
        return None
    except Exception as error:
        _log.warning("MLflow did not take %s: %s", spool.path.name, shown(str(error)))
        return False
    spool.lock.unlink(missing_ok=True)
    return True


def reap(site: Site) -> list[str]:
    """Ends MLflow runs that are RUNNING while their process on this machine is gone, as KILLED.

    Returns:
        The ids of the runs it ended.
    """
    deliver_pending(site)
    client = mlflow_client(site)
    ended = []
    for run in client.search_runs([experiment_id(site)], "attributes.status = 'RUNNING'", max_results=1_000):
        tags = run.data.tags
        if "textmill.pid" in tags and is_running(_identity(tags)) is False:
            client.set_terminated(run.info.run_id, "KILLED")
            ended.append(run.info.run_id)
    return ended


def _identity(tags: dict[str, str]) -> dict[str, Any]:
    ticks = tags.get("textmill.start_ticks", "")
    return {
        "host": tags.get("textmill.host", ""),
        "boot_id": tags.get("textmill.boot_id", ""),
        "pid": int(tags["textmill.pid"]),
        "start_ticks": float(ticks) if ticks else None,
    }


def is_running(process: dict[str, Any]) -> bool | None:
    """Whether a process of a run still works; a zombie does not. None where it is another machine's."""
    alive = process_alive(process)
    if not alive:
        return alive
    try:
        return bool(psutil.Process(int(process["pid"])).status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def _read_offset(spool: Spool) -> int:
    try:
        return int(json.loads(spool.state.read_text(encoding="utf-8"))["offset"])
    except FileNotFoundError:
        return 0


def _first_event(spool: Spool) -> dict[str, Any]:
    with spool.path.open("rb") as file:
        event: dict[str, Any] = json.loads(file.readline())
    return event


def _has_ended(spool: Spool) -> bool:
    lines = spool.path.read_bytes().splitlines()
    try:
        return bool(json.loads(lines[-1])["kind"] == "end")
    except ValueError:
        return False


def _mark_killed(spool: Spool) -> None:
    """Writes the end that a dead process could not write; its last line may be cut."""
    if _has_ended(spool):
        return
    end = {"kind": "end", "status": "KILLED", "time_ms": int(time.time() * 1000)}
    with spool.path.open("ab") as file:
        file.write(b"\n" + json.dumps(end).encode() + b"\n")


def _read_events(path: Path, offset: int) -> tuple[list[dict[str, Any]], int]:
    """Returns the whole lines after `offset` and where they end; a line cut by a kill is passed over."""
    events = []
    with path.open("rb") as file:
        file.seek(offset)
        for _ in range(_MAX_LINES):
            line = file.readline()
            if not line.endswith(b"\n"):
                break
            offset += len(line)
            if (event := _parsed(line)) is not None:
                events.append(event)
    return events, offset


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and "kind" in event else None


def _groups(events: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Yields runs of metrics together, so that they go in batches, and every other event alone."""
    metrics: list[dict[str, Any]] = []
    for event in events:
        if event["kind"] == "metrics":
            metrics.append(event)
            continue
        if metrics:
            yield metrics
            metrics = []
        yield [event]
    if metrics:
        yield metrics


def _described(error: Exception) -> str:
    return f"{type(error).__name__}: {shown(str(error))}"


def _hopeless(error: Exception) -> bool:
    """Whether sending the same again cannot help: MLflow refused it, or its file is gone."""
    return is_refusal(error) or is_missing(error) or isinstance(error, FileNotFoundError | TypeError | ValueError | KeyError)
