"""How fast a model was when it was scored.

In: tokens and seconds of the child that asked it. Out: `extra/speed.json`, which becomes a fact of the `Scores`. Invariant:
nothing here enters a digest.
"""

import json
from pathlib import Path

from tasks.core.artifact import EXTRA_DIR

_NAME = "speed.json"


def note_speed(folder: Path, tokens_per_s: float) -> None:
    """Leaves the speed where the stage reads it."""
    extra = folder / EXTRA_DIR
    extra.mkdir(exist_ok=True)
    (extra / _NAME).write_text(json.dumps({"tokens_per_s": round(tokens_per_s, 3)}), encoding="utf-8")


def read_speed(folder: Path) -> float:
    """Returns the tokens a second that the child noted."""
    return float(json.loads((folder / EXTRA_DIR / _NAME).read_text(encoding="utf-8"))["tokens_per_s"])
