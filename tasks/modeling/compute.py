"""How a model is computed while it is trained: compiled, with activations recomputed.

In: a model and a `Compute`. Out: the same model for a while. Invariant: what is learned changes by rounding only, and the model
is afterwards as it was.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tasks.core.errors import RecipeError
from tasks.modeling.job import Compute
from tasks.modeling.layers import layer_list
from tasks.modeling.virtual import has_virtual_tokens

_log = logging.getLogger("textmill.train")


@contextmanager
def computed(model: Any, compute: Compute, *, any_shape: bool = False) -> Iterator[None]:
    """Lets a model of `transformers` be computed as `compute` says, until the end of the block.

    Args:
        model: The model.
        compute: How.
        any_shape: Whether steps are of many shapes. Code for any is slower; code for each ends at torch's eighth.
    """
    compiled = _compiled_parts(model) if compute.compile else []
    # A forward pass of its own is another object in each layer: each would be compiled by itself.
    own = {module: vars(module).pop("forward") for part in compiled for module in part.modules() if "forward" in vars(module)}
    if compute.recompute_activations:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    for part in compiled:
        part.compile(dynamic=any_shape)
    try:
        yield
    finally:
        for part in compiled:
            part._compiled_call_impl = None  # what `Module.compile` sets; it offers no way back
        for module, forward in own.items():
            module.forward = forward
        if compute.recompute_activations:
            model.gradient_checkpointing_disable()


def _compiled_parts(model: Any) -> list[Any]:
    """Returns what is compiled: each layer, since equal layers share one compiled code, or all where layers are not in one list.

    Encoder and decoder are called one by one, and taken apart so. The output layer is left alone: it sees another number of
    targets each time. Nothing is compiled where layers start from a filled cache: each takes another entry, and would have a code
    of its own.
    """
    if has_virtual_tokens(model):
        _log.info("not compiled: layers that read virtual tokens would have a code each")
        return []
    backbone = model.base_model
    if backbone.config.is_encoder_decoder and hasattr(backbone, "decoder"):
        return [*_layers(backbone.encoder), *_layers(backbone.decoder)]
    return _layers(backbone)


def _layers(stack: Any) -> list[Any]:
    try:
        return list(layer_list(stack)[1])
    except RecipeError:
        return [stack]
