"""Some layers: the top k are trained, or the first n stand still; one rule, two dials.

In: the base model. Out: the same model, of which the top layers and what comes after them moved. Invariant: embeddings (also
where they are the output layer) and the lower layers keep their bits.
"""

import math
from typing import Annotated, Any, Literal

from pydantic import Field

from tasks.core.errors import RecipeError
from tasks.modeling.layers import depths
from tasks.tuning.prepared import Method, Prepared, train_only, unchanged


class TopLayersSpec(Method):
    """Train the top layers, the last norm and an output layer of its own."""

    kind: Literal["top_layers"]
    num_layers: Annotated[int, Field(ge=1, description="Layers trained, counted from the top.")] = 1

    def prepare(self, model: Any, seed: int) -> Prepared:
        """Freezes all below the top layers."""
        _, num_layers = depths(model)
        if self.num_layers > num_layers:
            raise RecipeError(
                f"tune.method.num_layers is {self.num_layers}, but the base has {num_layers} layers; set 1 to {num_layers}"
            )
        return _train_above(model, num_layers - self.num_layers)


class FreezeSpec(Method):
    """Freeze the embeddings and the first layers, train the rest."""

    kind: Literal["freeze"]
    num_layers: Annotated[
        int | None, Field(ge=0, description="Layers frozen, counted from the embeddings; none: half of them, rounded up.")
    ] = None

    def prepare(self, model: Any, seed: int) -> Prepared:
        """Freezes the first layers."""
        _, num_layers = depths(model)
        num_frozen = math.ceil(num_layers / 2) if self.num_layers is None else self.num_layers
        if num_frozen > num_layers:
            raise RecipeError(
                f"tune.method.num_layers is {num_frozen}, but the base has {num_layers} layers; set 0 to {num_layers}"
            )
        return _train_above(model, num_frozen)


def _train_above(model: Any, num_frozen: int) -> Prepared:
    found, num_layers = depths(model)
    train_only(model, {name for name, depth in found.items() if depth > num_frozen})
    notes = (f"embeddings and layers 1 to {num_frozen} of {num_layers} stand still" if num_frozen else "embeddings stand still",)
    return Prepared(model, unchanged(model), notes=notes)
