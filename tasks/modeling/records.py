"""Reading a training's `metrics.jsonl`.

In: the file. Out: its records. Invariant: a last line that a kill cut off is passed over. Nothing here imports torch.
"""

import json
from pathlib import Path


def read_records(path: Path) -> list[dict[str, float]]:
    """Reads the records of a training, one a line."""
    records = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            records.append(json.loads(line))
        except ValueError:
            continue
    return records
