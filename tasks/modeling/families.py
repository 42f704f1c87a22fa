"""The families of models as `transformers` configurations.

In: a `ModelSpec` and special ids. Out: a configuration. Invariant: no family has dropout, which only slows learning down at
the few passes that pretraining makes over its text (Geiping and Goldstein, arXiv:2212.14034).
"""

from collections.abc import Mapping
from typing import Any

from tasks.modeling.specs import ModelSpec
from tasks.modeling.words import SpecialIds


def model_config(spec: ModelSpec, vocab_size: int, special: SpecialIds, roles: Mapping[str, int] | None = None) -> Any:
    """Returns the `transformers` configuration of a spec; `roles` holds the ids of the objective's special tokens."""
    makers = {
        "llama": _decoder,
        "qwen3": _decoder,
        "gpt2": _gpt2,
        "bert": _bert,
        "modernbert": _modernbert,
        "t5": _t5,
        "bart": _bart,
    }
    return makers[spec.family](spec, vocab_size, special, roles or {})


def _decoder(spec: ModelSpec, vocab_size: int, special: SpecialIds, roles: Mapping[str, int]) -> Any:
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
        use_cache=True,
        **_stops(special),
    )


def _stops(special: SpecialIds) -> dict[str, Any]:
    """Returns the tokens that open and end what a decoder writes."""
    return {
        "bos_token_id": special.opening,
        "eos_token_id": [special.turn_end, special.end_of_text],
        "pad_token_id": special.pad,
    }


def _gpt2(spec: ModelSpec, vocab_size: int, special: SpecialIds, roles: Mapping[str, int]) -> Any:
    from transformers import GPT2Config

    return GPT2Config(
        vocab_size=vocab_size,
        n_positions=spec.context_tokens,
        n_embd=spec.sizes.width,
        n_layer=spec.depth,
        n_head=spec.sizes.num_heads,
        n_inner=spec.sizes.ffn_width,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        initializer_range=spec.init_std,
        tie_word_embeddings=spec.tie_embeddings,
        **_stops(special),
    )


def _encoder(spec: ModelSpec, vocab_size: int, special: SpecialIds) -> dict[str, Any]:
    return {
        "vocab_size": vocab_size,
        "hidden_size": spec.sizes.width,
        "intermediate_size": spec.sizes.ffn_width,
        "num_hidden_layers": spec.depth,
        "num_attention_heads": spec.sizes.num_heads,
        "max_position_embeddings": spec.context_tokens,
        "initializer_range": spec.init_std,
        "tie_word_embeddings": spec.tie_embeddings,
        "pad_token_id": special.pad,
    }


def _bert(spec: ModelSpec, vocab_size: int, special: SpecialIds, roles: Mapping[str, int]) -> Any:
    from transformers import BertConfig

    return BertConfig(**_encoder(spec, vocab_size, special), hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)


def _modernbert(spec: ModelSpec, vocab_size: int, special: SpecialIds, roles: Mapping[str, int]) -> Any:
    from transformers import ModernBertConfig

    rope = {"rope_type": "default", "rope_theta": spec.rope_theta}
    cls, sep = roles.get("cls", special.end_of_text), roles.get("sep", special.end_of_text)
    return ModernBertConfig(
        **_encoder(spec, vocab_size, special),
        rope_parameters={"full_attention": rope, "sliding_attention": rope},
        bos_token_id=cls,
        cls_token_id=cls,
        eos_token_id=sep,
        sep_token_id=sep,
    )


def _t5(spec: ModelSpec, vocab_size: int, special: SpecialIds, roles: Mapping[str, int]) -> Any:
    from transformers import T5Config

    return T5Config(
        turn_end_token_id=special.turn_end,
        vocab_size=vocab_size,
        d_model=spec.sizes.width,
        d_kv=spec.sizes.head_width,
        d_ff=spec.sizes.ffn_width,
        num_layers=spec.depth,
        num_heads=spec.sizes.num_heads,
        dropout_rate=0.0,
        initializer_factor=spec.init_std / type(spec).model_fields["init_std"].default,  # its own rule by size, times a factor
        n_positions=spec.context_tokens,
        tie_word_embeddings=spec.tie_embeddings,
        pad_token_id=special.pad,
        eos_token_id=special.end_of_text,
        decoder_start_token_id=special.end_of_text,
    )


def _bart(spec: ModelSpec, vocab_size: int, special: SpecialIds, roles: Mapping[str, int]) -> Any:
    from transformers import BartConfig

    depths = {"encoder_layers": spec.depth, "decoder_layers": spec.depth}
    heads = {"encoder_attention_heads": spec.sizes.num_heads, "decoder_attention_heads": spec.sizes.num_heads}
    return BartConfig(
        turn_end_token_id=special.turn_end,
        vocab_size=vocab_size,
        d_model=spec.sizes.width,
        encoder_ffn_dim=spec.sizes.ffn_width,
        decoder_ffn_dim=spec.sizes.ffn_width,
        **depths,
        **heads,
        max_position_embeddings=spec.context_tokens,
        dropout=0.0,
        init_std=spec.init_std,
        tie_word_embeddings=spec.tie_embeddings,
        pad_token_id=special.pad,
        bos_token_id=special.end_of_text,
        eos_token_id=special.end_of_text,
        forced_eos_token_id=None,
        decoder_start_token_id=special.end_of_text,
    )
