# ruff: noqa: TID253  (runs in training children only; holds no Spec)
"""Where a training's time went.

In: laps. Out: seconds by name, and the most memory that was held. Invariant: a second counts once, for the innermost lap; no lap
waits for a device. On a GPU these are the host's seconds: work is queued, and the wait for it falls to the lap that reads.
"""

import re
import resource
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import torch

Lap = Literal["forward_backward", "optimizer", "data", "validation", "checkpoint"]


class Stopwatch:
    """Seconds since the process began to train, by what they were spent on."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._laps: list[str] = []
        self._since = self._start = time.monotonic()

    @contextmanager
    def lap(self, name: Lap) -> Iterator[None]:
        """Charges the time inside to `name`, but for what laps within it take."""
        self._charge()
        self._laps.append(name)
        try:
            yield
        finally:
            self._charge()
            self._laps.pop()

    def _charge(self) -> None:
        now = time.monotonic()
        if self._laps:
            self.seconds[self._laps[-1]] += now - self._since
        self._since = now

    def figures(self, device: torch.device) -> dict[str, float]:
        """Returns the seconds of each lap and of the whole, and the peak memory, as they are recorded."""
        laps = {f"seconds_{name}": spent for name, spent in self.seconds.items()}
        return {**laps, "seconds_total": time.monotonic() - self._start, "peak_memory_bytes": peak_memory_bytes(device)}


def peak_memory_bytes(device: torch.device) -> int:
    """Returns the most memory this process ever held: on the GPU what tensors took, else resident memory."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    (peak_kib,) = re.findall(r"^VmHWM:\s*(\d+) kB$", status.read_text(encoding="utf-8"), re.MULTILINE)
    return int(peak_kib) * 1024  # getrusage of a child starts at what its parent held at the fork


def describe(figures: dict[str, float]) -> str:
    """Returns one line for a person: the longest first, each with its share."""
    total = figures["seconds_total"]
    laps = {name: spent for name, spent in figures.items() if name.startswith("seconds_") and name != "seconds_total"}
    laps["seconds_other"] = max(0.0, total - sum(laps.values()))
    ordered = sorted(laps.items(), key=lambda lap: -lap[1])
    parts = [f"{name.removeprefix('seconds_').replace('_', ' ')} {spent:.1f} s ({spent / total:.0%})" for name, spent in ordered]
    return f"where {total:.1f} s went: {', '.join(parts)}; at most {figures['peak_memory_bytes'] / 1e6:,.0f} MB"
