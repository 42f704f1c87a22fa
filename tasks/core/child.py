"""Heavy work in a child process: its own process group, no Prefect in it, nothing left behind.

In: `module:function` and a job (a pydantic model). Out: files the function writes; lines into the log; progress and
metrics to the run. Invariants: the child dies with its parent, whatever kills that; stopping it stops its whole tree; a
child that was killed is a `TransientError`, an error it raised on purpose keeps its type.
"""

import ctypes
import importlib
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, get_type_hints

from pydantic import BaseModel

from tasks.core import errors
from tasks.core.errors import ContractError, PipelineError, StageError, TransientError
from tasks.core.launcher import killed_ranks, torchrun_command
from tasks.core.nodes import announced
from tasks.core.run import SafeLog
from tasks.core.site import Site
from tasks.core.store import no_space

if TYPE_CHECKING:
    from tasks.core.stage import StageContext

MARK = "TEXTMILL_CHILD"
EVENTS = "TEXTMILL_EVENTS"
_WARNING = "warning: "  # how lines begin that a child warns with
_EVENTS_NAME, _ERROR = "events.jsonl", "error.json"
_UNTOLD = 74  # status of a child that could not write its error; EX_IOERR
_POLL_S = 0.2
_GRACE_S = 30.0
# Huge pages for malloc: bf16 products at model shapes gain most of what they gain on CPU from this one line.
_HUGE_PAGES = (
    "glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=8589934592:"
    "glibc.malloc.trim_threshold=17179869184:glibc.malloc.top_pad=268435456"
)


def run_child(function: str, job: BaseModel, ctx: "StageContext", *, torchrun: bool = False) -> None:
    """Runs `module:function` on `job` in a child process and waits for it.

    Args:
        function: The function, e.g. `tasks.modeling.train:pretrain_main`; it takes the job and returns nothing.
        job: What it works on; crosses as JSON.
        ctx: The stage it works for; gets the child's lines, progress and metrics.
        torchrun: Start it through torchrun, as many processes as the site says, which form a process group.

    Raises:
        TransientError: The child was killed.
        PipelineError: What the child raised on purpose, with its type.
        StageError: The child failed in another way; the log has its traceback.
    """
    folder = ctx.site.root / "children"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as name:
        job_file = Path(name) / "job.json"
        job_file.write_text(job.model_dump_json(), encoding="utf-8")
        with (
            announced(ctx.site, function, job_file) if torchrun else nullcontext(),
            started(function, job_file, ctx.site, ctx.log, torchrun=torchrun, lock_fd=ctx.lock_fd) as process,
        ):
            _follow(process, job_file.with_name(_EVENTS_NAME), ctx)
        _check(process.returncode, job_file.parent, function)


def _environment(site: Site, work: Path, num_processes: int) -> dict[str, str]:
    threads = site.num_threads or max(1, (os.cpu_count() or 1) // num_processes)
    return os.environ | {
        MARK: f"{os.getpid()}-{uuid.uuid4().hex[:8]}",
        EVENTS: str(work / _EVENTS_NAME),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(threads)),
        "GLIBC_TUNABLES": os.environ.get("GLIBC_TUNABLES", _HUGE_PAGES),
        "OMP_WAIT_POLICY": "PASSIVE",  # waiting threads that spin bring a busy machine to a crawl
        "TORCHINDUCTOR_CACHE_DIR": str(site.root / "cache" / "inductor"),
        "PYTHONUNBUFFERED": "1",
        "TRANSFORMERS_VERBOSITY": "error",
    }


@contextmanager
def started(
    function: str, job_file: Path, site: Site, log: SafeLog, *, torchrun: bool, lock_fd: int | None = None
) -> Iterator[subprocess.Popen[str]]:
    """Starts `module:function` on a job; at the end nothing of it is left.

    Args:
        function: The function.
        job_file: Its job as JSON; what the processes leave for whoever waits goes beside it.
        site: How many processes and threads, and where the nodes meet.
        log: Gets every line.
        torchrun: Start it through torchrun.
        lock_fd: Lock that the processes inherit.
    """
    launcher = torchrun_command(site, job_file.parent) if torchrun else [sys.executable]
    environment = _environment(site, job_file.parent, site.num_processes if torchrun else 1)
    process = subprocess.Popen(
        [*launcher, "-m", "tasks.core.child", function, str(job_file)],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
        preexec_fn=die_with_parent,
        pass_fds=(lock_fd,) if lock_fd is not None else (),
    )
    pump = threading.Thread(target=_pump, args=(process.stdout, log), daemon=True)
    pump.start()
    try:
        yield process
    finally:
        stop(process, environment[MARK])
        pump.join(timeout=5)


def _pump(stream: IO[str] | None, log: SafeLog) -> None:
    assert stream is not None
    for line in stream:
        if line.startswith(_WARNING):
            log.warning("%s", line.removeprefix(_WARNING).rstrip())
        elif line.strip():
            log.info("%s", line.rstrip())


