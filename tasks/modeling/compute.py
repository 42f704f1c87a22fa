"""How a model is computed while it is trained: with activations recomputed.

In: a model and a `Compute`. Out: the same model for a while. Invariant: what is learned changes by rounding only, and the model
is afterwards as it was.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tasks.modeling.job import Compute


@contextmanager
def computed(model: Any, compute: Compute) -> Iterator[None]:
    """Lets a model of `transformers` be computed as `compute` says, until the end of the block."""
    if compute.recompute_activations:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    try:
        yield
    finally:
        if compute.recompute_activations:
            model.gradient_checkpointing_disable()
