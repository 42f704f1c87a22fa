# ruff: noqa: TID253  (runs in training and scoring children only; holds no Spec)
"""Models: made from a spec, loaded, saved, and asked for the loss of each target.

In: a `ModelSpec` and the tokenizer's special tokens, or a `transformers` folder. Out: a causal model of `transformers`;
summed or single losses. Invariant: positions of different segments never see each other, whatever the attention code.

Shapes: B rows, T positions, H heads, D head width, V vocabulary, N targets.
"""

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tasks.modeling.batches import IGNORED, Batch
from tasks.modeling.head import target_losses
from tasks.modeling.specs import ModelSpec
from tasks.modeling.words import SpecialIds

PACKED_ATTENTION = "textmill_packed"


def build_model(spec: ModelSpec, vocab_size: int, special: SpecialIds, seed: int) -> Any:
    """Returns a freshly initialised model; equal seeds give equal weights."""
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(model_config(spec, vocab_size, special), dtype=torch.float32)
    if spec.residual_init == "scaled":
        _scale_residual_outputs(model, spec.depth)
    return with_packed_attention(model)


def _scale_residual_outputs(model: Any, depth: int) -> None:
    """Divides what writes to the residual stream by sqrt(2 * depth), so that the stream does not grow with depth (GPT-2)."""
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                weight.div_((2 * depth) ** 0.5)


def model_config(spec: ModelSpec, vocab_size: int, special: SpecialIds) -> Any:
    """Returns the `transformers` configuration of a spec."""
    from transformers import LlamaConfig, Qwen3Config

    sizes = spec.sizes
    config_type = {"llama": LlamaConfig, "qwen3": Qwen3Config}[spec.family]
    return config_type(
        vocab_size=vocab_size,
        hidden_size=sizes.width,
        intermediate_size=sizes.ffn_width,
        num_hidden_layers=spec.depth,
        num_attention_heads=sizes.num_heads,
        num_key_value_heads=sizes.num_kv_heads,
        head_dim=sizes.head_width,
        max_position_embeddings=spec.context_tokens,
        rope_parameters={"rope_type": "default", "rope_theta": spec.rope_theta},
        initializer_range=spec.init_std,
        tie_word_embeddings=spec.tie_embeddings,
        bos_token_id=special.end_of_text,
        eos_token_id=[special.turn_end, special.end_of_text],
        pad_token_id=special.pad,
        use_cache=True,
    )


def load_model(folder: Path) -> Any:
    """Loads a model folder in fp32, safetensors only; with its adapter where it has one."""
    from transformers import AutoModelForCausalLM

    from tasks.modeling.adapted import ADAPTER, BASE, is_adapted, load_adapted

    if is_adapted(folder):
        return load_adapted(folder / BASE, folder / ADAPTER)

    _hush()
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, use_safetensors=True, local_files_only=True)
    return with_packed_attention(model)


def _hush() -> None:
    """Keeps progress bars of reading and writing out of the run's log."""
    from transformers.utils import logging

    logging.disable_progress_bar()


def with_packed_attention(model: Any) -> Any:
    """Returns the model with our attention for packed rows."""
    from transformers import AttentionInterface

    AttentionInterface.register(PACKED_ATTENTION, _packed_attention)
    model.set_attn_implementation(PACKED_ATTENTION)
    return model


def _packed_attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor, scaling: float, **_: Any
) -> tuple[Tensor, None]:
    """Attention as two products and a softmax: on CPUs faster at these lengths than the fused kernel with a mask."""
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = (states.repeat_interleave(groups, dim=1) for states in (key, value))
    if query.is_cuda:
        mixed_BHTD = F.scaled_dot_product_attention(query, key, value, attn_mask=attention_mask.to(query.dtype), scale=scaling)
    else:
        scores_BHTT = torch.matmul(query * scaling, key.transpose(2, 3)) + attention_mask
        mixed_BHTD = torch.matmul(torch.softmax(scores_BHTT, dim=-1), value)
    return mixed_BHTD.transpose(1, 2).contiguous(), None


def packed_mask(segments_BT: Tensor, dtype: torch.dtype) -> Tensor:
    """Returns the additive mask (B, 1, T, T): 0 where a position may look, a large negative number elsewhere."""
    num_positions = segments_BT.shape[1]
    allowed_BTT = (segments_BT[:, :, None] == segments_BT[:, None, :]).tril()
    mask = torch.zeros(segments_BT.shape[0], num_positions, num_positions, dtype=dtype, device=segments_BT.device)
    return mask.masked_fill_(~allowed_BTT, torch.finfo(dtype).min / 2)[:, None]


def token_losses(model: Any, batch: Batch) -> Tensor:
    """Returns the loss (N,), in nats, of each target of `batch`, in reading order.

    The output layer runs on positions that have a target only: on instruction data most have none.
    """
    hidden_BTW = model.model(
        input_ids=batch.ids_BT,
        attention_mask=packed_mask(batch.segments_BT, product_dtype(batch.ids_BT.device)),
        position_ids=batch.positions_BT,
        use_cache=False,
    ).last_hidden_state
    hidden_NW, targets_N = hidden_BTW.flatten(0, 1), batch.targets_BT.flatten()
    if batch.num_targets < targets_N.numel():
        where = (targets_N != IGNORED).nonzero()[:, 0]
        hidden_NW, targets_N = hidden_NW[where], targets_N[where]
    return target_losses(model, model.lm_head, hidden_NW, targets_N)


def product_dtype(device: torch.device) -> torch.dtype:
    """Returns the number format of products at this moment."""
    return torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else torch.float32


def autocast(device: torch.device, precision: str) -> Any:
    """Returns the context in which products run in `precision`; weights stay fp32."""
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)
    return torch.autocast(device.type, dtype=dtype, enabled=dtype is not None)


def save_model(model: Any, tokenizer_folder: Path, special: SpecialIds, folder: Path) -> None:
    """Writes a folder that `from_pretrained` and a server load: weights, tokenizer, chat template, stop tokens."""
    from transformers import GenerationConfig

    from tasks.modeling.words import copy_tokenizer

    _hush()
    model.generation_config = GenerationConfig(
        bos_token_id=special.end_of_text,
        eos_token_id=[special.turn_end, special.end_of_text],
        pad_token_id=special.pad,
        do_sample=False,
    )
    model.save_pretrained(folder, safe_serialization=True)
    copy_tokenizer(tokenizer_folder, folder)


def num_parameters(model: Any, *, trained_only: bool = False) -> int:
    """Returns the number of weights, shared ones counted once."""
    return sum(weight.numel() for weight in model.parameters() if weight.requires_grad or not trained_only)
