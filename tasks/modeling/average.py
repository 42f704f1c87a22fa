# ruff: noqa: TID253  (runs in training children only; holds no Spec)
"""A running mean of the weights (Polyak and Juditsky, 1992), exponentially weighted.

In: the weights after each update. Out: their mean, kept as `average` in the optimiser's state, where checkpoints save it with
the moments. Invariant: a weight that was never updated has no average and stands for itself.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from tasks.modeling.optim import Weights


def update_average(optimizer: torch.optim.Optimizer, weights: Weights, decay: float, step: int) -> None:
    """Moves the mean towards the weights, `step` updates after the first one.

    Early on the mean is over few updates: its decay is at most (1 + step) / (10 + step), so that it forgets where it began.
    """
    share = 1 - min(decay, (1 + step) / (10 + step))
    with torch.no_grad():
        for weight in weights.values():
            state = optimizer.state[weight]
            if "average" in state:
                state["average"].lerp_(weight, share)
            elif state:  # an optimiser takes a state with anything in it for one that it made itself
                state["average"] = weight.detach().clone()


def adopt_average(optimizer: torch.optim.Optimizer, weights: Weights) -> None:
    """Puts the mean in the place of the weights."""
    with torch.no_grad():
        for weight in weights.values():
            weight.copy_(optimizer.state[weight].get("average", weight))


@contextmanager
def averaged(optimizer: torch.optim.Optimizer, weights: Weights) -> Iterator[None]:
    """Puts the mean in the place of the weights for a while."""
    kept = [weight.detach().clone() for weight in weights.values()]
    adopt_average(optimizer, weights)
    try:
        yield
    finally:
        with torch.no_grad():
            for weight, value in zip(weights.values(), kept, strict=True):
                weight.copy_(value)
