# ruff: noqa: TID253  (runs in training children only; holds no Spec)
"""The optimiser of a model.

In: a model and an `OptimSpec`. Out: AdamW with decay on matrices only. Invariant: the learning rate is set before each step
by a pure function of the step (`tasks.modeling.specs.learning_rate`); the optimiser never schedules itself.
"""

from collections.abc import Mapping
from typing import Any

import torch

from tasks.modeling.specs import OptimSpec


def build_optimizer(model: Any, spec: OptimSpec, rate_factors: Mapping[str, float] | None = None) -> torch.optim.AdamW:
    """Returns AdamW over the weights that are trained; vectors (norms, biases) are not decayed.

    Args:
        model: Holds the weights.
        spec: What the optimiser is told.
        rate_factors: Share of the learning rate by name of the weight; 1 for those not named.
    """
    trained = trained_weights(model)
    groups = [
        {"params": [weight for weight in trained.values() if weight.ndim >= 2], "weight_decay": spec.weight_decay},
        {"params": [weight for weight in trained.values() if weight.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        by_rate([group for group in groups if group["params"]], trained, rate_factors or {}),
        lr=spec.peak,
        betas=(spec.beta1, spec.beta2),
        eps=spec.epsilon,
        fused=True,
    )


def trained_weights(model: Any) -> dict[str, torch.nn.Parameter]:
    """Returns the weights that are trained, by name; shared ones once."""
    return {name: weight for name, weight in model.named_parameters() if weight.requires_grad}


def set_learning_rate(optimizer: torch.optim.Optimizer, value: float) -> None:
    """Sets the learning rate of all groups."""
    for group in optimizer.param_groups:
        group["lr"] = value * group["rate_factor"]


def by_rate(
    groups: list[dict[str, Any]], weights: Mapping[str, torch.nn.Parameter], factors: Mapping[str, float]
) -> list[dict[str, Any]]:
    """Returns the groups, cut so that each has one share of the learning rate, its `rate_factor`."""
    share = {id(weight): factors.get(name, 1.0) for name, weight in weights.items()}
    return [
        group | {"params": [weight for weight in group["params"] if share[id(weight)] == factor], "rate_factor": factor}
        for group in groups
        for factor in sorted({share[id(weight)] for weight in group["params"]}, reverse=True)
    ]
