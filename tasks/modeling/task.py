# ruff: noqa: TID253  (runs in training children only; holds no Spec)
"""What a loop is given: what is learned, and where.

In: an objective's loss and rows, a `World`. Out: frozen values. Invariant: a `Place` changes nothing but rounding.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from tasks.modeling.batches import Batch, Rows
from tasks.modeling.job import Compute
from tasks.modeling.parallel import World


@dataclass(frozen=True, slots=True)
class Task:
    """What is learned: a summed loss, rows to learn from, rows to look at, and the bytes those stand for."""

    loss: Callable[[Any, Batch], Tensor]
    train: Rows
    validation: Rows
    validation_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """Where and how it runs; changes nothing but rounding."""

    folder: Path
    world: World
    precision: str
    micro_rows: int | None = None
    compute: Compute = field(default_factory=Compute)
