"""How a model is computed while it is trained: compiled, with activations recomputed.

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
    backbone = model.base_model  # the output layer sees another number of targets each time
    if compute.recompute_activations:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    if compute.compile:
        backbone.compile()
    try:
        yield
    finally:
        if compute.compile:
            backbone._compiled_call_impl = None  # what `Module.compile` sets; it offers no way back
        if compute.recompute_activations:
            model.gradient_checkpointing_disable()
