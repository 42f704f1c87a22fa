# ruff: noqa: TID253  (runs in training children only; holds no Spec)
"""Looking at the validation rows.

In: a model with its loss, a `Task`, a `Place`. Out: the mean loss, figures of the task's own, and bits per byte. Invariant: a
look changes nothing, and counts each target once, however many processes take part.
"""

import math
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch

from tasks.modeling.batches import make_batch, spread
from tasks.modeling.precision import autocast
from tasks.modeling.task import Place, Task


def look_at(losses: Any, task: Task, place: Place, max_rows: int | None, micro_rows: int) -> tuple[float, dict[str, float]]:
    """Returns the mean loss over the targets of the validation rows, or of `max_rows` spread evenly over them, and figures.

    Args:
        losses: Gives the summed loss of a batch, with the sums of `task.watch` behind it: the model with its loss, as one module.
        task: Has the rows.
        place: The processes that share the rows.
        max_rows: Most rows to look at; none: all.
        micro_rows: Rows of a forward pass.
    """
    rows, world = task.validation, place.world
    chosen = spread(rows.num_rows, max_rows)
    total, num_targets = torch.zeros((), dtype=torch.float64, device=world.device), 0
    mine = chosen[world.rank :: world.size]
    losses.eval()
    with torch.no_grad(), _uncompiled(place), autocast(world.device, place.precision):
        for start in range(0, len(chosen[:: world.size]), micro_rows):  # as many passes on every process
            part = mine[start : start + micro_rows]
            batch = make_batch(rows, part if len(part) else chosen[:1], world.device)
            counts = bool(len(part))
            total = total + losses(batch).double() * counts
            num_targets += batch.num_targets * counts
    losses.train()
    total = torch.cat([total.reshape(-1), torch.tensor([num_targets], dtype=torch.float64, device=world.device)])
    *sums, all_targets = world.sum(total).tolist()
    num_losses = max(1, len(task.parts))
    parts = [float(one / max(1, all_targets)) for one in sums[:num_losses]]
    named = {f"{name}_loss": loss for name, loss in zip(task.parts, parts, strict=False)}
    return sum(parts), named | (task.watch.figures(sums[num_losses:]) if task.watch else {})


def _uncompiled(place: Place) -> AbstractContextManager[Any]:
    """Lets a look run as it is written: it has batches of other shapes than steps, each of which would be compiled."""
    return torch.compiler.set_stance("force_eager") if place.compute.compile else nullcontext()


def bits_per_byte(task: Task, loss: float) -> float | None:
    """Returns a loss in nats per target as bits per byte of the validation text, where that is known."""
    if task.validation_bytes is None:
        return None
    rows = task.validation
    return loss / math.log(2) * rows.num_targets(np.arange(rows.num_rows)) / task.validation_bytes
