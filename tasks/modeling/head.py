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

_LARGE_BYTES = 1 << 27  # of logits in fp32; smaller ones torch takes as fast
_ROWS_AT_ONCE = 32  # which fit into a core's cache


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
    if logits_NV.requires_grad and logits_NV.device.type == "cpu" and 4 * logits_NV.numel() >= _LARGE_BYTES:
        losses_N, log_z_N = _cross_entropy(logits_NV, targets_N)
        return losses_N if z_loss is None else losses_N + z_loss * log_z_N.square()
    logits_NV = logits_NV.float()
    losses_N = F.cross_entropy(logits_NV, targets_N, reduction="none")
    return losses_N if z_loss is None else losses_N + z_loss * logits_NV.logsumexp(dim=-1).square()


class _CrossEntropy(torch.autograd.Function):
    """Cross entropy and log Z, in fp32, whose gradient takes the place of the logits; torch would hold them three times.

    Logits in bf16 are never held in fp32 as a whole. The backward pass runs once: the second finds the logits changed, which
    autograd refuses.
    """

    @staticmethod
    def forward(ctx: Any, logits_NV: Tensor, targets_N: Tensor) -> tuple[Tensor, Tensor]:
        log_z_N = torch.cat([_log_z(part) for part in torch.split(logits_NV, _ROWS_AT_ONCE)])
        ctx.save_for_backward(logits_NV, targets_N, log_z_N)
        return log_z_N - logits_NV.gather(1, targets_N[:, None])[:, 0].float(), log_z_N

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_losses_N: Tensor, grad_log_z_N: Tensor) -> tuple[Tensor, None]:
        logits_NV, targets_N, log_z_N = ctx.saved_tensors
        columns = (targets_N, log_z_N, grad_losses_N, grad_losses_N + grad_log_z_N)
        parts = (torch.split(tensor, _ROWS_AT_ONCE) for tensor in (logits_NV, *(column[:, None] for column in columns)))
        for logits, targets, log_z, grad_losses, grad_sum in zip(*parts, strict=True):
            grads = logits.float().sub_(log_z).exp_().mul_(grad_sum)  # the part itself, if it is in fp32
            logits.copy_(grads.scatter_add_(1, targets, -grad_losses))
        return logits_NV, None


def _log_z(logits_NV: Tensor) -> Tensor:
    peak_N1 = logits_NV.amax(dim=-1, keepdim=True).float()
    return logits_NV.sub(peak_N1).exp_().sum(dim=-1).log_().add_(peak_N1[:, 0])


def _cross_entropy(logits_NV: Tensor, targets_N: Tensor) -> tuple[Tensor, Tensor]:
    found: tuple[Tensor, Tensor] = _CrossEntropy.apply(logits_NV, targets_N)  # type: ignore[no-untyped-call]
    return found
