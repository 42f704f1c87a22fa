"""Bottleneck adapters: small networks after attention and after feed-forward (Houlsby et al., arXiv:1902.00751).

In: the base model. Out: an adapter folder; there is no plain form. Invariants: training starts at the base, to the bit; the
base's weights never move.
"""

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from tasks.tuning.prepared import Method, Prepared, train_only

_SHARE = 0.02  # of the model's weights, the middle of the 0.5 to 5% that Houlsby et al. try


class BottleneckSpec(Method):
    """Train two small networks in each layer."""

    kind: Literal["bottleneck"]
    size: Annotated[
        int | None, Field(ge=1, le=8192, description="Width of their middle; none: so that they are 2% of the model.")
    ] = None
    activation: Annotated[Literal["gelu", "relu", "silu"], Field(description="Function in their middle.")] = "gelu"
    own_rate: ClassVar[float | None] = 2e-3
    has_plain_form: ClassVar[bool] = False

    def prepare(self, model: Any, seed: int) -> Prepared:
        """Freezes the model and puts adapters into its layers."""
        import torch

        from tasks.modeling.bottleneck import add_bottlenecks, bottleneck_weights, save_bottlenecks, size_for_share

        size = size_for_share(model, _SHARE) if self.size is None else self.size
        torch.manual_seed(seed)
        add_bottlenecks(model, size, self.activation)
        train_only(model, set(bottleneck_weights(model)))

        def finish(folder: Path) -> None:
            save_bottlenecks(model, folder, size, self.activation)

        return Prepared(model, finish, notes=(f"bottlenecks of size {size}",))
