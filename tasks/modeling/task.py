# ruff: noqa: TID253  (runs in training children only; holds no Spec)
"""What a loop is given: what is learned, and where.

In: an objective's loss and rows, a `World`. Out: frozen values. Invariant: a `Place` changes nothing but rounding.

Shapes: S sums of a task's own.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from tasks.modeling.batches import Batch, Ids, Rows, step_rows
from tasks.modeling.job import Compute
from tasks.modeling.parallel import World
from tasks.modeling.specs import ResolvedPrecision


@dataclass(frozen=True, slots=True)
class Watch:
    """What a look sees beside the loss: figures that are functions of sums over rows, so that processes can share the rows.

    Attributes:
        sums: Gives the summed loss of a batch, and S sums behind it, as one vector (1 + S,).
        figures: Makes figures of the S sums over all rows.
        criterion: What the best look has least of, given the figures; none: the loss.
    """

    sums: Callable[[Any, Batch], Tensor]
    figures: Callable[[Sequence[float]], dict[str, float]]
    criterion: Callable[[dict[str, float]], float] | None = None


@dataclass(frozen=True, slots=True)
class Task:
    """What is learned: a summed loss, rows to learn from, rows to look at, and the bytes those stand for.

    Attributes:
        loss: Gives a number (), or one (P,) for each of the `parts` that add up to it.
        order: Gives the rows of a step by seed, step, rows of a batch and rows of a pass, see `step_rows`.
        watch: What a look sees beside the loss.
        judged: Rows that the weights which are kept are looked at on, once, at the end; none: no others than `validation`.
        has_new_head: Whether a head starts from random weights: what it says before the first step is chance, never selected.
    """

    loss: Callable[[Any, Batch], Tensor]
    train: Rows
    validation: Rows
    validation_bytes: int | None = None
    parts: tuple[str, ...] = ()
    order: Callable[[int, int, int, int], Ids] = step_rows
    watch: Watch | None = None
    judged: Rows | None = None
    has_new_head: bool = False

    @property
    def own_forward(self) -> bool:
        """Whether its loss calls the architecture's own forward pass, on items cut to the longest one at hand.

        Such a pass meets many shapes, and may leave weights out.
        """
        return getattr(self.loss, "own_forward", False)


@dataclass(frozen=True, slots=True)
class Place:
    """Where and how it runs; changes nothing but rounding.

    Attributes:
        prefix: Put before the names of the figures that are told to whoever watches, where one child trains several times.
    """

    folder: Path
    world: World
    precision: ResolvedPrecision
    micro_rows: int | None = None
    compute: Compute = field(default_factory=Compute)
    prefix: str = ""
