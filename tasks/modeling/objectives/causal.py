"""The causal objective: predict each next token.

In: a model and a batch whose targets are shifted already. Out: the summed cross entropy. Invariant: a position whose
target is IGNORED adds nothing; no document sees another one.
"""

from typing import TYPE_CHECKING, Any, Literal

from tasks.core.artifact import Spec

if TYPE_CHECKING:
    import torch

    from tasks.modeling.batches import Batch


class CausalSpec(Spec):
    """Next-token prediction."""

    kind: Literal["causal"]

    def loss(self, model: Any, batch: "Batch") -> "torch.Tensor":
        """Returns the summed cross entropy, in nats, over the targets of `batch`."""
        from tasks.modeling.model import token_losses

        return token_losses(model, batch).sum()
