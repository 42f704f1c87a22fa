"""The tuning methods on labelled text, where a new head is always trained.

In: a base with a head. Out: a `Prepared`. Invariant: whatever the method leaves alone, the head's new modules learn. Methods
without a plain form (bottleneck, prefix, prompt) and 4-bit bases are not offered: a labelled model is kept and served as one
plain `transformers` folder.
"""

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field

from tasks.tuning.full import FullSpec
from tasks.tuning.gradual import GradualSpec
from tasks.tuning.head import HeadSpec
from tasks.tuning.ia3 import Ia3Spec
from tasks.tuning.layer_decay import LayerDecaySpec
from tasks.tuning.lora import LoraSpec
from tasks.tuning.prepared import Prepared, train_only, unchanged
from tasks.tuning.some_layers import FreezeSpec, TopLayersSpec

LabelledMethodSpec = Annotated[
    FullSpec | HeadSpec | TopLayersSpec | FreezeSpec | LayerDecaySpec | GradualSpec | LoraSpec | Ia3Spec,
    Field(discriminator="kind"),
]


def prepare_with_head(method: LabelledMethodSpec, model: Any, new: Sequence[str], seed: int) -> Prepared:
    """Returns what is trained.

    Args:
        method: How the rest of the model is trained.
        model: A model with a head.
        new: Names of the modules the base did not have; none: its head goes on, and is trained just so.
        seed: Seed of what the method adds.
    """
    head = tuple(new) or _above_base(model)
    if isinstance(method, LoraSpec | Ia3Spec):
        return method.prepare(model, seed, head)
    if isinstance(method, HeadSpec):
        train_only(model, _weights(model, head))
        return Prepared(model, unchanged(model), notes=(f"the head alone is trained: {', '.join(head)}",))
    prepared = method.prepare(model, seed)
    for name in _weights(model, head):
        model.get_parameter(name).requires_grad_(True)
    return prepared


def _above_base(model: Any) -> tuple[str, ...]:
    """Returns the names of the modules with weights beside the base."""
    children = ((name, module) for name, module in model.named_children() if name != model.base_model_prefix)
    return tuple(name for name, module in children if next(module.parameters(), None) is not None)


def _weights(model: Any, modules: Sequence[str]) -> set[str]:
    inside = tuple(f"{name}." for name in modules)
    return {name for name, _ in model.named_parameters() if name.startswith(inside)}
