"""What a training costs: parameter counts held against the real models, FLOPs and memory by hand."""

from pathlib import Path

import pytest
import torch

from flows.outlook import pretrain_outlook, tuning_outlook
from flows.recipe import load_recipe
from tasks.core.site import Site
from tasks.modeling.job import Compute
from tasks.modeling.model import model_config, num_parameters
from tasks.modeling.sizing import budget_tokens, flops_per_token, lora_parameters, parameters, sizes_of, training_memory
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


def test_a_7b_llama_with_lora_by_its_real_configuration() -> None:
    """The sizes of Llama 2 7B, on the meta device: weights, trained weights and memory."""
    from transformers import LlamaConfig, LlamaForCausalLM

    recipe = load_recipe("llama-7b-qa-lora")
    config = LlamaConfig(hidden_size=4096, intermediate_size=11008, num_hidden_layers=32, num_attention_heads=32)
    config.vocab_size, config.tie_word_embeddings = 32_000, False
    spec = sizes_of(config.to_dict(), recipe.tune.row_tokens)
    with torch.device("meta"):
        prepared = recipe.tune.method.prepare(LlamaForCausalLM(config), 0)
    trained = num_parameters(prepared.model, trained_only=True)
    assert trained == lora_parameters(spec, recipe.tune.method.rank) == 39_976_960
    assert num_parameters(prepared.model) - trained == parameters(spec, 32_000).total == 6_738_415_616
    memory = training_memory(spec, 32_000, 4 * 1024, "bf16", num_adapted=trained, compute=Compute(recompute_activations=True))
    assert memory.states == 6 * 6_738_415_616 + 16 * 39_976_960
    assert 41e9 < memory.total < 48e9  # an 80 GB device holds it, a 40 GB one does not
    full = training_memory(spec, 32_000, 4 * 1024, "fp32", num_adapted=trained)
    assert full.states == 4 * 6_738_415_616 + 16 * 39_976_960


def test_the_llama_recipe_is_the_usual_one() -> None:
    tune = load_recipe("llama-7b-qa-lora").tune
    assert (tune.train.num_epochs, tune.train.batch_rows, tune.optim.learning_rate) == (3, 4 * 4, 5e-5)
    assert (tune.train.checkpoint_every_steps, tune.train.keep_last, tune.precision) == (500, 2, "bf16")


def test_plan_says_what_tuning_trains_and_needs(tmp_path: Path) -> None:
    site = Site(state_dir=tmp_path)
    line = tuning_outlook(load_recipe("demo", ["tune.method={kind='lora', rank=8}"]), site, {})
    spec = load_recipe("demo").pretrain.model
    assert line.startswith(
        f"tune      {lora_parameters(spec, 8) / 1e6:,.2f} of {parameters(spec, 8192).total / 1e6:,.2f} M weights"
    )
    assert tuning_outlook(load_recipe("demo"), site, {}).startswith("tune      3.70 of 3.70 M weights")
    assert tuning_outlook(load_recipe("demo", ["tune.method={kind='head'}"]), site, {}) is None
    assert tuning_outlook(load_recipe("smollm-lora"), site, {}) is None  # its size shows when the base is there


def test_the_budget_is_in_whole_steps() -> None:
    assert budget_tokens(SMALL, TrainSpec(batch_rows=4, num_tokens=200), None) == 256
    assert budget_tokens(SMALL, TrainSpec(batch_rows=4, num_epochs=2), None) is None
    assert budget_tokens(SMALL, TrainSpec(batch_rows=4, num_epochs=2), 33) == 128


def test_a_family_that_is_not_counted_has_no_outlook(tmp_path: Path) -> None:
    assert pretrain_outlook(load_recipe("demo"), Site(state_dir=tmp_path), {}, []) is not None
    assert pretrain_outlook(load_recipe("demo-masked"), Site(state_dir=tmp_path), {}, []) is None
