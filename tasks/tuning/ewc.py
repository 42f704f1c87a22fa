"""Elastic weight consolidation: weights that the old text hangs on are held back (Kirkpatrick et al., arXiv:1612.00796).

In: the diagonal of the Fisher information, and the weights before tuning. Out: the loss with strength / 2 * sum_i F_i
(w_i - w*_i)^2 added. Invariant: the penalty is of the training loss only, once a step, however that is cut into micro-batches.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from tasks.core.artifact import Spec
from tasks.core.errors import RecipeError
from tasks.tuning.fisher import FISHER_NAME

if TYPE_CHECKING:
    from torch import Tensor

    from tasks.modeling.batches import Batch

    Loss = Callable[[Any, Batch], Tensor]


class EwcSpec(Spec):
    """How strongly weights are held, and how much old text tells which."""

    strength: Annotated[float, Field(gt=0, description="Factor of the penalty; its best value differs by orders of magnitude.")]
    num_rows: Annotated[
        int, Field(ge=1, description="Rows of the pretraining corpus that the Fisher information is a mean of.")
    ] = 64

    def held(self, loss: "Loss", model: Any, folder: Path) -> "Loss":
        """Returns the loss with the penalty for leaving the weights that the model has now.

        Args:
            loss: Summed loss of a batch.
            model: As it is before training; two more copies of its trained weights are kept.
            folder: Holds the Fisher information.

        Raises:
            RecipeError: The method trains none of the base's own weights.
        """
        from safetensors.torch import load_file

        fisher = load_file(folder / FISHER_NAME)
        trained = {name: weight for name, weight in model.named_parameters() if weight.requires_grad and name in fisher}
        if not trained:
            raise RecipeError(
                "tune.ewc holds the base's weights, and this tune.method moves none of them; set tune.ewc to off, or "
                "tune.method.kind to full, top_layers, freeze, layer_decay or gradual"
            )
        start = {name: weight.detach().clone() for name, weight in trained.items()}

        def held(model: Any, batch: "Batch") -> "Tensor":
            plain = loss(model, batch)
            if not model.training:
                return plain
            weights = {name: weight for name, weight in model.named_parameters() if name in start}
            return plain + batch.num_targets * penalty(weights, start, fisher, self.strength)

        return held


def penalty(
    weights: Mapping[str, "Tensor"], start: Mapping[str, "Tensor"], fisher: Mapping[str, "Tensor"], strength: float
) -> "Tensor":
    """Returns strength / 2 * sum_i F_i (w_i - w*_i)^2 over the named weights."""
    parts = []
    for name, weight in weights.items():
        moved = weight - start[name].to(weight.device)
        parts.append((fisher[name].to(weight.device) * moved.square()).sum())
    return strength / 2 * sum(parts[1:], parts[0])
