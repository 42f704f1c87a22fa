# ruff: noqa: TID253  (runs in training children only; holds no Spec)
"""The optimiser of a model.

In: a model and an `OptimSpec`. Out: AdamW, or Muon on the hidden matrices with AdamW on the rest, as one optimiser. Invariants:
each weight that is trained is in one group; the learning rate of each group is set before each step by a pure function of
the step and the group's own peak (`tasks.modeling.specs.learning_rate`); the optimiser never schedules itself.
"""

from collections.abc import Mapping
from typing import Any

import torch

from tasks.modeling.muon import Muon
from tasks.modeling.specs import MuonSpec, OptimSpec, ResolvedPrecision, Schedule, learning_rate

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


def build_optimizer(
    model: Any, spec: OptimSpec, rate_factors: Mapping[str, float] | None = None, precision: ResolvedPrecision = "fp32"
) -> torch.optim.Optimizer:
    """Returns the optimiser of the weights that are trained; vectors (norms, biases, scales) are not decayed.

    Args:
        model: Holds the weights.
        spec: What the optimiser is told.
        rate_factors: Share of the learning rate by name of the weight; 1 for those not named.
        precision: Number format of the training's products; Muon orthogonalises in bf16 where that is it, else in fp32.
    """
    factors = rate_factors or {}
    trained = trained_weights(model)
    if not isinstance(spec, MuonSpec):
        return _adamw(trained, spec, factors)
    hidden = hidden_matrices(model)
    rest = {name: weight for name, weight in trained.items() if name not in hidden}
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    parts = [_muon(hidden, spec, factors, dtype)] if hidden else []
    return Together([*parts, _adamw(rest, spec, factors)] if rest else parts)


def _adamw(weights: Weights, spec: OptimSpec, factors: Mapping[str, float]) -> torch.optim.Optimizer:
    groups = [
        {"params": [one for name, one in weights.items() if not _is_vector(name, one)], "weight_decay": spec.weight_decay},
        {"params": [one for name, one in weights.items() if _is_vector(name, one)], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        by_rate([group | {"peak": spec.peak} for group in groups if group["params"]], weights, factors),
        lr=spec.peak,
        betas=(spec.beta1, spec.beta2),
        eps=spec.epsilon,
        fused=True,
    )


def _muon(weights: Weights, spec: MuonSpec, factors: Mapping[str, float], dtype: torch.dtype) -> torch.optim.Optimizer:
    return Muon(
        by_rate([{"params": list(weights.values()), "peak": spec.matrix_learning_rate}], weights, factors),
        dtype,
        lr=spec.matrix_learning_rate,
        weight_decay=spec.weight_decay,
        momentum=spec.momentum,
    )


def trained_weights(model: Any) -> Weights:
    """Returns the weights that are trained, by name; shared ones once."""
    return {name: weight for name, weight in model.named_parameters() if weight.requires_grad}


def hidden_matrices(model: Any) -> Weights:
    """Returns the trained matrices between the embeddings and the output layer, which Muon is made for."""
    outer = [module for module in model.modules() if isinstance(module, torch.nn.Embedding)]
    if (output := model.get_output_embeddings()) is not None:  # it lies in the backbone where a model is its own
        outer.append(output)
    outside = {id(module.weight) for module in outer}
    backbone = {id(weight) for weight in model.base_model.parameters()}
    return {
        name: weight
        for name, weight in trained_weights(model).items()
        if weight.ndim == 2 and not _is_vector(name, weight) and id(weight) in backbone - outside
    }


def _is_vector(name: str, weight: torch.nn.Parameter) -> bool:
    """Whether it is one: also IA3's scales, whose neutral value is 1, though peft keeps them as matrices of one row or column."""
    return weight.ndim < 2 or ".ia3_l." in name


def set_learning_rate(optimizer: torch.optim.Optimizer, schedule: Schedule, step: int, num_steps: int) -> None:
    """Sets the learning rate of each group for the update that leads from `step` to `step + 1`."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(group["peak"], schedule, step, num_steps)


def by_rate(groups: list[dict[str, Any]], weights: Weights, factors: Mapping[str, float]) -> list[dict[str, Any]]:
    """Returns the groups, cut so that each has one share of the learning rate, which its `peak` is then of."""
    share = {id(weight): factors.get(name, 1.0) for name, weight in weights.items()}
    return [
        group | {"params": [weight for weight in group["params"] if share[id(weight)] == factor], "peak": group["peak"] * factor}
        for group in groups
        for factor in sorted({share[id(weight)] for weight in group["params"]}, reverse=True)
    ]
