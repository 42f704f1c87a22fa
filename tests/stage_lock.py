"""`make stage-lock`: notes the source hash of every stage, so that a change of code is a decision about its version.

In: the stages of the chain. Out: `tasks/stages.lock.json`. Invariant: written only on purpose.
"""

import importlib
import json
import pkgutil
from pathlib import Path
from typing import Any

from tasks.core.source import code_hash
from tasks.core.stage import Stage

LOCK = Path(__file__).resolve().parents[1] / "tasks" / "stages.lock.json"
_PACKAGES = ("tasks", "data_quality", "deploy")


def all_stages() -> dict[str, Stage[Any]]:
    """Returns every stage there is, by name."""
    found: dict[str, Stage[Any]] = {}
    for package in _PACKAGES:
        root = importlib.import_module(package)
        for info in pkgutil.walk_packages(root.__path__, f"{package}."):
            if not info.name.endswith("__main__") and not info.name.startswith("tasks.modeling"):
                values = vars(importlib.import_module(info.name)).values()
                found |= {value.name: value for value in values if isinstance(value, Stage)}
    return dict(sorted(found.items()))


def current() -> dict[str, dict[str, Any]]:
    """Returns version and source hash of every stage."""
    return {name: {"version": stage.version, "source": code_hash(stage.module)[:16]} for name, stage in all_stages().items()}


def locked() -> dict[str, dict[str, Any]]:
    """Returns what the lock file says."""
    return json.loads(LOCK.read_text(encoding="utf-8"))


if __name__ == "__main__":
    LOCK.write_text(json.dumps(current(), indent=1) + "\n", encoding="utf-8")
    print(f"wrote {LOCK.name}")
