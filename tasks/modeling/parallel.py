# ruff: noqa: TID253  (runs in training and scoring children only; holds no Spec)
"""Many processes as one: joined through torchrun's environment, weights replicated (DDP) or sharded (FSDP2).

In: RANK, WORLD_SIZE, LOCAL_RANK, set by torchrun. Out: a `World`, and a module applied to it. Invariants: what the world
computes together does not depend on its size or its sharding but for rounding: the global batch stays the same; between two
steps every weight of a sharded model is its shard, the object that optimiser and checkpoints know.
"""

import copy
import os
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.elastic.utils.store import barrier
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from tasks.core.errors import RecipeError, TransientError
from tasks.core.site import Sharding

_LEAVE_S = 86_400.0  # the process that leads may write a large model before it leaves


@dataclass(frozen=True, slots=True)
class World:
    """The processes of this training, seen from one of them."""

    rank: int
    size: int
    device: torch.device
    sharding: Sharding = "ddp"

    @property
    def leads(self) -> bool:
        """Whether this process writes files and reports."""
        return self.rank == 0

    @property
    def shards(self) -> bool:
        """Whether each process holds a part of every weight."""
        return self.size > 1 and self.sharding == "fsdp2"

    @property
    def mesh(self) -> DeviceMesh:
        """The processes as a mesh; other ways of being parallel would be further dimensions of it."""
        return init_device_mesh(self.device.type, (self.size,), mesh_dim_names=("data",))

    def local_rows(self, batch_rows: int) -> slice:
        """Returns this process's part of a global batch.

        Raises:
            RecipeError: The batch cannot be divided evenly.
        """
        if batch_rows % self.size:
            raise RecipeError(f"batch_rows {batch_rows} cannot be divided among {self.size} processes; set a multiple")
        share = batch_rows // self.size
        return slice(self.rank * share, (self.rank + 1) * share)

    def sum(self, values: Tensor) -> Tensor:
        """Returns the sum of `values` over the processes."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def any(self, flag: bool) -> bool:
        """Says whether any process says so; all of them get the same answer. Waits for the processes, not for their devices."""
        return flag if self.size == 1 else bool(self.sum(torch.tensor(float(flag))).item())

    def wait(self) -> None:
        """Waits for all processes."""
        if self.size > 1:
            dist.barrier()


def own_device(device: str) -> torch.device:
    """Returns the device of this process among those of its node."""
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if device == "cuda" else torch.device("cpu")


@contextmanager
def joined(device: str, sharding: Sharding = "ddp") -> Iterator[World]:
    """Joins the processes torchrun started; alone where it started none or one.

    Raises:
        TransientError: Another process has gone while this one waited for it.
    """
    rank, size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    where = own_device(device)
    if where.type == "cuda":
        torch.cuda.set_device(where)
    if size > 1:
        dist.init_process_group("cpu:gloo,cuda:nccl" if where.type == "cuda" else "gloo", rank=rank, world_size=size)
    try:
        yield World(rank, size, where, sharding)
        if size > 1:
            _leave_together(size)
    except RuntimeError as error:
        if size == 1 or not _is_lost_connection(error):
            raise
        raise TransientError(f"rank {rank} of {size} lost the connection to another process ({error})") from error
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def _leave_together(size: int) -> None:
    """Waits, through the launcher's store, until every process is done: one that closes its connections while another is
    still reading the last exchange can bring that one down."""
    barrier(dist.distributed_c10d._get_default_store(), size, "textmill-leave", barrier_timeout=_LEAVE_S)


def _is_lost_connection(error: RuntimeError) -> bool:
    """Tells a peer that has gone from a defect of ours; gloo has no exception type of its own."""
    return isinstance(error, dist.DistError) or "gloo/transport" in str(error)


# -- a module applied to a world ---------------------------------------------------------------------------------------


class Parallel:
    """A module as the processes of a world run it together.

    Attributes:
        module: What a training step calls.
    """

    def __init__(self, module: nn.Module, world: World) -> None:
        self.module, self._world = module, world

    def quiet(self, last: bool) -> AbstractContextManager[None]:
        """Returns a context without gradient exchange, for all micro-batches of a step but the last."""
        if isinstance(self.module, FSDPModule):
            self.module.set_requires_gradient_sync(last)
            return nullcontext()
        return nullcontext() if last or self._world.size == 1 else self.module.no_sync()  # type: ignore[operator]

    def unite(self) -> None:
        """Makes the model a plain one again, whole on the process that leads; all processes take part."""


class _Sharded(Parallel):
    """A sharded module; keeps a twin of the model, without weights, to become plain again."""

    def __init__(self, module: nn.Module, model: nn.Module, world: World, precision: str) -> None:
        super().__init__(module, world)
        self._model, self._twin = model, _twin(model)
        mesh = world.mesh["data"]
        policy = _mixed_precision(world.device, precision)
        for layer in _layers(model):
            fully_shard(layer, mesh=mesh, mp_policy=policy)
        # The root stays in fp32, as autocast has it: its embedding opens the residual stream. It is sharded again after a
        # forward pass too, so that a look at the validation split leaves nothing behind.
        fully_shard(module, mesh=mesh, reshard_after_forward=True)

    def unite(self) -> None:
        """Gathers weight by weight and puts the twin's parts, with whole weights, in the place of the sharded ones."""
        whole: dict[int, nn.Parameter] = {}
        named: dict[str, nn.Parameter] = {}
        for name, weight in self._model.named_parameters(remove_duplicate=False):  # shared weights stay shared
            if id(weight) not in whole:
                gathered = weight.full_tensor()  # type: ignore[attr-defined]
                kept = gathered.cpu() if self._world.leads else torch.empty_like(gathered, device="meta")
                whole[id(weight)] = nn.Parameter(kept, weight.requires_grad)
            named[name] = whole[id(weight)]
        self._twin.load_state_dict(named, strict=False, assign=True)
        for name, part in self._twin.named_children():
            setattr(self._model, name, part)


