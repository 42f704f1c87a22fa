# ruff: noqa: TID253  (runs in training children only; holds no Spec)
"""Muon in the number format of the training (Jordan et al., kellerjordan.github.io/posts/muon).

In: gradients of matrices. Out: their update. `torch.optim.Muon` always orthogonalises in bf16; where products in bf16 are not
native that takes twenty times as long as in fp32. Invariant: singular values of a step from 0.0025 of the gradient's norm on end
between 0.72 and 1.28, as near as by torch's five iterations, by four, and none beyond, in bf16 as in fp32.

Shapes: L matrices of one shape, M by N; M is their shorter side.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

# Odd polynomials a x + b x^3 + c x^5, each the nearest to 1 on what the one before leaves of [0.0025, 1] (Polar Express, Amsel et
# al., arXiv:2505.16932). Jordan's single one takes five iterations to the same. Each expects its input to be 2% larger than it
# should be: where it ends a polynomial is steep, and rounding in bf16 would be raised to numbers without end.
_POLYNOMIALS = (
    (8.2424, -23.4253, 16.6938),
    (4.0046, -2.8661, 0.5193),
    (3.5680, -2.5710, 0.4879),
    (2.6315, -1.8911, 0.4172),
)
_EPSILON = 1e-7
_LONG = 1.5  # from there on, M by N costs less by its M x M Gram matrix: 2 N + 13 M in place of 8 N + 4 M, times 2 M^2
_STACK_NUMBERS = 2**24  # at most in one stack, as large as 64 MB in fp32


class Muon(torch.optim.Muon):
    """`torch.optim.Muon`, its updates scaled to the size of AdamW's (Liu et al., arXiv:2502.16982), in a given number format."""

    def __init__(self, params: Any, dtype: torch.dtype, **settings: Any) -> None:
        super().__init__(params, adjust_lr_fn="match_rms_adamw", **settings)
        self._dtype = dtype

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Updates the matrices that have a gradient."""
        for group in self.param_groups:
            for weights in _alike([weight for weight in group["params"] if weight.grad is not None]):
                self._update(weights, group["lr"], group["momentum"], group["weight_decay"])

    def _update(self, weights: Sequence[Tensor], rate: float, momentum: float, weight_decay: float) -> None:
        directions = [self._direction(weight, momentum) for weight in weights]
        # One product of many: alone, small matrices leave most of a processor idle.
        steps = orthogonal(torch.stack(directions)) if len(directions) > 1 else [orthogonal(directions[0])]
        for weight, step in zip(weights, steps, strict=True):
            weight.mul_(1 - rate * weight_decay)
            weight.add_(_spread_as(weight, step), alpha=-rate * 0.2 * max(weight.shape) ** 0.5)

    def _direction(self, weight: Tensor, momentum: float) -> Tensor:
        gradient, state = weight.grad, self.state[weight]
        assert gradient is not None
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(gradient)
        mean = state["momentum_buffer"].lerp_(gradient, 1 - momentum)
        return gradient.lerp(mean, momentum).to(self._dtype)


def _spread_as(weight: Tensor, step: Tensor) -> Tensor:
    """Returns a step spread over the processes as its weight is: that of fewer rows than processes comes out whole on each."""
    return step.redistribute(weight.device_mesh, weight.placements) if isinstance(weight, DTensor) else step  # type: ignore[attr-defined]


def _alike(weights: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Yields weights of one shape together, sharded ones alone."""
    by_shape: defaultdict[Any, list[Tensor]] = defaultdict(list)
    for weight in weights:
        by_shape[weight.shape if _is_whole(weight.grad) else id(weight)].append(weight)
    for found in by_shape.values():
        size = max(1, _STACK_NUMBERS // found[0].numel())
        yield from (found[start : start + size] for start in range(0, len(found), size))


def _is_whole(gradient: Tensor | None) -> bool:
    return type(gradient) is Tensor  # sharded ones are of a class of their own


def orthogonal(matrix_LMN: Tensor) -> Tensor:
    """Returns nearly the orthogonal factor of a matrix's polar decomposition, by Newton-Schulz iterations in its own format.

    Args:
        matrix_LMN: One matrix, or a stack of them.
    """
    is_tall = matrix_LMN.shape[-2] > matrix_LMN.shape[-1]
    found = matrix_LMN.mT if is_tall else matrix_LMN
    found = found / found.norm(dim=(-2, -1), keepdim=True).clamp(min=_EPSILON)
    found = _by_gram(found) if _has_short_gram(found) else _iterated(found)
    return found.mT if is_tall else found


def _has_short_gram(found_LMN: Tensor) -> bool:
    """Whether the Gram matrix saves work and can be had: bf16 has too few digits for squares, a sharded matrix no diagonal."""
    is_long = found_LMN.shape[-1] > _LONG * found_LMN.shape[-2]
    return is_long and found_LMN.dtype == torch.float32 and _is_whole(found_LMN)


def _iterated(found_LMN: Tensor) -> Tensor:
    for a, b, c in _POLYNOMIALS:
        gram_LMM = found_LMN @ found_LMN.mT
        factor_LMM = _added(gram_LMM, gram_LMM, gram_LMM, beta=b, alpha=c)
        found_LMN = _added(found_LMN, factor_LMM, found_LMN, beta=a)
    return found_LMN


def _by_gram(found_LMN: Tensor) -> Tensor:
    """The same iterations on the M x M Gram matrix: their factors commute, and meet the long matrix once, at the end."""
    gram_LMM = found_LMN @ found_LMN.mT
    product_LMM = factor_LMM = _factor(gram_LMM, *_POLYNOMIALS[0])
    for polynomial in _POLYNOMIALS[1:]:
        gram_LMM = factor_LMM @ gram_LMM @ factor_LMM
        factor_LMM = _factor(gram_LMM, *polynomial)
        product_LMM = factor_LMM @ product_LMM
    return product_LMM @ found_LMN


def _factor(gram_LMM: Tensor, a: float, b: float, c: float) -> Tensor:
    factor_LMM = _added(gram_LMM, gram_LMM, gram_LMM, beta=b, alpha=c)
    factor_LMM.diagonal(dim1=-2, dim2=-1).add_(a)
    return factor_LMM


def _added(base: Tensor, left: Tensor, right: Tensor, beta: float, alpha: float = 1.0) -> Tensor:
    """Returns `beta * base + alpha * left @ right`."""
    return (torch.addmm if base.ndim == 2 else torch.baddbmm)(base, left, right, beta=beta, alpha=alpha)
