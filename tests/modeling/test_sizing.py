"""What a training costs: parameter counts held against the real models, FLOPs and memory by hand."""

from pathlib import Path

import pytest
import torch

from flows.outlook import pretrain_outlook
from flows.recipe import load_recipe
from tasks.core.site import Site
from tasks.modeling.job import Compute
from tasks.modeling.model import model_config, num_parameters
from tasks.modeling.sizing import budget_tokens, flops_per_token, parameters, training_memory
from tasks.modeling.specs import ModelSpec, TrainSpec
from tasks.modeling.words import SpecialIds

SPECIAL = SpecialIds(end_of_text=0, pad=1, turn_end=2)
SMALL = ModelSpec(depth=2, width=64, num_heads=4, num_kv_heads=2, ffn_width=128, context_tokens=32)


@pytest.mark.parametrize("family", ["llama", "qwen3"])
@pytest.mark.parametrize(
    "sizes",
    [{}, {"tie_embeddings": False}, {"depth": 3, "width": 96, "num_heads": 6, "num_kv_heads": 3}, {"depth": 24, "width": 2048}],
)
def test_the_count_is_that_of_the_real_model(family: str, sizes: dict[str, int]) -> None:
    from transformers import AutoModelForCausalLM

    spec = ModelSpec(family=family, **sizes)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(model_config(spec, 1000, SPECIAL))
    assert parameters(spec, 1000).total == num_parameters(model)


def test_flops_of_a_token_by_hand() -> None:
    attention = 64 * 64 + 64 * 64 + 2 * 64 * 32
    products = 2 * (attention + 3 * 64 * 128) + 100 * 64
    assert flops_per_token(SMALL, 100) == 6 * products + 12 * 2 * 64 * 32


def test_memory_grows_with_what_it_holds() -> None:
    small = training_memory(SMALL, 100, 64, "bf16")
    assert small.states == 16 * parameters(SMALL, 100).total
    assert training_memory(SMALL, 100, 64, "bf16", num_shards=4).states == small.states // 4
    assert training_memory(SMALL, 100, 128, "bf16").activations == 2 * small.activations
    assert training_memory(SMALL, 100, 64, "bf16", has_average=True).states == 20 * parameters(SMALL, 100).total
    assert training_memory(SMALL, 100, 64, "fp16") == small
    assert training_memory(SMALL, 100, 64, "bf16", compute=Compute(loss_chunk_tokens=16)).logits == small.logits // 4
    again = training_memory(SMALL, 100, 64, "bf16", compute=Compute(recompute_activations=True))
    assert again.activations == small.activations // 2 + 64 * 2 * (2 * 64)  # one of two layers, and both inputs
    assert training_memory(SMALL, 200, 64, "bf16").logits == 2 * small.logits
    assert training_memory(SMALL, 100, 64, "fp32").activations == 2 * small.activations


def test_the_budget_is_in_whole_steps() -> None:
    assert budget_tokens(SMALL, TrainSpec(batch_rows=4, num_tokens=200), None) == 256
    assert budget_tokens(SMALL, TrainSpec(batch_rows=4, num_epochs=2), None) is None
    assert budget_tokens(SMALL, TrainSpec(batch_rows=4, num_epochs=2), 33) == 128


def test_a_family_that_is_not_counted_has_no_outlook(tmp_path: Path) -> None:
    assert pretrain_outlook(load_recipe("demo"), Site(state_dir=tmp_path), {}, []) is not None
    assert pretrain_outlook(load_recipe("demo-masked"), Site(state_dir=tmp_path), {}, []) is None
