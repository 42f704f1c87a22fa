# ruff: noqa: TID253  (runs in training children only; holds no Spec)
"""LoRA and norms on frozen weights, in fewer passes over memory than the modules of peft and `transformers` take.

In: a model with peft's plain LoRA. Out: the same model, to be trained; `as_peft_does` takes it back before a merge. Invariants:
losses and gradients are those of the modules up to rounding, under autocast too; where a layer is compiled, or in another number
format than fp32 and that of the products, its own forward pass runs.

For each update peft makes three tensors of the layer's size (the product, the scaled product, the sum) and two for gradients; a
norm makes as many. On CPUs that costs as much as a third of the products with frozen weights.

Shapes: N positions, I inputs, O outputs, R rank, W width.
"""

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from peft.tuners.lora.layer import Linear
from torch import Tensor
from torch.autograd.function import once_differentiable

from tasks.modeling.precision import product_dtype

_TOLERANCE = 1e-5


class _Updated(torch.autograd.Function):
    """y = W x + b + s B A x and its gradients for x, A and B, with W and b frozen; sums are written where they end up."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w_OI: Tensor, a_RI: Tensor, b_OR: Tensor, bias_O: Tensor | None, scaling: float) -> Tensor:
        x_NI = x.flatten(0, -2)
        h_NR = x_NI @ a_RI.T
        ctx.save_for_backward(x, w_OI, a_RI, b_OR, h_NR)
        ctx.scaling = scaling
        y_NO = F.linear(x_NI, w_OI, bias_O).addmm_(h_NR, b_OR.T, alpha=scaling)
        # Not a view in the eyes of autograd, which lets no layer change one in place, as some of `transformers` do.
        return torch.ops.aten._unsafe_view(y_NO, [*x.shape[:-1], len(w_OI)])  # type: ignore[no-any-return]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, w_OI, a_RI, b_OR, h_NR = ctx.saved_tensors
        grad_NO = grad.flatten(0, -2)
        grad_h_NR = (grad_NO @ b_OR).mul_(ctx.scaling)
        grad_x = (grad_NO @ w_OI).addmm_(grad_h_NR, a_RI).view_as(x) if ctx.needs_input_grad[0] else None
        return grad_x, None, grad_h_NR.T @ x.flatten(0, -2), (h_NR.T @ grad_NO).T.mul(ctx.scaling), None, None


class _RootMeanSquareNorm(torch.autograd.Function):
    """x / sqrt(mean(x^2) + e) * w (Zhang and Sennrich, arXiv:1910.07467) and its gradient for x, with w frozen.

    x is in fp32; the result is in the number format of the product that reads it.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight_W: Tensor, epsilon: float, dtype: torch.dtype) -> Tensor:
        inverse = x.square().mean(dim=-1, keepdim=True).add_(epsilon).rsqrt_()  # bit for bit what the module makes
        ctx.save_for_backward(x, weight_W, inverse)
        return (x * inverse).mul_(weight_W).to(dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight_W, inverse = ctx.saved_tensors
        grad_x = grad * weight_W
        along_x = (grad_x * x).sum(dim=-1, keepdim=True)
        return grad_x.mul_(inverse).addcmul_(x, along_x.mul_(inverse.pow(3)).div_(-x.shape[-1])), None, None, None


def use_fewer_passes(adapted: Any) -> None:
    """Lets plain adapters on linear layers, and frozen norms, be computed in fewer passes from now on."""
    for module in adapted.modules():
        if type(module) is Linear and type(module.get_base_layer()) is torch.nn.Linear and _is_plain(module):
            module.forward = partial(_linear, module, module.forward)
        elif _is_frozen_norm(module):
            module.forward = partial(_norm, module, module.forward)


def as_peft_does(adapted: Any) -> None:
    """Gives the modules their own forward pass back."""
    for module in adapted.modules():
        if isinstance(vars(module).get("forward"), partial) and module.forward.func in (_linear, _norm):
            del module.forward


def _is_plain(layer: Any) -> bool:
    names = list(layer.lora_A)
    is_frozen = not any(weight.requires_grad for weight in layer.get_base_layer().parameters())
    return is_frozen and len(names) == 1 and not layer.lora_variant and not layer.lora_bias[names[0]]


def _is_frozen_norm(module: Any) -> bool:
    """Whether a module is the norm above: it says so by its name and settings, and by what it makes of an example."""
    weight = getattr(module, "weight", None)
    if not (type(module).__name__.endswith("RMSNorm") and hasattr(module, "variance_epsilon") and weight is not None):
        return False
    if weight.requires_grad or weight.is_meta or weight.dtype != torch.float32:
        return False
    example = torch.linspace(-2, 3, len(weight), device=weight.device)[None]
    with torch.no_grad():
        return torch.allclose(module(example), _norm(module, module.forward, example), rtol=_TOLERANCE, atol=_TOLERANCE)


def _linear(layer: Any, own: Any, x: Tensor, *arguments: Any, **options: Any) -> Tensor:
    (name,) = layer.lora_A
    base, a_RI, b_OR = layer.get_base_layer(), layer.lora_A[name].weight, layer.lora_B[name].weight
    is_dropped = layer.training and isinstance(layer.lora_dropout[name], torch.nn.Dropout)
    dtype = product_dtype(x.device)
    is_known = {tensor.dtype for tensor in (x, base.weight, a_RI, b_OR)} <= {torch.float32, dtype}
    is_plain = not (arguments or options or layer.merged or layer.disable_adapters or is_dropped)
    if torch.compiler.is_compiling() or not (is_plain and is_known):
        return own(x, *arguments, **options)  # type: ignore[no-any-return]
    bias_O = None if base.bias is None else base.bias.to(dtype)
    cast = (tensor.to(dtype) for tensor in (x, base.weight, a_RI, b_OR))
    return _Updated.apply(*cast, bias_O, layer.scaling[name])  # type: ignore[no-untyped-call, no-any-return]


def _norm(norm: Any, own: Any, x: Tensor) -> Tensor:
    if torch.compiler.is_compiling() or {x.dtype, norm.weight.dtype} != {torch.float32}:
        return own(x)  # type: ignore[no-any-return]
    dtype = product_dtype(x.device)
    return _RootMeanSquareNorm.apply(x, norm.weight, norm.variance_epsilon, dtype)  # type: ignore[no-untyped-call, no-any-return]
