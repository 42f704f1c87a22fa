"""Pieces of work in a few processes, or with the site's engine: any order of execution, one order of results.

In: a top-level function and one job a piece. Out: nothing; each piece leaves its own files. Invariants: a worker dies with
the process that started it; a worker that is killed is a `TransientError`; with one worker no process is started.
"""

import ctypes
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TypeVar

from tasks.core.errors import RecipeError, TransientError
from tasks.core.site import Site

J = TypeVar("J")

_engine: ContextVar[tuple[Site, Path] | None] = ContextVar("engine", default=None)
_WORTH_BYTES = 20_000_000  # of text; a process takes as long to start as light work on some of it


def workers_for(num_bytes: int, workers: int, worth_bytes: int = _WORTH_BYTES) -> int:
    """Returns how many processes work on so much text is worth: one or, from `worth_bytes` on, all."""
    return workers if num_bytes >= worth_bytes else 1


def refuse_while_a_worker_starts() -> None:
    """Raises RecipeError where a worker process, which first imports the script it belongs to, is about to build by that.

    It would wait for a lock that is held by whoever waits for it.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise RecipeError('a script that builds stages needs `if __name__ == "__main__":` before them: workers import it')


@contextmanager
def jobs_on(site: Site, folder: Path) -> Iterator[None]:
    """Gives the pieces of a stage to the site's engine, which keeps its logs in `folder` while they run."""
    token = _engine.set(None if site.data_engine == "local" else (site, folder))
    try:
        yield
    finally:
        _engine.reset(token)


def run_jobs(function: Callable[[J], None], jobs: Sequence[J], workers: int) -> Iterator[int]:
    """Runs `function` on each job and yields how many are done after each one.

    Raises:
        TransientError: A worker was killed.
    """
    if jobs and (engine := _engine.get()) is not None:
        from tasks.core.engines import spread

        spread(function, jobs, *engine)
        yield len(jobs)
        return
    if workers <= 1 or len(jobs) <= 1:
        for done, job in enumerate(jobs, 1):
            function(job)
            yield done
        return
    context = multiprocessing.get_context("spawn")  # a fork of a process with threads may never wake up
    pool = ProcessPoolExecutor(min(workers, len(jobs)), mp_context=context, initializer=_settle, initargs=(os.getpid(),))
    try:
        futures = [pool.submit(function, job) for job in jobs]
        for done, future in enumerate(as_completed(futures), 1):
            future.result()
            yield done
        pool.shutdown()
    except BrokenProcessPool as error:
        raise TransientError(f"a worker process of {function.__module__} was killed; finished pieces are kept") from error
    finally:
        _end(pool)


def _end(pool: ProcessPoolExecutor) -> None:
    """Stops workers at once: what they had begun is done again by the next attempt."""
    processes = list((pool._processes or {}).values())
    pool.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        process.terminate()


def _settle(parent: int) -> None:
    """Makes a worker die with its parent, and leaves Ctrl-C to it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # 1 is PR_SET_PDEATHSIG
    if os.getppid() != parent:
        os._exit(1)