def parallelize(module: nn.Module, model: nn.Module, world: World, precision: str, *, uses_all: bool = True) -> Parallel:
    """Applies the parallelism of a world to a module, in place: the only function that does.

    Splitting layers (tensor) or the stack of them (pipeline) would come first, along further dimensions of `world.mesh`, and
    what is left of each weight would then be sharded along `data` as it is here.

    Args:
        module: What a step calls: the model with its loss.
        model: The `transformers` model in it.
        world: The processes.
        precision: Number format of products.
        uses_all: Whether each weight that is trained takes part in each step; where not, DDP has to look which do.
    """
    if world.shards:
        return _Sharded(module, model, world, precision)
    module.to(world.device)
    if world.size == 1:
        return Parallel(module, world)
    devices = [world.device] if world.device.type == "cuda" else None
    return Parallel(DistributedDataParallel(module, device_ids=devices, find_unused_parameters=not uses_all), world)


def _layers(model: Any) -> list[nn.Module]:
    """Returns the layers: of the modules that `transformers` never splits those that stand in a list.

    Embeddings may be named among them, and are left to the root, which shares them with an output layer.
    """
    names = set(model._no_split_modules or ())
    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
    return [layer for stack in lists for layer in stack if type(layer).__name__ in names]


def _mixed_precision(device: torch.device, precision: str) -> MixedPrecisionPolicy:
    """Gathers a layer's weights in bf16 where the device multiplies in it; autocast casts the inputs, as without sharding."""
    if device.type == "cuda" and precision == "bf16" and torch.cuda.is_bf16_supported():
        return MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32, cast_forward_inputs=False)
    return MixedPrecisionPolicy()


def _twin(model: nn.Module) -> nn.Module:
    """Returns a copy of the model whose weights take no memory."""
    empty = {
        id(weight): nn.Parameter(torch.empty_like(weight, device="meta"), weight.requires_grad) for weight in model.parameters()
    }
    return copy.deepcopy(model, dict(empty))


# -- tensors that may be sharded ---------------------------------------------------------------------------------------


def clip_gradients(weights: Iterable[nn.Parameter], limit: float) -> Tensor:
    """Scales the gradients down to a norm of `limit` over all of them, all shards included; returns the norm before."""
    trained = list(weights)
    if not any(isinstance(weight, DTensor) for weight in trained):
        return torch.nn.utils.clip_grad_norm_(trained, limit, foreach=True)
    norm = torch.nn.utils.get_total_norm([weight.grad for weight in trained if weight.grad is not None], foreach=True)
    whole = norm.full_tensor() if isinstance(norm, DTensor) else norm
    torch.nn.utils.clip_grads_with_norm_(trained, limit, whole, foreach=True)
    return whole


def shard_like(value: Tensor, weight: Tensor) -> Tensor:
    """Returns the part of a whole `value` that this process holds of `weight`; of an unsharded one everything."""
    from torch.distributed.tensor import distribute_tensor

    value = value.to(weight.device)
    if not isinstance(weight, DTensor) or value.shape != weight.shape:
        return value
    return distribute_tensor(value, weight.device_mesh, weight.placements, src_data_rank=None)
