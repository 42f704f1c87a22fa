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
_LONG = 2  # from 15/8 on, M by N costs less by its M x M Gram matrix: 2 N + 20 M in place of 10 N + 5 M, times 2 M^2


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
    found = _by_gram(found) if _has_short_gram(found) else _iterated(found)
    return found.T if is_tall else found


def _has_short_gram(found_MN: Tensor) -> bool:
    """Whether the Gram matrix saves work and can be had: bf16 has too few digits for squares, a sharded matrix no diagonal."""
    is_long = found_MN.shape[1] > _LONG * found_MN.shape[0]
    return is_long and found_MN.dtype == torch.float32 and type(found_MN) is Tensor


def _iterated(found_MN: Tensor) -> Tensor:
    for _ in range(_ITERATIONS):
        gram_MM = found_MN @ found_MN.T
        found_MN = torch.addmm(found_MN, torch.addmm(gram_MM, gram_MM, gram_MM, beta=_B, alpha=_C), found_MN, beta=_A)
    return found_MN


def _by_gram(found_MN: Tensor) -> Tensor:
    """The same iterations on the M x M Gram matrix: their factors commute, and meet the long matrix once, at the end."""
    gram_MM = found_MN @ found_MN.T
    product_MM = torch.eye(len(gram_MM), device=gram_MM.device)
    for _ in range(_ITERATIONS):
        factor_MM = torch.addmm(gram_MM, gram_MM, gram_MM, beta=_B, alpha=_C)
        factor_MM.diagonal().add_(_A)
        product_MM = factor_MM @ product_MM
        gram_MM = factor_MM @ gram_MM @ factor_MM
    return product_MM @ found_MN