def _follow(process: subprocess.Popen[str], events: Path, ctx: "StageContext") -> None:
    """Hands on what the child reports until it ends."""
    offset = 0
    while True:
        ended = process.poll() is not None
        offset = _hand_on(events, offset, ctx)
        if ended:
            return
        time.sleep(_POLL_S)


def _hand_on(events: Path, offset: int, ctx: "StageContext") -> int:
    if not events.exists():
        return offset
    with events.open("rb") as file:
        file.seek(offset)
        for line in file:
            if not line.endswith(b"\n"):
                break
            offset += len(line)
            event = json.loads(line)
            if event["kind"] == "progress":
                ctx.progress(event["done"], event["total"], event["unit"], **event["figures"])
            else:
                ctx.metrics(event["step"], **event["values"])
    return offset


def _check(returncode: int, work: Path, function: str) -> None:
    if returncode == 0:
        return
    if killed := killed_ranks(work):  # what the other processes say of it is a consequence
        raise TransientError(f"{', '.join(killed)} of {function} was killed; it resumes from its last checkpoint")
    if (work / _ERROR).exists():
        error = json.loads((work / _ERROR).read_text(encoding="utf-8"))
        raise getattr(errors, error["type"])(error["message"])
    if returncode == _UNTOLD:
        raise ContractError(f"the process of {function} failed and could not write why to {work}; the end of the log says it")
    how = f"signal {-returncode}" if returncode < 0 else f"exit status {returncode}"
    raise TransientError(f"the process of {function} was killed ({how}); it resumes from its last checkpoint")


def stop(process: subprocess.Popen[Any], mark: str, grace_s: float = _GRACE_S, first: signal.Signals = signal.SIGTERM) -> None:
    """Ends a process and everything that carries its mark: by `first`, then SIGKILL after `grace_s` seconds."""
    if process.poll() is None:
        _sweep(mark, first)
        try:
            process.wait(timeout=grace_s)
        except subprocess.TimeoutExpired:
            _sweep(mark, signal.SIGKILL)
            process.wait()
    _sweep(mark, signal.SIGKILL)


def _sweep(mark: str, number: signal.Signals) -> None:
    for pid in marked_processes(mark):
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def marked_processes(mark: str) -> list[int]:
    """Returns the processes whose environment carries `mark`; torchrun puts workers into sessions of their own."""
    needle = f"{MARK}={mark}".encode()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if needle in (folder / "environ").read_bytes() and int(folder.name) != os.getpid():
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def die_with_parent() -> None:
    """Asks the kernel to kill this process when the one that started it dies."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # 1 is PR_SET_PDEATHSIG


def report(*, done: float, total: float, unit: str, **figures: float) -> None:
    """Reports from inside a child how far it is; goes nowhere outside of one."""
    _write_event({"kind": "progress", "done": done, "total": total, "unit": unit, "figures": figures})


def metrics(step: int, **values: float) -> None:
    """Reports from inside a child the figures of a step; goes nowhere outside of one."""
    _write_event({"kind": "metrics", "step": step, "values": values})


def _write_event(event: dict[str, Any]) -> None:
    if (path := os.environ.get(EVENTS)) and os.environ.get("RANK", "0") == "0":
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(json.dumps(event) + "\n")


def _main(function: str, job_file: Path) -> int:
    parent = os.getppid()
    die_with_parent()
    if os.getppid() != parent:  # the parent died before the kernel was asked
        return 1
    _log_to_stdout()
    module, name = function.split(":")
    try:
        target = getattr(importlib.import_module(module), name)
        job_type = next(iter(get_type_hints(target).values()))
        target(job_type.model_validate_json(job_file.read_bytes()))
    except BaseException as error:
        return _record(error, job_file.with_name(_ERROR))
    return 0


def _log_to_stdout() -> None:
    """Sends what the child logs to the pipe whose lines the parent writes into the run's log."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(_Marked("%(message)s"))
    log = logging.getLogger("textmill")
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False


class _Marked(logging.Formatter):
    """Lets the parent tell a warning from what is only said."""

    def format(self, record: logging.LogRecord) -> str:
        return (_WARNING if record.levelno >= logging.WARNING else "") + super().format(record)


def _record(error: BaseException, path: Path) -> int:
    """Leaves the error where the parent finds it and returns the exit status; the first process to fail is the one that tells."""
    if isinstance(error, KeyboardInterrupt | SystemExit):
        return 1
    told = _told(error, path.parent)
    try:
        if not path.exists():
            path.write_text(json.dumps({"type": type(told).__name__, "message": str(told)}), encoding="utf-8")
    except OSError:
        path.unlink(missing_ok=True)
        logging.getLogger("textmill.child").warning("%s", told)
        return _UNTOLD
    return 1


def _told(error: BaseException, work: Path) -> PipelineError:
    """Returns what the parent is to raise."""
    if isinstance(error, PipelineError):
        return error
    traceback.print_exception(error)
    return no_space(error, work) or StageError(f"{type(error).__name__}: {error} (the log has the traceback)")


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1], Path(sys.argv[2])))
