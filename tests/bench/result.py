"""Results of the benches: what they ran on, and one JSON line a run.

In: a name, figures. Out: `results/<name>.jsonl`. Invariant: lines are added, never changed.
"""

import json
import os
import platform
import statistics
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tasks.core.provenance import source_state

FOLDER = Path(__file__).parent / "results"


def hardware() -> str:
    """Returns processor and number of cores."""
    names = [line for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if line.startswith("model name")]
    return f"{names[0].partition(':')[2].strip() if names else platform.processor()}, {os.cpu_count()} cores"


def ratios(ours: Sequence[float], peer: Sequence[float]) -> dict[str, float]:
    """Returns median and spread of the neighbouring pairs' ratios, peer over ours."""
    found = [theirs / mine for mine, theirs in zip(ours, peer, strict=True)]
    return {
        "ratio": round(statistics.median(found), 2),
        "lowest": round(min(found), 2),
        "highest": round(max(found), 2),
        "pairs": len(found),
    }


def note(name: str, packages: Sequence[str], figures: dict[str, Any]) -> None:
    """Adds a line to the results of a bench and prints it."""
    state = source_state()
    line = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": state["commit"],
        "dirty": state["dirty"],
        "hardware": hardware(),
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
        "versions": {package: version(package) for package in packages},
    } | figures
    FOLDER.mkdir(exist_ok=True)
    with (FOLDER / f"{name}.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(line, ensure_ascii=False) + "\n")
    print(json.dumps(line, ensure_ascii=False, indent=1))
