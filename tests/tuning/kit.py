"""Tiny models of four architectures, and a few steps of training on them."""

from typing import Any

import torch

from tasks.modeling.optim import build_optimizer, set_learning_rate
from tasks.modeling.specs import AdamWSpec, WarmupStableDecaySchedule
from tasks.tuning.prepared import Prepared

NUM_LAYERS = 4
LEVEL = WarmupStableDecaySchedule(kind="warmup_stable_decay", warmup_share=0.0, final_share=1.0)
OPTIM = AdamWSpec(kind="adamw", learning_rate=1e-2, weight_decay=0.1)


def tiny(family: str, *, tied: bool = False) -> Any:
    """A model of 4 layers of width 16, with weights that depend on nothing but the seed."""
    from transformers import (
        BertConfig,
        BertForMaskedLM,
        GPT2Config,
        GPT2LMHeadModel,
        LlamaConfig,
        LlamaForCausalLM,
        Qwen3Config,
        Qwen3ForCausalLM,
    )

    torch.manual_seed(0)
    sizes = {"vocab_size": 40, "num_hidden_layers": NUM_LAYERS, "num_attention_heads": 2, "tie_word_embeddings": tied}
    wide = sizes | {"hidden_size": 16, "intermediate_size": 24, "max_position_embeddings": 32}
    if family == "llama":
        return LlamaForCausalLM(LlamaConfig(**wide, num_key_value_heads=1))
    if family == "qwen3":
        return Qwen3ForCausalLM(Qwen3Config(**wide, num_key_value_heads=1, head_dim=8))
    if family == "bert":
        return BertForMaskedLM(BertConfig(**wide))
    return GPT2LMHeadModel(
        GPT2Config(vocab_size=40, n_layer=NUM_LAYERS, n_head=2, n_embd=16, n_positions=32, tie_word_embeddings=tied)
    )


def snapshot(model: Any) -> dict[str, torch.Tensor]:
    """The weights as they are now."""
    return {name: weight.detach().clone() for name, weight in model.named_parameters()}


def moved(model: Any, before: dict[str, torch.Tensor]) -> set[str]:
    """Names of the weights that are not, bit for bit, what they were."""
    return {name for name, weight in model.named_parameters() if not torch.equal(weight, before[name])}


def train(prepared: Prepared, num_steps: int = 2, optim: AdamWSpec = OPTIM) -> None:
    """Trains as the loop does: gradients, what stands still, rates by group, a step."""
    ids = torch.arange(24).reshape(2, 12) % 40
    optimizer = build_optimizer(prepared.model, optim, prepared.plan.rate_factors)
    prepared.model.train()
    for step in range(num_steps):
        torch.manual_seed(step)
        prepared.model(input_ids=ids, labels=ids).loss.backward()
        prepared.plan.drop_gradients(prepared.model, step, float(step))
        set_learning_rate(optimizer, LEVEL, step, num_steps)
        optimizer.step()
        optimizer.zero_grad()


def logits(model: Any) -> torch.Tensor:
    """What a model says of a text, without dropout."""
    model.eval()
    with torch.no_grad():
        return model(input_ids=torch.arange(20)[None]).logits
