"""What a tuning cost and what it keeps, for comparing methods.

In: a finished training. Out: `extra/figures.json`, which become facts of the checkpoint. Invariant: nothing here enters a
digest.
"""

import json
import statistics
from pathlib import Path

from tasks.modeling.job import METRICS_NAME, TrainResult
from tasks.modeling.records import read_records
from tasks.tuning.job import FIGURES_NAME

_BYTES_A_WEIGHT = 4  # weights are trained and kept in fp32


def measure(result: TrainResult, learning_rate: float, seconds: float, adapter: Path, extra: Path) -> dict[str, float]:
    """Returns the figures of a tuning.

    `kept_bytes` are those of the adapter, or of the weights that were trained where there is none; `seconds` are those of the
    last attempt, `peak_memory_bytes` those of its loop; `tokens_per_s` is the median step's, in targets; `train_validation_gap`
    is validation minus training loss, in nats a target, of the weights that are kept, both looked at in one way: the losses of
    the steps hold penalties, noise, dropout and old text as well.
    """
    records = read_records(extra / METRICS_NAME)
    speeds, memory = ([record[name] for record in records if name in record] for name in ("tokens_per_s", "peak_memory_bytes"))
    return {
        "learning_rate": learning_rate,
        "trained_share": result.num_trained_parameters / result.num_parameters,
        "kept_bytes": float(_num_bytes(adapter) or _BYTES_A_WEIGHT * result.num_trained_parameters),
        "seconds": round(seconds, 3),
        "peak_memory_bytes": float(memory[-1]),
        "tokens_per_s": statistics.median(speeds),
        "train_validation_gap": result.validation_loss - result.judged["loss"],
    }


def _num_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def write_figures(extra: Path, figures: dict[str, float]) -> None:
    """Leaves the figures where the stage reads them."""
    (extra / FIGURES_NAME).write_text(json.dumps(figures, indent=1), encoding="utf-8")
