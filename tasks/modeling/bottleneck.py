# ruff: noqa: TID253  (runs in training and scoring children only; holds no Spec)
"""Bottleneck adapters: h + up(act(down h)) after attention and after feed-forward (Houlsby et al., arXiv:1902.00751).

In: a model of `transformers`. Out: the same model with two adapters a layer, before each is added to the stream. Invariant:
`up` starts at 0, so nothing changes at first, to the bit.

Shapes: W width of the model, S size of the bottleneck.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tasks.core.errors import RecipeError
from tasks.modeling.layers import layer_list

# Where attention and feed-forward end, by architecture: what they put out before it is added to the stream.
_ENDS = (
    ("self_attn", "mlp"),
    ("attn", "mlp"),
    ("attention", "mlp"),
    ("self_attention", "mlp"),
    ("self_attn", "fc2"),
    ("attention.output.dense", "output.dense"),
)
_ACTIVATIONS = {"gelu": torch.nn.functional.gelu, "relu": torch.relu, "silu": torch.nn.functional.silu}
_NAME = "bottleneck"
_DOWN_STD = 0.02


class Bottleneck(torch.nn.Module):
    """Two linear layers (W to S, S to W) around an activation, beside a straight way through."""

    def __init__(self, width: int, size: int, activation: str) -> None:
        super().__init__()
        self.down, self.up = torch.nn.Linear(width, size), torch.nn.Linear(size, width)
        self._activation = _ACTIVATIONS[activation]
        torch.nn.init.normal_(self.down.weight, std=_DOWN_STD)
        for weight in (self.down.bias, self.up.weight, self.up.bias):
            torch.nn.init.zeros_(weight)

    def forward(self, hidden_BTW: Tensor) -> Tensor:
        """Returns h + up(act(down h))."""
        changed: Tensor = hidden_BTW + self.up(self._activation(self.down(hidden_BTW)))
        return changed


def size_for_share(model: Any, share: float) -> int:
    """Returns the size at which the adapters hold about `share` of the model's weights; at least 1."""
    _, layers = layer_list(model)
    width = model.config.get_text_config().hidden_size
    weights_each = share * sum(weight.numel() for weight in model.parameters()) / (2 * len(layers))
    return max(1, int((weights_each - width) / (2 * width + 1) + 0.5))


def add_bottlenecks(model: Any, size: int, activation: str) -> None:
    """Puts two adapters into each layer.

    Raises:
        RecipeError: The layers of this architecture end in no place that is known.
    """
    _, layers = layer_list(model)
    width = model.config.get_text_config().hidden_size
    for layer in layers:
        for number, end in enumerate(_ends(layer)):
            adapter = Bottleneck(width, size, activation)
            layer.add_module(f"{_NAME}_{number}", adapter)
            layer.get_submodule(end).register_forward_hook(_Through(adapter))


def _ends(layer: Any) -> tuple[str, str]:
    names = {name for name, _ in layer.named_modules()}
    for pair in _ENDS:
        if names.issuperset(pair):
            return pair
    children = ", ".join(name for name, _ in layer.named_children())
    raise RecipeError(
        f"{type(layer).__name__} has no attention and feed-forward of known names (it has {children}); "
        "set tune.method.kind to lora, ia3 or full"
    )


class _Through:
    """Sends what a module puts out through an adapter; an object, so that a copy of the model runs the copy's adapter."""

    def __init__(self, adapter: Bottleneck) -> None:
        self._adapter = adapter

    def __call__(self, module: Any, inputs: Any, output: Any) -> Any:
        return (self._adapter(output[0]), *output[1:]) if isinstance(output, tuple) else self._adapter(output)


def bottleneck_weights(model: Any) -> dict[str, torch.nn.Parameter]:
    """Returns the weights of the adapters by name."""
    return {name: weight for name, weight in model.named_parameters() if f".{_NAME}_" in name}


def _places(model: Any) -> dict[str, str]:
    """Returns, for the name of each adapter, that of the module it follows: who loads it need not know the architecture."""
    name, layers = layer_list(model)
    return {
        f"{name}.{depth}.{_NAME}_{number}": f"{name}.{depth}.{end}"
        for depth, layer in enumerate(layers)
        for number, end in enumerate(_ends(layer))
    }


def save_bottlenecks(model: Any, folder: Path, size: int, activation: str) -> None:
    """Writes the adapters alone."""
    folder.mkdir(parents=True)
    weights = {name: weight.detach().cpu().contiguous() for name, weight in bottleneck_weights(model).items()}
    save_file(weights, folder / f"{_NAME}.safetensors")
    about = {"size": size, "activation": activation, "after": _places(model)}
    (folder / f"{_NAME}.json").write_text(json.dumps(about, indent=1), encoding="utf-8")


def load_bottlenecks(model: Any, folder: Path) -> None:
    """Puts saved adapters into a model."""
    about = json.loads((folder / f"{_NAME}.json").read_text(encoding="utf-8"))
    add_bottlenecks(model, about["size"], about["activation"])
    stored = load_file(folder / f"{_NAME}.safetensors")
    with torch.no_grad():
        for name, weight in bottleneck_weights(model).items():
            weight.copy_(stored[name])
