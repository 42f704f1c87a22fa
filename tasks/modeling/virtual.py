# ruff: noqa: TID253  (runs in training and scoring children only; holds no Spec)
"""Virtual tokens before the text of a model: keys and values that every position sees, in training, scoring and generation.

In: a causal model and peft's wrapper of it (prefix or prompt tuning). Out: the same model, whose decoder starts from a filled
cache. Invariants: texts packed into a row see the virtual tokens and not each other; positions of the text start after them; a
prompt's keys and values are those of its embeddings read alone, which causal attention makes the same as read before the text.

Shapes: B rows, T positions, P virtual tokens.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def put_before(model: Any, adapted: Any) -> Any:
    """Makes `model` read the virtual tokens of peft's `adapted` before each text, and counts them off its context."""
    model.add_module("prompt_encoder", adapted.prompt_encoder)  # so that what is trained, saved and moved includes it
    _Start(model.base_model, adapted)
    model.config.max_position_embeddings -= adapted.active_peft_config.num_virtual_tokens
    return model


def has_virtual_tokens(model: Any) -> bool:
    """Whether a model reads virtual tokens before its text."""
    return hasattr(model, "prompt_encoder")


class _Start:
    """Hands the decoder a cache that holds the virtual tokens already."""

    def __init__(self, decoder: Any, adapted: Any) -> None:
        self._decoder, self._adapted = decoder, adapted
        self._num_tokens = adapted.active_peft_config.num_virtual_tokens
        self._reading_prompt = False
        decoder.register_forward_pre_hook(self, with_kwargs=True)

    def __call__(
        self, decoder: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        if self._reading_prompt:
            return None
        from transformers import DynamicCache

        ids = args[0] if args else kwargs["input_ids"]
        cache = kwargs.get("past_key_values")
        cache = DynamicCache(config=decoder.config) if cache is None else cache
        if cache.get_seq_length() == 0:
            for layer, (keys, values) in enumerate(self._states(ids.shape[0])):
                cache.update(keys, values, layer)
        changes = {"past_key_values": cache, "attention_mask": self._widen(kwargs.get("attention_mask"))}
        if kwargs.get("position_ids") is not None:
            changes["position_ids"] = kwargs["position_ids"] + self._num_tokens
        return args, kwargs | changes

    def _widen(self, mask: Tensor | None) -> Tensor | None:
        """Lets every position see the virtual tokens: zeros in an additive mask (B, 1, T, T), ones in a mask of tokens (B, T)."""
        return None if mask is None else F.pad(mask, (self._num_tokens, 0), value=0.0 if mask.ndim == 4 else 1)

    def _states(self, num_rows: int) -> list[tuple[Tensor, Tensor]]:
        """Returns keys and values (B, heads, P, head width) of each layer."""
        prompt = self._adapted.get_prompt(batch_size=1)
        cache = self._read(prompt) if isinstance(prompt, Tensor) else prompt
        return [(layer.keys.expand(num_rows, -1, -1, -1), layer.values.expand(num_rows, -1, -1, -1)) for layer in cache.layers]

    def _read(self, prompt_1PW: Tensor) -> Any:
        from tasks.modeling.attention import packed_mask
        from tasks.modeling.precision import product_dtype

        segments = torch.zeros(prompt_1PW.shape[:2], dtype=torch.long, device=prompt_1PW.device)
        mask = packed_mask(segments, product_dtype(prompt_1PW.device))
        places = torch.arange(self._num_tokens, device=prompt_1PW.device)[None]
        self._reading_prompt = True
        try:
            said = self._decoder(inputs_embeds=prompt_1PW, attention_mask=mask, position_ids=places, use_cache=True)
            return said.past_key_values
        finally:
            self._reading_prompt = False
