# ruff: noqa: TID253  (runs in training and scoring children only; holds no Spec)
"""Models: made from a spec, loaded, saved, and asked for the loss of each target.

In: a `ModelSpec` and the tokenizer's special tokens, or a `transformers` folder. Out: a model of `transformers`; logits and
losses. Invariant: positions of different segments never see each other, in no layer of no family.

Shapes: B rows, T positions, S positions of the source, W width, V vocabulary, N targets.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tasks.core.errors import ContractError
from tasks.modeling.architecture import first_position, is_encoder_decoder, takes_types
from tasks.modeling.attention import Documents, both_ways_mask, packed_mask, with_packed_attention
from tasks.modeling.batches import IGNORED, Batch
from tasks.modeling.families import model_config
from tasks.modeling.head import target_losses
from tasks.modeling.own_logits import require_own_logits
from tasks.modeling.precision import product_dtype
from tasks.modeling.specs import ENCODERS, ModelSpec
from tasks.modeling.words import SpecialIds


def build_model(
    spec: ModelSpec,
    vocab_size: int,
    special: SpecialIds,
    seed: int,
    auto_class: str = "AutoModelForCausalLM",
    roles: Mapping[str, int] | None = None,
) -> Any:
    """Returns a freshly initialised model; equal seeds give equal weights.

    Args:
        auto_class: Class of `transformers` that knows the model with the objective's heads.
        roles: Ids of the objective's special tokens.
    """
    import transformers

    torch.manual_seed(seed)
    config = model_config(spec, vocab_size, special, roles)
    model = getattr(transformers, auto_class).from_config(config, dtype=torch.float32)
    if spec.residual_init != "same":
        _multiply_residual_outputs(model, 0.0 if spec.residual_init == "zero" else (2 * spec.depth) ** -0.5)
    return with_packed_attention(model)


def _multiply_residual_outputs(model: Any, factor: float) -> None:
    """Multiplies what writes to the residual stream.

    By 1 / sqrt(2 * depth) the stream does not grow with depth (GPT-2, Radford et al. 2019); by 0 each block starts as the
    identity (Fixup, Zhang et al., arXiv:1901.09321).
    """
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                weight.mul_(factor)


def load_model(folder: Path, auto_class: str | None = None) -> Any:
    """Loads a model folder in fp32, safetensors only; with its adapter where it has one.

    Args:
        folder: What `save_model` wrote.
        auto_class: Class of `transformers` that knows the model with the heads that are needed; none: the one that writes text.

    Raises:
        ContractError: The folder lacks weights of such a model, which would be random.
        RecipeError: Packed rows would not be read as the model reads a text by itself.
    """
    import transformers

    from tasks.modeling.adapted import ADAPTER, BASE, is_adapted, load_adapted

    if is_adapted(folder):
        return load_adapted(folder / BASE, folder / ADAPTER)

    _hush()
    writes = "AutoModelForSeq2SeqLM" if is_encoder_decoder(folder) else "AutoModelForCausalLM"
    model, loading = getattr(transformers, auto_class or writes).from_pretrained(
        folder, dtype=torch.float32, use_safetensors=True, local_files_only=True, output_loading_info=True
    )
    if missing := sorted(loading["missing_keys"]):
        raise ContractError(
            f"{folder} lacks weights of a {type(model).__name__}: {', '.join(missing[:4])}; they would be random. "
            "Give a model that was trained for this, or set another objective"
        )
    require_own_logits(with_packed_attention(model))
    return model


def _hush() -> None:
    """Keeps progress bars of reading and writing out of the run's log."""
    from transformers.utils import logging

    logging.disable_progress_bar()


def hidden_states(model: Any, batch: Batch) -> Tensor:
    """Returns the last hidden states (B, T, W) at the positions that are predicted from."""
    dtype = product_dtype(batch.ids_BT.device)
    if model.config.is_encoder_decoder:
        return _decoder_states(model, batch, dtype)
    if model.config.model_type in ENCODERS:
        return _encoder_states(model, batch, dtype)
    states: Tensor = model.base_model(
        input_ids=batch.ids_BT,
        attention_mask=packed_mask(batch.segments_BT, dtype),
        position_ids=batch.positions_BT,
        use_cache=False,
        documents=Documents.of(batch.segments_BT),
    ).last_hidden_state
    return states


def _encoder_states(model: Any, batch: Batch, dtype: torch.dtype) -> Tensor:
    full = both_ways_mask(batch.segments_BT, batch.segments_BT, dtype)
    if model.config.model_type == "modernbert":
        near = both_ways_mask(batch.segments_BT, batch.segments_BT, dtype, reach=model.config.sliding_window)
        mask: Any = {"full_attention": full, "sliding_attention": near}
        types: dict[str, Any] = {}
    else:
        mask, types = full, {"token_type_ids": batch.types_BT} if takes_types(model) else {}
    states: Tensor = model.base_model(
        input_ids=batch.ids_BT, attention_mask=mask, position_ids=batch.positions_BT + first_position(model), **types
    ).last_hidden_state
    return states


