"""Where a weight stands in a model: before the layers, in one of them, or after them.

In: any model of `transformers` that keeps its layers in one list. Out: the list, and the depth of each weight. Invariant:
found by structure, not by architecture: the list that has as many members as the configuration has layers.
"""

from collections.abc import Iterable
from typing import Any

from tasks.core.errors import RecipeError

# Modules that stand elsewhere among the parameters than where they are used, by architecture.
_BEFORE = ("rel_embeddings", "relative_attention_bias")  # DeBERTa, MPNet
_AFTER = ("final_layer_norm", "project_out")  # OPT


def layer_list(model: Any) -> tuple[str, Any]:
    """Returns the name and the list of a model's layers.

    Raises:
        RecipeError: There is none, or more than one (an encoder with a decoder).
    """
    from torch.nn import ModuleList

    num_layers = model.config.get_text_config().num_hidden_layers
    lists = {name: module for name, module in model.named_modules() if isinstance(module, ModuleList)}
    found = {name: module for name, module in lists.items() if len(module) == num_layers and not _inside(name, lists)}
    if len(found) != 1 or (model.config.is_encoder_decoder and _has_both(lists)):
        raise RecipeError(
            f"{type(model).__name__} has {len(found)} lists of {num_layers} layers (its lists: {', '.join(lists) or 'none'}), so "
            "layers cannot be counted; use a tune.method that counts none: full, lora, ia3"
        )
    return next(iter(found.items()))


def _inside(name: str, lists: dict[str, Any]) -> bool:
    return any(name.startswith(f"{other}.") for other in lists)


def _has_both(names: Iterable[str]) -> bool:
    """Whether both parts of an encoder-decoder are there: where they differ in depth, the numbers do not tell."""
    return {"encoder", "decoder"} <= {part for name in names for part in name.split(".")}


def depths(model: Any) -> tuple[dict[str, int], int]:
    """Returns the depth of each weight, and the number of layers L.

    Depth 0 is what comes before the layers (embeddings), 1 to L the layers, L + 1 what comes after them (last norm, output
    layer). A matrix that embedding and output layer share stands at 0.
    """
    prefix, layers = layer_list(model)
    names = [name for name, _ in model.named_parameters()]
    found: dict[str, int] = {}
    below = True
    for name in names:
        inside = name.startswith(f"{prefix}.")
        below = below and not inside
        if inside:
            found[name] = int(name.removeprefix(f"{prefix}.").split(".")[0]) + 1
        else:
            found[name] = 0 if _is_before(name, names, below=below) else len(layers) + 1
    return found, len(layers)


def _is_before(name: str, names: list[str], *, below: bool) -> bool:
    """Whether a weight outside of the layers is used before them: by what its module is known for, else by the order of names."""
    owner, _, module = name.rpartition(".")[0].rpartition(".")
    if module in _AFTER:
        return False
    normalizes_positions = module == "LayerNorm" and f"{owner}.rel_embeddings.weight" in names  # DeBERTa
    return module in _BEFORE or normalizes_positions or below
