# ruff: noqa: TID253  (runs in training children only; holds no Spec)
"""Muon in the number format of the training (Jordan et al., kellerjordan.github.io/posts/muon).

In: gradients of matrices. Out: their update. Invariant: in bf16 the steps are those of `torch.optim.Muon`, which always
orthogonalises in bf16; where products in bf16 are not native that takes twenty times as long as in fp32.
"""

from typing import Any

import torch
from torch import Tensor

_A, _B, _C = 3.4445, -4.7750, 2.0315  # Jordan's quintic: singular values end between about 0.7 and 1.2
_ITERATIONS, _EPSILON = 5, 1e-7


class Muon(torch.optim.Muon):
    """`torch.optim.Muon`, its updates scaled to the size of AdamW's (Liu et al., arXiv:2502.16982), in a given number format."""

    def __init__(self, params: Any, dtype: torch.dtype, **settings: Any) -> None:
        super().__init__(params, adjust_lr_fn="match_rms_adamw", **settings)
        self._dtype = dtype

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Updates the matrices that have a gradient."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._update(weight, group["lr"], group["momentum"], group["weight_decay"])

    def _update(self, weight: Tensor, rate: float, momentum: float, weight_decay: float) -> None:
        gradient, state = weight.grad, self.state[weight]
        assert gradient is not None
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(gradient)
        mean = state["momentum_buffer"].lerp_(gradient, 1 - momentum)
        direction = orthogonal(gradient.lerp(mean, momentum).to(self._dtype))
        weight.mul_(1 - rate * weight_decay)
        weight.add_(direction, alpha=-rate * 0.2 * max(weight.shape) ** 0.5)


def orthogonal(matrix_MN: Tensor) -> Tensor:
    """Returns nearly the orthogonal factor of a matrix's polar decomposition, by Newton-Schulz iterations in its own format."""
    is_tall = matrix_MN.shape[0] > matrix_MN.shape[1]
    found = matrix_MN.T if is_tall else matrix_MN
    found = found / found.norm().clamp(min=_EPSILON)
    for _ in range(_ITERATIONS):
        gram = found @ found.T
        found = torch.addmm(found, torch.addmm(gram, gram, gram, beta=_B, alpha=_C), found, beta=_A)
    return found.T if is_tall else found
