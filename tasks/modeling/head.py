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
from torch.utils.checkpoint import checkpoint

Head = Callable[[Tensor], Tensor]


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
    logits_NV = head(hidden_NW).float()
    losses_N = F.cross_entropy(logits_NV, targets_N, reduction="none")
    return losses_N if z_loss is None else losses_N + z_loss * logits_NV.logsumexp(dim=-1).square()
