"""Which weights learn how fast, and when: what a tuning method may ask of the loop.

In: factors by the name of a weight, and a rule of what stands still. Out: a `WeightPlan` the loop follows. Invariants: what
a step leaves alone is a function of the step alone, so that a resumed training freezes the same weights; a weight that
stands still gets no gradient, hence no decay and no moments. Nothing here imports torch.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class WeightPlan:
    """How the weights of a model are trained; by default all alike, from the first step to the last.

    Attributes:
        rate_factors: Share of the learning rate by name of the weight; 1 for those not named.
        frozen: Names of the weights that the step after `step` steps and so many `epochs` of data leaves alone; none: none.
    """

    rate_factors: Mapping[str, float] = field(default_factory=dict)
    frozen: Callable[[int, float], Collection[str]] | None = None

    def drop_gradients(self, model: Any, step: int, epochs: float) -> None:
        """Takes the gradients of what stands still; optimisers and the norm pass such weights by."""
        if self.frozen is None:
            return
        still = frozenset(self.frozen(step, epochs))
        for name, weight in model.named_parameters():
            if name in still:
                weight.grad = None
