"""Layer-wise learning rate decay: lower layers learn slower (Howard and Ruder, arXiv:1801.06146; Clark et al., arXiv:2003.10555).

In: the base model. Out: the same model, all of it trained. Invariant: layer l of L learns at rate * decay^(L - l); the
embeddings are layer 0, and what comes after the layers learns at the full rate.
"""

from typing import Annotated, Any, Literal

from pydantic import Field

from tasks.modeling.layers import depths
from tasks.modeling.plan import WeightPlan
from tasks.tuning.prepared import Method, Prepared, unchanged


class LayerDecaySpec(Method):
    """Train all weights, lower layers at a lower rate."""

    kind: Literal["layer_decay"]
    decay: Annotated[
        float, Field(gt=0, le=1, description="Rate of a layer as a share of the one above (ELECTRA: 0.8; ULMFiT: 1/2.6).")
    ] = 0.8

    def prepare(self, model: Any, seed: int) -> Prepared:
        """Gives each weight the share of its layer."""
        found, num_layers = depths(model)
        factors = {name: self.factor(depth, num_layers) for name, depth in found.items()}
        shares = ", ".join(f"layer {depth} x{self.factor(depth, num_layers):.4g}" for depth in range(num_layers + 1))
        notes = (f"learning rate by layer (0: embeddings): {shares}, above them x1",)
        return Prepared(model, unchanged(model), WeightPlan(factors), notes)

    def factor(self, depth: int, num_layers: int) -> float:
        """Returns the share of the learning rate of what stands at `depth` (see `tasks.modeling.layers.depths`)."""
        return float(self.decay ** max(0, num_layers - depth))
