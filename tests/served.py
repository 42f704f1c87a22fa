"""Servers that a test starts beside itself.

In: a command and its port. Out: the process, which listens. Invariant: it is gone when the block ends.
"""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.chain import ROOT

_LIMIT_S = 30


@contextmanager
def served(module: str, arguments: Sequence[str], port: int, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Runs `python -m MODULE ARGUMENTS`, from when it listens on `port` of this machine to the end of the block."""
    with log.open("wb") as out:
        process = subprocess.Popen([sys.executable, "-m", module, *arguments], cwd=ROOT, stdout=out, stderr=out)
    try:
        _wait(port, log)
        yield process
    finally:
        process.kill()
        process.wait()


def _wait(port: int, log: Path) -> None:
    end = time.monotonic() + _LIMIT_S
    while time.monotonic() < end:
        with socket.socket() as some:
            if some.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise AssertionError(f"nothing listens on port {port} after {_LIMIT_S} s: {log.read_text(encoding='utf-8')[-2000:]}")
