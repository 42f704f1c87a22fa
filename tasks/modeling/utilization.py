# ruff: noqa: TID253  (runs in training children only; holds no Spec)
"""Model FLOPs utilisation: how much of the speed that products of a model's own shapes reach here a training gets.

In: a model with its loss, a batch. Out: FLOPs of a row and the rate of the products, measured once: each for 20 ms, or twice.
Invariant: nothing that is learned changes; these are figures of a place, never of what is made.

MFU after Chowdhery et al. (arXiv:2204.02311, appendix B): FLOPs of the model's products, the backward pass as two forward ones,
what is recomputed, and attention between documents that is not computed, left out; over seconds times the rate. The rate there is
the device's on paper, here the measured one.
"""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry, register_flop_formula, sdpa_flop_count

from tasks.modeling.attention import without_blocks
from tasks.modeling.batches import Batch
from tasks.modeling.precision import autocast

Shape = tuple[int, int, int, torch.dtype]  # rows, inner size, columns
_ENOUGH_S = 0.02  # a product is timed again until so much was spent on it: the first time, or a busy moment, tells little
_MAX_ROWS = 1024  # of a product that is timed; more do not change its rate


@register_flop_formula(torch.ops.aten._scaled_dot_product_flash_attention_for_cpu)  # torch has the one of CUDA only
def _attention_flops(query_shape: Any, key_shape: Any, value_shape: Any, *_: Any, **__: Any) -> int:
    return int(sdpa_flop_count(query_shape, key_shape, value_shape))  # type: ignore[no-untyped-call]


@dataclass(frozen=True, slots=True)
class Products:
    """The products of a model on this place.

    Attributes:
        flops_per_row: FLOPs of a row of a batch, forward and backward.
        flops_per_s: Rate of the products of its weights, each at its own shape, on one device.
    """

    flops_per_row: float
    flops_per_s: float

    def mfu(self, num_rows: float, seconds: float) -> float:
        """Returns the model FLOPs utilisation of a device that trained on so many rows in so many seconds."""
        return self.flops_per_row * num_rows / max(1e-9, seconds) / self.flops_per_s


def measure(module: nn.Module, batch: Batch, device: torch.device, precision: str) -> Products | None:
    """Measures the products of one forward pass and of its backward pass; nothing where there are none.

    All processes of a training take part, for sharded weights are gathered.
    """
    seen = _Seen()
    with torch.no_grad(), torch.compiler.set_stance("force_eager"), without_blocks(), autocast(device, precision), seen:
        module(batch)
    if not seen.shapes:
        return None
    times = {shape: _seconds(shape, device) for shape in seen.shapes}
    flops = sum(6.0 * rows * inner * columns * count for (rows, inner, columns, _), count in seen.shapes.items())
    rate = flops / sum(times[shape] * count for shape, count in seen.shapes.items())
    return Products(3.0 * seen.flops / len(batch.ids_BT), rate)


class _Seen(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the FLOPs of what runs below it, and the shapes of products with weights."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flops = 0
        self.shapes: Counter[Shape] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        if (count := flop_registry.get(func.overloadpacket)) is not None:
            self.flops += count(*args, **(kwargs or {}), out_val=made)
        if func.overloadpacket in (torch.ops.aten.mm, torch.ops.aten.addmm) and made.numel():
            left, right = args[-2:]
            self.shapes[(left.shape[0], left.shape[1], right.shape[1], left.dtype)] += 1
        return made


def _seconds(shape: Shape, device: torch.device) -> float:
    """Returns the seconds of a product and of both products of its backward pass."""
    num_rows, inner, columns, dtype = shape
    timed_rows = min(num_rows, _MAX_ROWS)
    left, right = (torch.ones(size, dtype=dtype, device=device) for size in ((timed_rows, inner), (inner, columns)))
    made = torch.mm(left, right)
    products = (lambda: torch.mm(left, right), lambda: torch.mm(made, right.T), lambda: torch.mm(left.T, made))
    return sum(best_seconds(product, device) for product in products) * num_rows / timed_rows


def best_seconds(product: Callable[[], Tensor], device: torch.device) -> float:
    """Returns the least seconds that a product took."""
    times: list[float] = []
    while len(times) < 2 or sum(times) < _ENOUGH_S:
        start = time.perf_counter()
        product()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - start)
    return min(times)
