"""Virtual tokens before the text: prefix tuning and prompt tuning, through peft.

In: the base model. Out: an adapter folder; there is no plain form. Invariants: the base's weights never move; every text of
a packed row sees the virtual tokens and none of the other texts; they take their place in the context. Prefix tuning learns
keys and values of each layer (Li and Liang, arXiv:2101.00190), prompt tuning only embeddings (Lester et al.,
arXiv:2104.08691).
"""

import inspect
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from tasks.core.errors import RecipeError
from tasks.core.site import Site
from tasks.modeling.architecture import shortest_window
from tasks.tuning.prepared import Method, Prepared
from tasks.tuning.through_peft import save_adapter

_OTHERS = "set tune.method.kind to lora, ia3, bottleneck or full"
NumTokens = Annotated[int, Field(ge=1, le=1024, description="Virtual tokens before each text; 10 to 20 are usual.")]


class _VirtualTokens(Method):
    """What stands before a text, as keys and values in a cache."""

    num_tokens: NumTokens = 16
    own_rate: ClassVar[float | None] = 1e-2
    has_plain_form: ClassVar[bool] = False

    @property
    def num_virtual(self) -> int:
        """The virtual tokens, which every text sees before its own."""
        return self.num_tokens

    def check_model(self, model: Any) -> None:
        """Refuses a base that cannot look back at virtual tokens, or that they leave no room."""
        if model.config.is_encoder_decoder:
            raise RecipeError(
                f"{type(model).__name__} reads and writes by two parts, and nothing can stand before both; set tune.method.kind "
                "to lora, ia3 or full"
            )
        if "past_key_values" not in inspect.signature(model.base_model.forward).parameters:
            raise RecipeError(f"{type(model).__name__} keeps no keys and values, so nothing can stand before its text; {_OTHERS}")
        context, window = model.config.max_position_embeddings, shortest_window(model)
        if window is not None and window < context:
            raise RecipeError(
                f"layers of a {type(model).__name__} look back over {window} tokens of {context}, and would lose sight of "
                f"virtual tokens; {_OTHERS}"
            )
        if self.num_tokens > context // 2:
            raise RecipeError(
                f"tune.method.num_tokens is {self.num_tokens}, but the base's context has {context}; set {context // 2} or less"
            )

    def check_site(self, site: Site) -> None:
        """Refuses recomputed activations: layers of `transformers` drop the cache then, and would learn without the tokens."""
        if site.recompute_activations:
            raise RecipeError(
                "tune.method: prefix and prompt cannot recompute activations; set TEXTMILL_RECOMPUTE_ACTIVATIONS to false"
            )

    def _put_before(self, model: Any, config: Any, seed: int) -> Prepared:
        """Freezes the model and puts what peft makes of `config` before its text."""
        import torch
        from peft import get_peft_model

        from tasks.modeling.own_logits import FAILURES, packed_logits, two_texts
        from tasks.modeling.virtual import put_before

        self.check_model(model)
        torch.manual_seed(seed)
        try:
            adapted = get_peft_model(model, config)
            tuned = put_before(model, adapted)
            with torch.no_grad():
                packed_logits(tuned, two_texts(tuned))
        except FAILURES as error:
            raise RecipeError(f"nothing can stand before the text of a {type(model).__name__} ({error}); {_OTHERS}") from error

        def finish(folder: Path) -> None:
            adapted.prompt_encoder = model.prompt_encoder  # another one where weights were gathered from many processes
            adapted.eval()
            save_adapter(adapted, folder)

        return Prepared(tuned, finish)


class PrefixSpec(_VirtualTokens):
    """Train keys and values of virtual tokens in each layer."""

    kind: Literal["prefix"]
    hidden_size: Annotated[
        int | None,
        Field(
            ge=1,
            description="Width of the network that makes them while training and is dropped then; none: no network.",
        ),
    ] = None

    def prepare(self, model: Any, seed: int) -> Prepared:
        """Freezes the model and puts a prefix before what its layers see."""
        from peft import PrefixTuningConfig

        config = PrefixTuningConfig(
            task_type="CAUSAL_LM",
            num_virtual_tokens=self.num_tokens,
            prefix_projection=self.hidden_size is not None,
            encoder_hidden_size=self.hidden_size,
        )
        return self._put_before(model, config, seed)


class PromptSpec(_VirtualTokens):
    """Train embeddings of virtual tokens."""

    kind: Literal["prompt"]

    def check_site(self, site: Site) -> None:
        """Refuses shards too: layers leave keys and values of the prompt behind, and FSDP2 knows gradients of outputs only."""
        super().check_site(site)
        if site.num_shards > 1:
            raise RecipeError(
                "tune.method.kind is prompt, which needs whole weights in each process; set TEXTMILL_SHARDING to ddp, or the "
                "method to prefix"
            )

    def prepare(self, model: Any, seed: int) -> Prepared:
        """Freezes the model and puts a prompt before its text, started from entries of the vocabulary."""
        from peft import PromptTuningConfig

        config = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=self.num_tokens, prompt_tuning_init="SAMPLE_VOCAB")
        return self._put_before(model, config, seed)
