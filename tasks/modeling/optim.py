# ruff: noqa: TID253  (runs in training children only; holds no Spec)
"""The optimiser of a model.

In: a model and an `OptimSpec`. Out: AdamW with decay on matrices only. Invariant: the learning rate is set before each step
by a pure function of the step (`tasks.modeling.specs.learning_rate`); the optimiser never schedules itself.
"""

from typing import Any

import torch

from tasks.modeling.specs import OptimSpec


def build_optimizer(model: Any, spec: OptimSpec) -> torch.optim.AdamW:
    """Returns AdamW over the weights that are trained; vectors (norms, biases) are not decayed."""
    trained = trained_weights(model)
    groups = [
        {"params": [weight for weight in trained.values() if weight.ndim >= 2], "weight_decay": spec.weight_decay},
        {"params": [weight for weight in trained.values() if weight.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=spec.learning_rate,
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
        group["lr"] = value