def _decoder_states(model: Any, batch: Batch, dtype: torch.dtype) -> Tensor:
    """Reads the source and returns what the decoder makes of it; BART counts positions along the row, as it was trained."""
    assert batch.source_ids_BS is not None, "an encoder-decoder reads a source"
    assert batch.source_segments_BS is not None, "an encoder-decoder reads a source"
    inner = model.base_model
    source_BSW = inner.encoder(
        input_ids=batch.source_ids_BS,
        attention_mask=both_ways_mask(batch.source_segments_BS, batch.source_segments_BS, dtype),
    ).last_hidden_state
    states: Tensor = inner.decoder(
        input_ids=batch.ids_BT,
        attention_mask=packed_mask(batch.segments_BT, dtype),
        encoder_hidden_states=source_BSW,
        encoder_attention_mask=both_ways_mask(batch.segments_BT, batch.source_segments_BS, dtype),
        use_cache=False,
    ).last_hidden_state
    return states


def logits_of(model: Any, hidden_NW: Tensor) -> Tensor:
    """Returns the logits (N, V) over the vocabulary."""
    config = model.config
    if config.model_type in ("bert", "ernie"):
        return model.cls.predictions(hidden_NW)  # type: ignore[no-any-return]
    if config.model_type == "modernbert":
        return model.decoder(model.head(hidden_NW))  # type: ignore[no-any-return]
    if getattr(config, "scale_decoder_outputs", False):
        hidden_NW = hidden_NW * config.d_model**-0.5
    head = model.lm_head if hasattr(model, "lm_head") else model.get_output_embeddings()
    return _scaled(head(hidden_NW), model)


def _scaled(logits_NV: Tensor, model: Any) -> Tensor:
    """Returns the logits as families of decoders change them after the output layer."""
    config = model.config
    if (bias := getattr(model, "final_logits_bias", None)) is not None:  # BART
        logits_NV = logits_NV + bias
    if divisor := getattr(config, "logits_scaling", None):  # Granite
        logits_NV = logits_NV / divisor
    if factor := getattr(config, "logit_scale", None):  # Cohere
        logits_NV = logits_NV * factor
    if cap := getattr(config, "final_logit_softcapping", None):  # Gemma
        logits_NV = cap * torch.tanh(logits_NV / cap)
    return logits_NV


def target_logits(model: Any, batch: Batch) -> tuple[Tensor, Tensor]:
    """Returns the logits (N, V), in fp32, and the id (N,) of each target of `batch`, in reading order.

    The output layer runs on positions that have a target only: on instruction data and under masks most have none.
    """
    hidden_NW, targets_N = at_targets(batch, hidden_states(model, batch))
    return logits_of(model, hidden_NW).float(), targets_N


def losses_at_targets(model: Any, batch: Batch, hidden_BTW: Tensor) -> Tensor:
    """Returns what `token_losses` does, from hidden states that are there already."""
    return target_losses(model, partial(logits_of, model), *at_targets(batch, hidden_BTW))


def token_losses(model: Any, batch: Batch) -> Tensor:
    """Returns the loss (N,), in nats, of each target of `batch`, in reading order, taken as `set_head_loss` said."""
    return losses_at_targets(model, batch, hidden_states(model, batch))


def at_targets(batch: Batch, hidden_BTW: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the hidden states (N, W) that predict a target of `batch`, and the targets (N,), in reading order."""
    hidden_NW, targets_N = hidden_BTW.flatten(0, 1), batch.targets_BT.flatten()
    if batch.num_targets == targets_N.numel():
        return hidden_NW, targets_N
    where = (targets_N != IGNORED).nonzero()[:, 0]
    return hidden_NW[where], targets_N[where]


def save_model(model: Any, tokenizer_folder: Path, special: SpecialIds, folder: Path) -> None:
    """Writes a folder that `from_pretrained` and a server load: weights, tokenizer, chat template, stop tokens."""
    from transformers import GenerationConfig

    from tasks.modeling.words import copy_tokenizer

    _hush()
    if model.can_generate():
        model.generation_config = GenerationConfig(
            bos_token_id=special.opening,
            eos_token_id=model.config.eos_token_id,
            pad_token_id=special.pad,
            decoder_start_token_id=getattr(model.config, "decoder_start_token_id", None),
            do_sample=False,
        )
    model.save_pretrained(folder, safe_serialization=True)
    copy_tokenizer(tokenizer_folder, folder)


def num_parameters(model: Any, *, trained_only: bool = False) -> int:
    """Returns the number of weights, shared ones counted once."""
    return sum(weight.numel() for weight in model.parameters() if weight.requires_grad or not trained_only)
