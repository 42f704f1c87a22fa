"""LoRA: low-rank updates beside frozen weights (Hu et al., arXiv:2106.09685), through peft.

In: the base model. Out: `adapter/` (safetensors and its configuration) and the base with the updates merged. Invariants: the
update is (alpha / r) B A and B starts at 0, so training starts at the base and the base's weights never move; PiSSA, which
does move them, is written as a plain LoRA on the untouched base; merged model and adapter give the same logits.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from tasks.core.errors import RecipeError
from tasks.tuning.prepared import Method, Prepared
from tasks.tuning.through_peft import check_targets, is_target, linear_names, merge, peft_task, save_adapter

Targets = Annotated[
    tuple[str, ...] | None,
    Field(min_length=1, description="Linear layers by name, e.g. q_proj; none: all of them, the output layer apart."),
]


class LoraSpec(Method):
    """Train low-rank updates of linear layers."""

    kind: Literal["lora"]
    rank: Annotated[int, Field(ge=1, le=1024, description="Rank of an update.")] = 16
    alpha: Annotated[float, Field(gt=0, description="The update is scaled by alpha / rank.")] = 32.0
    dropout: Annotated[float, Field(ge=0, lt=1, description="Share of an adapter's inputs left out while training.")] = 0.0
    targets: Targets = None
    rank_stabilized: Annotated[
        bool, Field(description="Scale by alpha / sqrt(rank) instead: rsLoRA (Kalajdzievski, arXiv:2312.03732).")
    ] = False
    variant: Annotated[
        Literal["plain", "dora", "pissa"],
        Field(
            description="dora: length and direction apart (Liu et al., arXiv:2402.09353); pissa: start from the principal "
            "directions of the weights (Meng et al., arXiv:2404.02948)."
        ),
    ] = "plain"
    own_rate: ClassVar[float | None] = 2e-3

    def prepare(self, model: Any, seed: int, head: Sequence[str] = ()) -> Prepared:
        """Freezes the model, but for the modules of a new head, and puts adapters beside its linear layers."""
        import torch
        from peft import get_peft_model

        from tasks.tuning.fewer_passes import as_peft_does, use_fewer_passes

        self._check(model, head)
        torch.manual_seed(seed)
        try:
            adapted = get_peft_model(model, self._config(model, head))
        except (ValueError, AttributeError, TypeError) as error:
            if self.variant == "plain":
                raise
            raise RecipeError(
                f"tune.method.variant is {self.variant}, which peft does not have for parts of {type(model).__name__} "
                f"({error}); set it to plain, or name linear layers in tune.method.targets"
            ) from error
        start = tempfile.TemporaryDirectory() if self.variant == "pissa" else None
        if start is not None:
            _save_start(adapted, Path(start.name) / "start")
        use_fewer_passes(adapted)

        def finish(folder: Path) -> Any:
            adapted.eval()
            as_peft_does(adapted)
            save_adapter(adapted, folder, initial=None if start is None else Path(start.name) / "start")
            return merge(adapted)

        return Prepared(adapted.get_base_model(), finish)

    def _check(self, model: Any, head: Sequence[str]) -> None:
        if self.targets is not None:
            check_targets(model, self.targets)
        if self.variant == "pissa":
            modules = dict(model.named_modules())
            names = [name for name in linear_names(model, head) if self.targets is None or is_target(name, self.targets)]
            smallest = min(min(modules[name].weight.shape) for name in names)
            if self.rank > smallest:
                raise RecipeError(f"tune.method.rank is {self.rank}, but pissa takes at most the smallest size, {smallest}")

    def _config(self, model: Any, head: Sequence[str]) -> Any:
        from peft import LoraConfig

        return LoraConfig(
            **peft_task(model, head),
            r=self.rank,
            lora_alpha=self.alpha,
            lora_dropout=self.dropout,
            target_modules="all-linear" if self.targets is None else list(self.targets),
            use_rslora=self.rank_stabilized,
            use_dora=self.variant == "dora",
            init_lora_weights="pissa" if self.variant == "pissa" else True,
        )


def _save_start(adapted: Any, folder: Path) -> None:
    """Keeps the adapter as it is before training, marked as one that moves no weights when it is loaded."""
    config = adapted.peft_config["default"]
    mark, config.init_lora_weights = config.init_lora_weights, True
    adapted.save_pretrained(folder)
    config.init_lora_weights = mark
