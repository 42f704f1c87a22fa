"""IA3: keys, values and feed-forward inputs are scaled by learned vectors (Liu et al., arXiv:2205.05638), through peft.

In: the base model. Out: `adapter/` and the base with the scales merged. Invariant: the scales start at 1, so training starts at
the base; the base's weights never move.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from tasks.core.errors import RecipeError
from tasks.tuning.prepared import Method, Prepared
from tasks.tuning.through_peft import check_targets, is_target, linear_names, merge, peft_task, save_adapter

# Keys, values and feed-forward, whose inputs are scaled, as most architectures name them; peft knows them for some by name.
_USUAL = ((("k_proj", "v_proj", "down_proj"), ("down_proj",)), (("key", "value", "output.dense"), ("output.dense",)))


class Ia3Spec(Method):
    """Train one scale a channel of keys, values and feed-forward inputs."""

    kind: Literal["ia3"]
    targets: Annotated[
        tuple[str, ...] | None,
        Field(
            min_length=1,
            description="Linear layers whose outputs are scaled; none: keys, values and feed-forward, by their usual names.",
        ),
    ] = None
    feedforward: Annotated[
        tuple[str, ...], Field(description="Those of the targets whose inputs are scaled instead; only read with targets.")
    ] = ()
    own_rate: ClassVar[float | None] = 1e-2

    def prepare(self, model: Any, seed: int, head: Sequence[str] = ()) -> Prepared:
        """Freezes the model, but for the modules of a new head, and puts scales beside its layers."""
        import torch
        from peft import get_peft_model

        torch.manual_seed(seed)
        adapted = get_peft_model(model, self._config(model, head))

        def finish(folder: Path) -> Any:
            adapted.eval()
            save_adapter(adapted, folder)
            return merge(adapted)

        return Prepared(adapted.get_base_model(), finish)

    def _config(self, model: Any, head: Sequence[str]) -> Any:
        from peft import IA3Config
        from peft.utils.constants import TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING as KNOWN

        if self.targets is None:
            targets, feedforward = (None, None) if model.config.model_type in KNOWN else _usual_targets(model)
            return IA3Config(**peft_task(model, head), target_modules=targets, feedforward_modules=feedforward)
        check_targets(model, self.targets)
        if strange := set(self.feedforward) - set(self.targets):
            raise RecipeError(f"tune.method.feedforward: {', '.join(sorted(strange))} must be among tune.method.targets")
        return IA3Config(**peft_task(model, head), target_modules=list(self.targets), feedforward_modules=list(self.feedforward))


def _usual_targets(model: Any) -> tuple[list[str], list[str]]:
    """Returns what is scaled of an architecture that peft has no choice for, and of that what is scaled before it.

    Raises:
        RecipeError: It has no linear layers of these names; the message lists those it has.
    """
    there = linear_names(model)
    for targets, feedforward in _USUAL:
        if all(any(is_target(name, [target]) for name in there) for target in targets):
            return list(targets), list(feedforward)
    names = ", ".join(sorted({name.rsplit(".", 1)[-1] for name in there}))
    raise RecipeError(f"tune.method.targets: none are known for {model.config.model_type}; choose among {names}")
