"""Where an artifact comes from: commit, command line, versions, machine, time.

In: the environment. Out: plain JSON values for the manifest. Invariant: only recorded, never read back to decide anything.
"""

import hashlib
import platform
import shlex
import socket
import subprocess
import sys
from contextlib import suppress
from datetime import UTC, datetime
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tasks.core.text import text_safe

_PROJECT = Path(__file__).resolve().parents[2]
_SHOWN = ("torch", "transformers", "peft", "datatrove", "datasets", "mlflow", "prefect", "great-expectations", "numpy", "pyarrow")


def provenance(started: datetime, device: str, seed: int | None) -> dict[str, Any]:
    """Returns what is recorded of how and where an artifact was made."""
    return {
        **source_state(),
        "command": text_safe(shlex.join(sys.argv), 2_000),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "host": socket.gethostname(),
        "device": device,
        "seed": seed,
        "libraries": _versions(),
        "started": started.isoformat(timespec="seconds"),
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
    }


@lru_cache
def source_state() -> dict[str, Any]:
    """Returns commit, dirty flag and lock hash of the code that runs; none where it is not a git checkout."""
    lock = _PROJECT / "requirements.lock"
    return {
        "commit": _git("rev-parse", "HEAD"),
        "dirty": bool(_git("status", "--porcelain", "--untracked-files=no")),
        "lock": hashlib.sha256(lock.read_bytes()).hexdigest() if lock.exists() else None,
    }


def _git(*arguments: str) -> str | None:
    if not (_PROJECT / ".git").exists():
        return None
    try:
        done = subprocess.run(["git", "-C", str(_PROJECT), *arguments], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


@lru_cache
def _versions() -> dict[str, str]:
    found = {}
    for name in _SHOWN:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found
