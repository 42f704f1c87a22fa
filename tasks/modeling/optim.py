# ruff: noqa: TID253  (runs in training children only; holds no Spec)
"""The optimiser of a model.

In: a model and an `OptimSpec`. Out: AdamW, or Muon on the hidden matrices with AdamW on the rest, as one optimiser. Invariants:
each weight that is trained is in one group; the learning rate of each group is set before each step by a pure function of
the step and the group's own peak (`tasks.modeling.specs.learning_rate`); the optimiser never schedules itself.
"""

from typing import Any

import torch

from tasks.modeling.specs import MuonSpec, OptimSpec, Schedule, learning_rate

Weights = dict[str, torch.nn.Parameter]


class Together(torch.optim.Optimizer):
    """Optimisers of different weights as one: one list of groups, one state."""

    def __init__(self, parts: list[torch.optim.Optimizer]) -> None:
        super().__init__([group for part in parts for group in part.param_groups], {})
        self._parts = parts
        for part in parts:
            part.state = self.state

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Updates the weights of every part."""
        for part in self._parts:
            part.step()


def build_optimizer(model: Any, spec: OptimSpec) -> torch.optim.Optimizer:
    """Returns the optimiser of the weights that are trained; vectors (norms, biases) are not decayed."""
    trained = trained_weights(model)
    if not isinstance(spec, MuonSpec):
        return _adamw(trained, spec)
    hidden = hidden_matrices(model)
    rest = {name: weight for name, weight in trained.items() if name not in hidden}
    parts = [_muon(hidden, spec)] if hidden else []
    return Together([*parts, _adamw(rest, spec)] if rest else parts)


def _adamw(weights: Weights, spec: OptimSpec) -> torch.optim.Optimizer:
    groups = [
        {"params": [weight for weight in weights.values() if weight.ndim >= 2], "weight_decay": spec.weight_decay},
        {"params": [weight for weight in weights.values() if weight.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group | {"peak": spec.learning_rate} for group in groups if group["params"]],
        lr=spec.learning_rate,
        betas=(spec.beta1, spec.beta2),
        eps=spec.epsilon,
        fused=True,
    )


def _muon(weights: Weights, spec: MuonSpec) -> torch.optim.Optimizer:
    return torch.optim.Muon(
        [{"params": list(weights.values()), "peak": spec.matrix_learning_rate}],
        lr=spec.matrix_learning_rate,
        weight_decay=spec.weight_decay,
        momentum=spec.momentum,
        adjust_lr_fn="match_rms_adamw",
    )


def trained_weights(model: Any) -> Weights:
    """Returns the weights that are trained, by name; shared ones once."""
    return {name: weight for name, weight in model.named_parameters() if weight.requires_grad}


def hidden_matrices(model: Any) -> Weights:
    """Returns the trained matrices between the embeddings and the output layer, which Muon is made for."""
    embeddings = {id(module.weight) for module in model.modules() if isinstance(module, torch.nn.Embedding)}
    backbone = {id(weight) for weight in model.base_model.parameters()}
    return {
        name: weight
        for name, weight in trained_weights(model).items()
        if weight.ndim == 2 and id(weight) in backbone - embeddings
    }


def set_learning_rate(optimizer: torch.optim.Optimizer, schedule: Schedule, step: int, num_steps: int) -> None:
    """Sets the learning rate of each group for the update that leads from `step` to `step + 1`."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(group["peak"], schedule, step, num_steps)
