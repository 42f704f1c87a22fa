# ruff: noqa: TID253  (runs in training and scoring children only; holds no Spec)
"""The output layer and its loss, whole or a few rows at a time.

In: hidden states and targets. Out: the loss of each target. Invariant: rows at a time change memory and rounding, nothing else.

Shapes: N targets, W width, V vocabulary.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

Head = Callable[[Tensor], Tensor]

_NUMBERS_AT_ONCE = 1 << 19  # of logits; in fp32 they fit into the caches


@dataclass(frozen=True, slots=True)
class HeadLoss:
    """How the loss of the output layer is taken.

    Attributes:
        z_loss: Weight of the square of log Z in what is trained on (Chowdhery et al., arXiv:2204.02311); never in what is
            measured. Z is the sum of the exponentials of the logits.
        chunk_tokens: Targets whose logits are held at once, to be computed again in the backward pass; none: all.
    """

    z_loss: float | None = None
    chunk_tokens: int | None = None


def set_head_loss(model: Any, how: HeadLoss) -> None:
    """Lets a model's losses be taken like this from now on."""
    model.head_loss = how


def target_losses(model: Any, head: Head, hidden_NW: Tensor, targets_N: Tensor) -> Tensor:
    """Returns the loss (N,) in nats of each target, taken as `set_head_loss` said."""
    how: HeadLoss = getattr(model, "head_loss", HeadLoss())
    z_loss = how.z_loss if model.training else None
    if how.chunk_tokens is None or len(targets_N) <= how.chunk_tokens:
        return _losses(head, hidden_NW, targets_N, z_loss)
    parts = zip(torch.split(hidden_NW, how.chunk_tokens), torch.split(targets_N, how.chunk_tokens), strict=True)
    return torch.cat([checkpoint(_losses, head, *part, z_loss, use_reentrant=False) for part in parts])


def _losses(head: Head, hidden_NW: Tensor, targets_N: Tensor, z_loss: float | None) -> Tensor:
    logits_NV = head(hidden_NW)
    if logits_NV.requires_grad and logits_NV.device.type == "cpu":
        losses_N, log_z_N = _cross_entropy(logits_NV, targets_N)
        return losses_N if z_loss is None else losses_N + z_loss * log_z_N.square()
    logits_NV = logits_NV.float()
    losses_N = F.cross_entropy(logits_NV, targets_N, reduction="none")
    return losses_N if z_loss is None else losses_N + z_loss * logits_NV.logsumexp(dim=-1).square()


class _CrossEntropy(torch.autograd.Function):
    """Cross entropy and log Z, in fp32. The softmax takes the place of the logits, its gradient the place of the softmax.

    Torch would hold them three times. Logits in bf16 are never held in fp32 as a whole. The backward pass runs once: the second
    finds the softmax changed, which autograd refuses.
    """

    @staticmethod
    def forward(ctx: Any, logits_NV: Tensor, targets_N: Tensor) -> tuple[Tensor, Tensor]:
        at_targets_N = logits_NV.gather(1, targets_N[:, None])[:, 0].float()
        rows_at_once = max(1, _NUMBERS_AT_ONCE // logits_NV.shape[1])
        log_z_N = torch.cat([_take_softmax(part) for part in torch.split(logits_NV, rows_at_once)])
        losses_N = log_z_N - at_targets_N
        ctx.save_for_backward(logits_NV, targets_N, losses_N)
        return losses_N, log_z_N

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_losses_N: Tensor, grad_log_z_N: Tensor) -> tuple[Tensor, None]:
        grads_NV, targets_N, losses_N = ctx.saved_tensors
        grad_sums_N = grad_losses_N + grad_log_z_N
        grads_NV.mul_(grad_sums_N[:, None].to(grads_NV.dtype))
        # From the loss, which is in fp32: near 1 a softmax in bf16 has too few digits to be told from 1.
        at_targets_N = torch.exp(-losses_N) * grad_sums_N - grad_losses_N
        grads_NV[torch.arange(len(targets_N)), targets_N] = at_targets_N.to(grads_NV.dtype)  # `scatter_` copies all of them
        return grads_NV, None


def _take_softmax(logits_NV: Tensor) -> Tensor:
    """Puts the softmax in the place of the logits; returns log Z (N,) in fp32."""
    peaks_N, shares_NV = logits_NV.amax(dim=-1).float(), torch.softmax(logits_NV, dim=-1, dtype=torch.float32)
    logits_NV.copy_(shares_NV)
    return peaks_N - shares_NV.amax(dim=-1).log_()


def _cross_entropy(logits_NV: Tensor, targets_N: Tensor) -> tuple[Tensor, Tensor]:
    found: tuple[Tensor, Tensor] = _CrossEntropy.apply(logits_NV, targets_N)  # type: ignore[no-untyped-call]
    return found
