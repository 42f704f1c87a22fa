"""What a training costs: parameter counts held against the real models, FLOPs and memory by hand."""

from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from transformers import AutoConfig

from flows.__main__ import main
from flows.outlook import pretrain_outlook, tuning_outlook
from flows.presets import load_recipe
from tasks.contracts import Checkpoint, Tokenizer
from tasks.core.site import Site
from tasks.modeling.job import Compute
from tasks.modeling.model import build_model, model_config, num_parameters
from tasks.modeling.scaling import scaled
from tasks.modeling.sizing import (
    budget_tokens,
    flops_per_token,
    lora_parameters,
    parameters,
    sizes_of,
    tokens_of_row,
    training_memory,
)
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


def test_rows_are_as_long_as_the_context_up_to_what_pays() -> None:
    cases = [(256, 40), (512, 512), (131072, 40), (8192, 3000), (64, 65), (None, 40), (None, 3000)]
    assert [tokens_of_row(*one) for one in cases] == [256, 512, 1024, 3000, 64, 1024, 3000]


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
    scores = 2 * 64 * 2 * 4 * 4 * 32  # layers, tokens, bytes, four times, heads, context
    assert training_memory(SMALL, 100, 64, "bf16", keeps_scores=False).activations == small.activations - scores


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


@pytest.mark.parametrize("family", ["gpt2", "t5"])
def test_a_base_of_a_family_that_is_not_counted_has_no_outlook(tmp_path: Path, family: str) -> None:
    """Their configurations have another name for the positions."""
    AutoConfig.for_model(family, n_positions=64).save_pretrained(tmp_path / "model")
    found = {
        "base": Checkpoint.model_construct(uri=str(tmp_path)),
        "tokenizer": Tokenizer.model_construct(vocab_size=320),
    }
    assert tuning_outlook(load_recipe("smollm-lora", ["tune.row_tokens=off"]), Site(state_dir=tmp_path), found) is None


@pytest.mark.parametrize(
    ("budget", "shown"), [("num_tokens=100000", "100,000 tokens"), ("num_epochs=2.0", "2 passes over the text")]
)
def test_of_a_base_that_is_trained_on_the_plan_shows_what_is_set(site: Site, budget: str, shown: str) -> None:
    changes = ["start.kind=continued", "train.num_tokens=off", f"train.{budget}", "optim.learning_rate=1e-4"]
    options = [part for change in changes for part in ("--set", f"pretrain.{change}")]
    result = CliRunner().invoke(main, ["plan", "smollm-lora", *options])
    assert result.exit_code == 0
    assert f"scale     {shown}, 8 rows a step, learning rate 0.0001 (all set)" in result.output
    assert "hidden weights" not in result.output


def test_of_a_base_as_it_is_the_plan_shows_no_training(site: Site) -> None:
    result = CliRunner().invoke(main, ["plan", "smollm-lora"])
    assert result.exit_code == 0
    assert "scale  " not in result.output


def test_the_budget_is_in_whole_steps() -> None:
    assert budget_tokens(SMALL, TrainSpec(batch_rows=4, num_tokens=200), None) == 256
    assert budget_tokens(SMALL, TrainSpec(batch_rows=4, num_epochs=2), None) is None
    assert budget_tokens(SMALL, TrainSpec(batch_rows=4, num_epochs=2), 33) == 128


def test_a_family_that_is_not_counted_has_no_outlook(tmp_path: Path) -> None:
    assert pretrain_outlook(load_recipe("demo"), Site(state_dir=tmp_path), {}, []) is not None
    assert pretrain_outlook(load_recipe("demo-masked"), Site(state_dir=tmp_path), {}, []) is None


@pytest.mark.parametrize(
    ("preset", "site", "num_rows", "rate"),
    [
        ("gpu-100m", Site(device="cuda"), 128, 1.7e-3),
        ("gpu-1b", Site(device="cuda", num_processes=8, sharding="fsdp2"), 512, 9.6e-4),
    ],
    ids=["gpu-100m", "gpu-1b"],
)
def test_the_presets_for_gpus_are_what_they_say(
    preset: str, site: Site, num_rows: int, rate: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = load_recipe(preset)
    spec, vocab_size = recipe.pretrain, recipe.tokenizer.source.vocab_size
    scale = scaled(spec.model, spec.train, spec.optim.learning_rate, 10**12)
    assert scale is not None
    assert (scale.train.batch_rows, scale.budget_tokens) == (num_rows, 20 * spec.model.num_matrix_weights)
    assert scale.learning_rate == pytest.approx(rate, rel=0.02)
    with torch.device("meta"):
        model = build_model(spec.model, vocab_size, SPECIAL, 0)
    total = num_parameters(model)
    monkeypatch.setattr("flows.outlook.device_bytes", lambda site: 80e9)
    outlook = pretrain_outlook(recipe, site, {}, [])
    assert outlook is not None
    assert outlook.num_parameters == total
    assert outlook.memory.states == 16 * total // site.num_shards
    assert outlook.memory.total < 0.75 * 80e9
    outlook.require_room()


def test_a_laptop_is_shown_the_plan_of_a_preset_for_gpus_and_what_it_lacks(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.outlook.device_bytes", lambda site: 16e9)
    result = CliRunner().invoke(main, ["plan", "gpu-1b"])
    assert result.exit_code == 2
    assert "18,559,795,200 tokens (derived), 512 rows a step (derived), learning rate 0.00096" in result.output
    assert "1,062.30 M parameters" in result.output
    assert "on a cpu device that has 16.0 GB" in result.output
    assert "on GPUs (TEXTMILL_DEVICE=cuda)" in result.output
    assert "TEXTMILL_NUM_PROCESSES=8 TEXTMILL_SHARDING=fsdp2" in result.output
