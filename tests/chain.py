"""The whole chain from the command line, for the tests that share one run of it.

In: a state folder. Out: what the command printed and left behind. Invariant: a process of its own, as a user starts it.
"""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.core.site import Site
from tasks.core.store import Manifest, Store

ROOT = Path(__file__).resolve().parents[1]
_LIMIT_S = 1_600  # a preset on a given base takes more than 15 minutes on two busy cores without bf16


@dataclass(frozen=True)
class ChainRun:
    """A finished command."""

    state: Path
    code: int
    output: str

    @property
    def site(self) -> Site:
        """The site the command ran on."""
        return Site(state_dir=self.state)

    @property
    def results(self) -> list[tuple[str, str]]:
        """Stage and result of each line of the display."""
        words = [line.split() for line in self.output.splitlines()]
        return [(row[0], row[1]) for row in words if len(row) > 3 and row[1] in ("built", "reused", "failed") and row[3] == "s"]

    def manifests(self, stage: str) -> list[Manifest]:
        """Manifests of a stage's artifacts, oldest first."""
        found = [manifest for _, manifest in Store(self.site.store_dir).manifests() if manifest.stage == stage]
        return sorted(found, key=lambda manifest: manifest.provenance["ended"])

    def folder(self, stage: str) -> Path:
        """Folder of a stage's only or newest artifact."""
        manifest = self.manifests(stage)[-1]
        return self.site.store_dir / manifest.address

    def read(self, stage: str, name: str) -> Any:
        """A JSON file of a stage's newest artifact."""
        return json.loads((self.folder(stage) / name).read_text(encoding="utf-8"))


def environment(state: Path, **extra: str) -> dict[str, str]:
    """Variables of a command on `state` that shares nothing with this process's services, and has as many threads as a user's."""
    apart = ("PREFECT_", "MLFLOW_", "TEXTMILL_", "OMP_")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(apart)}
    return inherited | {"TEXTMILL_STATE_DIR": str(state), "COLUMNS": "250", "HF_HUB_OFFLINE": "1"} | extra


def start(state: Path, *arguments: str, **extra: str) -> subprocess.Popen[str]:
    """Starts `textmill ARGUMENTS` in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "flows", *arguments],
        cwd=ROOT,
        env=environment(state, **extra),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def textmill(state: Path, *arguments: str, **extra: str) -> ChainRun:
    """Runs `textmill ARGUMENTS` to its end."""
    process = start(state, *arguments, **extra)
    output, _ = process.communicate(timeout=_LIMIT_S)
    return ChainRun(state, process.returncode, output)


def processes_on(state: Path) -> list[int]:
    """Processes whose environment names this state folder."""
    needle = f"TEXTMILL_STATE_DIR={state}".encode()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if needle in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
        except OSError:
            continue
    return [pid for pid in found if pid != os.getpid()]


def training_children(state: Path) -> list[int]:
    """Processes of the training or scoring child on this state folder."""
    return [pid for pid in processes_on(state) if b"tasks.core.child" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def wait_until(condition: Any, seconds: float = 60.0) -> None:
    """Waits until `condition()` holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds} s in vain")
        time.sleep(0.05)


def kill(pid: int) -> None:
    """Kills a process if it still is there."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
