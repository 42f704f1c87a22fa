"""Tiny models of the architectures people bring, each with what makes it differ: windows, caps, scales, experts, positions."""

from pathlib import Path
from typing import Any

import torch

from tasks.bases import BaseSpec, FolderBase, adopt_base
from tasks.contracts import Checkpoint
from tasks.core.site import Site
from tests.modeling.kit import save_tokenizer

VOCAB = 320
_SIZES: dict[str, Any] = {
    "vocab_size": VOCAB,
    "max_position_embeddings": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "hidden_size": 32,
    "intermediate_size": 64,
    "pad_token_id": 1,
    "bos_token_id": 0,
    "eos_token_id": 3,
    "num_key_value_heads": 1,
    "head_dim": 16,
    # what GPT-2's kin, experts, and the two parts of T5's and BART's kin call it
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 2,
    "n_positions": 128,
    "num_local_experts": 4,
    "num_experts": 4,
    "moe_intermediate_size": 32,
    "d_model": 32,
    "d_kv": 16,
    "d_ff": 64,
    "num_layers": 2,
    "num_heads": 2,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "decoder_start_token_id": 1,
    # drawn apart in each process
    "dropout": 0.0,
    "dropout_rate": 0.0,
}
# What a published model of the architecture sets, at this size.
_OWN: dict[str, dict[str, Any]] = {
    "mistral": {"sliding_window": 8},
    "mixtral": {"sliding_window": 8},
    "phi3": {"sliding_window": 8},
    "starcoder2": {"sliding_window": 8},
    "exaone4": {"sliding_window": 8},
    "olmo3": {"sliding_window": 8},
    "gemma2": {"query_pre_attn_scalar": 16, "attn_logit_softcapping": 2.0, "sliding_window": 8},
    "gemma3_text": {"query_pre_attn_scalar": 16, "sliding_window": 8, "final_logit_softcapping": 20.0},
    "cohere": {"logit_scale": 0.0625},
    "granite": {"logits_scaling": 8.0, "residual_multiplier": 0.22, "embedding_multiplier": 12.0},
    "opt": {"ffn_dim": 64, "word_embed_proj_dim": 32},
    "gptj": {"n_inner": 64, "rotary_dim": 8},
    "gpt_oss": {"sliding_window": 8},
    "falcon": {"ffn_hidden_size": 64},
    "distilbert": {"dim": 32, "hidden_dim": 64, "n_layers": 2, "n_heads": 2},
    "roberta": {"type_vocab_size": 1},
    "xlm-roberta": {"type_vocab_size": 1},
    "camembert": {"type_vocab_size": 1},
    "t5": {"decoder_start_token_id": 1},
    "mt5": {"decoder_start_token_id": 1},
    "longformer": {"attention_window": [8, 8]},
    "electra": {"embedding_size": 32},
}


def tiny_of(architecture: str, auto_class: str = "AutoModelForCausalLM", **changes: Any) -> Any:
    """A random model whose weights are large enough that a wrong attention shows."""
    import transformers

    config_type = type(transformers.AutoConfig.for_model(architecture))
    known = config_type().to_dict() | getattr(config_type, "attribute_map", {})
    settings = {name: value for name, value in _SIZES.items() if name in known} | _OWN.get(architecture, {}) | changes
    torch.manual_seed(0)
    model = getattr(transformers, auto_class).from_config(config_type(**settings), dtype=torch.float32)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.normal_(std=0.15)
    return model.eval()


def adopted(architecture: str, auto_class: str, site: Site, folder: Path) -> Checkpoint:
    """A tiny model with a tokenizer, adopted from the folder that others would give."""
    tokenizer = save_tokenizer(folder)
    model = tiny_of(architecture, auto_class)
    model.save_pretrained(folder)
    assert len(tokenizer) <= VOCAB
    return adopt_base.build(BaseSpec(source=FolderBase(kind="folder", path=str(folder), licence="MIT")), site=site)


def writer(architecture: str) -> str:
    """The class of `transformers` that writes text."""
    return "AutoModelForSeq2SeqLM" if architecture in ("t5", "mt5", "bart", "marian") else "AutoModelForCausalLM"
