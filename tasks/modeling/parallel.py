# ruff: noqa: TID253  (runs in training and scoring children only; holds no Spec)
"""Many processes as one: joined through torchrun's environment, gradients averaged by DDP.

In: RANK, WORLD_SIZE, LOCAL_RANK, set by torchrun. Out: a `World`. Invariant: what the world computes together does not
depend on its size but for rounding: the global batch stays the same.
"""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from tasks.core.errors import RecipeError


@dataclass(frozen=True, slots=True)
class World:
    """The processes of this training, seen from one of them."""

    rank: int
    size: int
    device: torch.device

    @property
    def leads(self) -> bool:
        """Whether this process writes files and reports."""
        return self.rank == 0

    def local_rows(self, batch_rows: int) -> slice:
        """Returns this process's part of a global batch.

        Raises:
            RecipeError: The batch cannot be divided evenly.
        """
        if batch_rows % self.size:
            raise RecipeError(f"batch_rows {batch_rows} cannot be divided among {self.size} processes; set a multiple")
        share = batch_rows // self.size
        return slice(self.rank * share, (self.rank + 1) * share)

    def wrap(self, module: torch.nn.Module) -> torch.nn.Module:
        """Returns the module with gradients averaged over the processes after backward."""
        if self.size == 1:
            return module
        from torch.nn.parallel import DistributedDataParallel

        return DistributedDataParallel(module, device_ids=[self.device] if self.device.type == "cuda" else None)

    def quiet(self, module: Any, last: bool) -> AbstractContextManager[None]:
        """Returns a context without gradient exchange, for all micro-batches of a step but the last."""
        return nullcontext() if self.size == 1 or last else module.no_sync()

    def sum(self, values: Tensor) -> Tensor:
        """Returns the sum of `values` over the processes."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def any(self, flag: bool) -> bool:
        """Says whether any process says so; all of them get the same answer."""
        return flag if self.size == 1 else bool(self.sum(torch.tensor(float(flag), device=self.device)).item())

    def wait(self) -> None:
        """Waits for all processes."""
        if self.size > 1:
            dist.barrier()


@contextmanager
def joined(device: str) -> Iterator[World]:
    """Joins the processes torchrun started; alone where it started none or one."""
    rank, size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    where = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if device == "cuda" else torch.device("cpu")
    if where.type == "cuda":
        torch.cuda.set_device(where)
    if size > 1:
        dist.init_process_group("nccl" if where.type == "cuda" else "gloo", rank=rank, world_size=size)
    try:
        yield World(rank, size, where)
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
