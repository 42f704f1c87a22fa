"""Head only: the output layer is trained, all else stands still.

In: the base model. Out: the same model with another output layer. Invariant: no other weight moves; an output layer that is the
embedding too (tied) moves in both places, and the log says so.
"""

from typing import Any, ClassVar, Literal

from tasks.core.errors import RecipeError
from tasks.tuning.prepared import Method, Prepared, train_only, unchanged


class HeadSpec(Method):
    """Train the output layer only."""

    kind: Literal["head"]
    own_rate: ClassVar[float | None] = 1e-3

    def prepare(self, model: Any, seed: int) -> Prepared:
        """Freezes all but the output layer."""
        head = model.get_output_embeddings()
        if head is None:
            raise RecipeError(f"{type(model).__name__} has no output layer to train; set tune.method.kind to full or lora")
        members = {id(weight) for weight in head.parameters()}
        names = {name for name, weight in model.named_parameters() if id(weight) in members}
        train_only(model, names)
        shared = any(weight is model.get_input_embeddings().weight for weight in head.parameters())
        notes = ("the output layer is the embedding too (model.tie_embeddings): both move",) if shared else ()
        return Prepared(model, unchanged(model), notes=notes)
