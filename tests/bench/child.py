"""Runs of a bench in processes of their own, all under the same allocator settings and threads.

In: a module and its arguments. Out: the figures that it says. Invariant: figures travel as JSON on one line of the output.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from tasks.core.child import _HUGE_PAGES
from tests.conftest import ROOT

_MARK = "RESULT "  # tune_peer.py, which runs where this module is not, writes it too


def say(figures: Mapping[str, Any]) -> None:
    """Prints what a child found."""
    print(_MARK + json.dumps(figures))


def run_child(module: str, *args: str, threads: int | None, settings: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Runs a module of the benches with `--child` and returns what it says, as `run_command` does."""
    command = [sys.executable, "-m", module, "--child", *args]
    return run_command(command, threads=threads, settings={"PYTHONPATH": str(ROOT)} | dict(settings or {}))


def run_command(
    command: Sequence[str], *, threads: int | None, settings: Mapping[str, str], huge_pages: bool = True
) -> dict[str, Any]:
    """Runs a command with that many threads, with huge pages if wanted, and returns what it says.

    Raises:
        RuntimeError: It said nothing.
    """
    common = {"OMP_NUM_THREADS": str(threads or os.cpu_count())} | ({"GLIBC_TUNABLES": _HUGE_PAGES} if huge_pages else {})
    done = subprocess.run(command, env=os.environ | common | dict(settings), cwd=ROOT, capture_output=True, text=True)
    lines = [line for line in done.stdout.splitlines() if line.startswith(_MARK)]
    if not lines:
        raise RuntimeError(f"{command[:4]} failed:\n{done.stdout[-2000:]}{done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(lines[-1].removeprefix(_MARK))
    return found
