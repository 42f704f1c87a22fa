"""Where a weight stands in a model: before the layers, in one of them, or after them.

In: any model of `transformers` that keeps its layers in one list. Out: the list, and the depth of each weight. Invariant:
found by structure, not by architecture: the list that has as many members as the configuration has layers.
"""

from typing import Any

from tasks.core.errors import RecipeError


def layer_list(model: Any) -> tuple[str, Any]:
    """Returns the name and the list of a model's layers.

    Raises:
        RecipeError: There is none, or more than one (an encoder with a decoder).
    """
    from torch.nn import ModuleList

    num_layers = model.config.get_text_config().num_hidden_layers
    lists = {name: module for name, module in model.named_modules() if isinstance(module, ModuleList)}
    found = {name: module for name, module in lists.items() if len(module) == num_layers and not _inside(name, lists)}
    if len(found) != 1:
        raise RecipeError(
            f"{type(model).__name__} has {len(found)} lists of {num_layers} layers (its lists: {', '.join(lists) or 'none'}), so "
            "layers cannot be counted; use a tune.method that counts none: full, lora, ia3"
        )
    return next(iter(found.items()))


def _inside(name: str, lists: dict[str, Any]) -> bool:
    return any(name.startswith(f"{other}.") for other in lists)


def depths(model: Any) -> tuple[dict[str, int], int]:
    """Returns the depth of each weight, and the number of layers L.

    Depth 0 is what comes before the layers (embeddings), 1 to L the layers, L + 1 what comes after them (last norm, output
    layer). A matrix that embedding and output layer share stands at 0.
    """
    prefix, layers = layer_list(model)
    found: dict[str, int] = {}
    below = True
    for name, _ in model.named_parameters():
        inside = name.startswith(f"{prefix}.")
        below = below and not inside
        found[name] = int(name.removeprefix(f"{prefix}.").split(".")[0]) + 1 if inside else 0 if below else len(layers) + 1
    return found, len(layers)
