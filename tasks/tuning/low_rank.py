# ruff: noqa: TID253  (runs in training children only; holds no Spec)
"""The product of LoRA's update, added to what the frozen layer gave, in its place.

In: a model with peft's plain LoRA. Out: the same, to be trained; `as_peft_does` takes it back before a merge. Invariant: losses
and gradients are those of peft up to rounding. peft makes three tensors of the layer's size for each update (the product, the
scaled product, the sum) and two for their gradients; on CPUs they cost as much as a third of the frozen products.

Shapes: N positions, I inputs, O outputs, R rank.
"""

from typing import Any

import torch
from peft.tuners.lora.layer import Linear, LoraVariant
from torch import Tensor
from torch.autograd.function import once_differentiable


class _AddUpdate(torch.autograd.Function):
    """y + s x A' B', written into y; the gradient of y is that of the sum."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, x: Tensor, a_RI: Tensor, b_OR: Tensor, scaling: float) -> Tensor:
        h_NR = x.flatten(0, -2) @ a_RI.T
        ctx.mark_dirty(y)
        ctx.save_for_backward(x, a_RI, b_OR, h_NR)
        ctx.scaling = scaling
        y.view(-1, y.shape[-1]).addmm_(h_NR, b_OR.T, alpha=scaling)
        return y

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, a_RI, b_OR, h_NR = ctx.saved_tensors
        grad_NO = grad.flatten(0, -2)
        grad_h_NR = (grad_NO @ b_OR) * ctx.scaling
        grad_x = (grad_h_NR @ a_RI).view_as(x) if ctx.needs_input_grad[1] else None
        return grad, grad_x, grad_h_NR.T @ x.flatten(0, -2), (grad_NO.T @ h_NR) * ctx.scaling, None


class _InPlace(LoraVariant):
    """Plain LoRA by `_AddUpdate` where all numbers are of one format; under autocast and in compiled layers as peft does it."""

    @staticmethod
    def forward(module: Any, active_adapter: str, x: Tensor, result: Tensor, **_: Any) -> Tensor:
        down, up = module.lora_A[active_adapter], module.lora_B[active_adapter]
        x, scaling = module.lora_dropout[active_adapter](x), module.scaling[active_adapter]
        if torch.compiler.is_compiling() or len({x.dtype, result.dtype, down.weight.dtype, up.weight.dtype}) > 1:
            return result + up(down(x)) * scaling
        return _AddUpdate.apply(result, x, down.weight, up.weight, scaling)  # type: ignore[no-any-return]


def update_in_place(adapted: Any) -> None:
    """Lets plain adapters be computed in place from now on."""
    for layer in _layers(adapted):
        for name in layer.lora_A:
            if not layer.lora_bias[name]:
                layer.lora_variant.setdefault(name, _InPlace())


def as_peft_does(adapted: Any) -> None:
    """Gives the adapters back to peft, which merges them."""
    for layer in _layers(adapted):
        for name in [name for name, variant in layer.lora_variant.items() if isinstance(variant, _InPlace)]:
            del layer.lora_variant[name]


def _layers(adapted: Any) -> list[Any]:
    return [module for module in adapted.modules() if type(module) is Linear]
