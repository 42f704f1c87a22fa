"""Methods that train part of the base's own weights: what moves, how fast, when; everything else keeps its bits."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from tasks.core.errors import RecipeError, TransientError
from tasks.modeling.layers import depths, layer_list
from tasks.modeling.optim import build_optimizer
from tasks.tuning.full import FullSpec
from tasks.tuning.gradual import EpochsPeriod, GradualSpec, StepsPeriod
from tasks.tuning.head import HeadSpec
from tasks.tuning.layer_decay import LayerDecaySpec
from tasks.tuning.some_layers import FreezeSpec, TopLayersSpec
from tests.architectures import tiny_of, writer
from tests.tuning.kit import NUM_LAYERS, OPTIM, moved, snapshot, tiny, train

FAMILIES = ("llama", "qwen3", "gpt2", "bert")
LISTS = {"llama": "model.layers", "qwen3": "model.layers", "gpt2": "transformer.h", "bert": "bert.encoder.layer"}
# What stands outside of the layers, by architecture: before them, after them.
BEFORE = {"llama": "embed_tokens", "qwen3": "embed_tokens", "gpt2": r"\.wte|\.wpe", "bert": r"embeddings\."}
AFTER = {"llama": r"model\.norm|lm_head", "qwen3": r"model\.norm|lm_head", "gpt2": r"ln_f|lm_head", "bert": r"^cls\."}
HEADS = {"llama": "^lm_head", "qwen3": "^lm_head", "gpt2": "^lm_head", "bert": r"^cls\.predictions\.decoder"}
IDLE = {"cls.predictions.bias"}  # BERT reads it only where the output layer is the embedding too


def in_layers(model: Any, family: str, numbers: range) -> set[str]:
    starts = tuple(f"{LISTS[family]}.{number}." for number in numbers)
    return {name for name, _ in model.named_parameters() if name.startswith(starts)}


def matching(model: Any, pattern: str) -> set[str]:
    return {name for name, _ in model.named_parameters() if re.search(pattern, name)}


@pytest.mark.parametrize("family", FAMILIES)
def test_depths_are_found_by_structure(family: str) -> None:
    model = tiny(family)
    assert layer_list(model)[0] == LISTS[family]
    found, num_layers = depths(model)
    assert num_layers == NUM_LAYERS
    assert {name for name, depth in found.items() if depth == 0} == matching(model, BEFORE[family])
    assert {name for name, depth in found.items() if depth == NUM_LAYERS + 1} == matching(model, AFTER[family])
    for layer in range(NUM_LAYERS):
        assert {name for name, depth in found.items() if depth == layer + 1} == in_layers(model, family, range(layer, layer + 1))


@pytest.mark.parametrize(
    ("architecture", "changes", "before", "after"),
    [
        ("opt", {"word_embed_proj_dim": 16}, r"embed_|project_in", r"final_layer_norm|project_out|lm_head"),
        (
            "deberta-v2",
            {"relative_attention": True, "position_biased_input": False, "norm_rel_ebd": "layer_norm"},
            r"\.embeddings\.|rel_embeddings|encoder\.LayerNorm",
            "(?i)^cls|predictions",
        ),
        ("mpnet", {}, r"\.embeddings\.|relative_attention_bias", "lm_head"),
        ("xlm-roberta-xl", {}, r"\.embeddings\.", r"encoder\.LayerNorm|lm_head"),
    ],
)
def test_what_is_listed_elsewhere_than_it_is_used_has_the_depth_of_its_use(
    architecture: str, changes: dict[str, Any], before: str, after: str
) -> None:
    causal = architecture == "opt"
    model = tiny_of(architecture, "AutoModelForCausalLM" if causal else "AutoModelForMaskedLM", **changes)
    prefix, _ = layer_list(model)
    found, num_layers = depths(model)
    outside = {name: depth for name, depth in found.items() if not name.startswith(prefix)}
    assert {name for name, depth in outside.items() if depth == 0} == {name for name in outside if re.search(before, name)}
    assert {name for name, depth in outside.items() if depth > num_layers} == {name for name in outside if re.search(after, name)}


@pytest.mark.parametrize(
    ("architecture", "changes"),
    [("bart", {"num_hidden_layers": 3}), ("t5", {"num_hidden_layers": 3, "num_layers": 3, "num_decoder_layers": 2})],
)
def test_two_parts_of_unequal_depth_are_no_one_list_of_layers(architecture: str, changes: dict[str, int]) -> None:
    model = tiny_of(architecture, writer(architecture), **changes)
    with pytest.raises(RecipeError, match="so layers cannot be counted"):
        layer_list(model)
    assert len(layer_list(model.base_model.encoder)[1]) == 3


@pytest.mark.parametrize("family", FAMILIES)
def test_only_the_head_moves(family: str) -> None:
    model = tiny(family)
    before = snapshot(model)
    train(HeadSpec(kind="head").prepare(model, 0))
    assert moved(model, before) == matching(model, HEADS[family])


def test_a_head_that_is_the_embedding_moves_it_and_says_so() -> None:
    model = tiny("llama", tied=True)
    before = snapshot(model)
    prepared = HeadSpec(kind="head").prepare(model, 0)
    train(prepared)
    assert moved(model, before) == {"model.embed_tokens.weight"}
    assert "both move" in prepared.notes[0]


@pytest.mark.parametrize("family", FAMILIES)
def test_only_the_top_layers_and_what_is_above_move(family: str) -> None:
    model = tiny(family)
    before = snapshot(model)
    train(TopLayersSpec(kind="top_layers", num_layers=2).prepare(model, 0))
    assert moved(model, before) == in_layers(model, family, range(2, 4)) | matching(model, AFTER[family]) - IDLE


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("num_layers", "first"), [(None, 2), (3, 3), (0, 0)], ids=["half", "three", "none"])
def test_the_first_layers_stand_still(family: str, num_layers: int | None, first: int) -> None:
    model = tiny(family)
    before = snapshot(model)
    train(FreezeSpec(kind="freeze", num_layers=num_layers).prepare(model, 0))
    assert moved(model, before) == in_layers(model, family, range(first, 4)) | matching(model, AFTER[family]) - IDLE


def test_a_shared_matrix_stands_still_with_the_embedding() -> None:
    model = tiny("llama", tied=True)
    before = snapshot(model)
    train(FreezeSpec(kind="freeze").prepare(model, 0))
    assert moved(model, before) == in_layers(model, "llama", range(2, 4)) | {"model.norm.weight"}


@pytest.mark.parametrize("method", [TopLayersSpec(kind="top_layers", num_layers=5), FreezeSpec(kind="freeze", num_layers=5)])
def test_more_layers_than_there_are_is_the_recipe_s_error(method: Any) -> None:
    with pytest.raises(RecipeError, match=r"num_layers is 5, but the base has 4 layers; set [01] to 4"):
        method.prepare(tiny("llama"), 0)


def test_layers_that_cannot_be_counted_are_refused() -> None:
    model = tiny("llama")
    model.config.num_hidden_layers = 7
    with pytest.raises(RecipeError, match=r"0 lists of 7 layers \(its lists: model\.layers\).*full, lora"):
        TopLayersSpec(kind="top_layers").prepare(model, 0)


def test_rates_fall_by_layer_as_the_formula_says() -> None:
    model = tiny("llama")
    prepared = LayerDecaySpec(kind="layer_decay", decay=0.5).prepare(model, 0)
    optimizer = build_optimizer(model, OPTIM, prepared.plan.rate_factors)
    names = {id(weight): name for name, weight in model.named_parameters()}
    shares = {names[id(weight)]: group["peak"] / OPTIM.peak for group in optimizer.param_groups for weight in group["params"]}
    # Layer l of 4 learns at 0.5^(4 - l), the embeddings are layer 0.
    assert shares["model.embed_tokens.weight"] == 0.0625
    assert [shares[f"model.layers.{number}.mlp.up_proj.weight"] for number in range(4)] == [0.125, 0.25, 0.5, 1.0]
    assert [shares[f"model.layers.{number}.input_layernorm.weight"] for number in range(4)] == [0.125, 0.25, 0.5, 1.0]
    assert shares["model.norm.weight"] == shares["lm_head.weight"] == 1.0
    assert {group["weight_decay"] for group in optimizer.param_groups if group["params"][0].ndim == 1} == {0.0}
    assert "layer 0 x0.0625, layer 1 x0.125" in prepared.notes[0]


def test_a_rate_s_share_is_what_a_weight_moves_by() -> None:
    """The first step of AdamW without decay moves every weight by the learning rate."""
    model = tiny("llama")
    before = snapshot(model)
    train(LayerDecaySpec(kind="layer_decay", decay=0.5).prepare(model, 0), 1, OPTIM.model_copy(update={"weight_decay": 0.0}))
    after = dict(model.named_parameters())
    steps = [
        (after[name] - before[name]).abs().median().item()
        for name in (f"model.layers.{number}.mlp.up_proj.weight" for number in range(4))
    ]
    assert steps == pytest.approx([1.25e-3, 2.5e-3, 5e-3, 1e-2], rel=1e-2)


def test_a_decay_of_1_is_full_tuning_to_the_bit() -> None:
    one, other = tiny("llama"), tiny("llama")
    train(FullSpec(kind="full").prepare(one, 0), 3)
    train(LayerDecaySpec(kind="layer_decay", decay=1.0).prepare(other, 0), 3)
    assert moved(one, snapshot(other)) == set()


@pytest.mark.parametrize("family", FAMILIES)
def test_layers_join_from_the_top(family: str) -> None:
    model = tiny(family)
    prepared = GradualSpec(kind="gradual", period=StepsPeriod(kind="steps", steps=2)).prepare(model, 0)
    before = snapshot(model)
    train(prepared, 2)
    assert moved(model, before) == in_layers(model, family, range(3, 4)) | matching(model, AFTER[family]) - IDLE
    train(prepared, 3)
    assert moved(model, before) == in_layers(model, family, range(2, 4)) | matching(model, AFTER[family]) - IDLE
    train(prepared, 9)
    assert moved(model, before) == set(before) - IDLE


def test_periods_are_counted_in_epochs_or_steps() -> None:
    assert [EpochsPeriod(kind="epochs", epochs=0.5).num_passed(99, epochs) for epochs in (0.0, 0.4, 0.5, 1.6)] == [0, 0, 1, 3]
    assert [StepsPeriod(kind="steps", steps=3).num_passed(step, 99.0) for step in (0, 2, 3, 7)] == [0, 0, 1, 2]


def test_unfreezing_resumed_in_the_middle_ends_with_the_same_bits(tmp_path: Path) -> None:
    from tasks.modeling.loop import Loop, Place, Task
    from tasks.modeling.model import build_model
    from tasks.modeling.objectives.causal import CausalSpec
    from tasks.modeling.parallel import joined
    from tests.modeling.training import MODEL, SPECIAL, TRAIN, tiny_rows

    def loop(folder: Path) -> Any:
        folder.mkdir(exist_ok=True)
        prepared = GradualSpec(kind="gradual", period=StepsPeriod(kind="steps", steps=3)).prepare(
            build_model(MODEL, 64, SPECIAL, 0), 0
        )
        spec = TRAIN.model_copy(update={"num_tokens": 4 * 32 * 9})
        with joined("cpu") as world:
            task = Task(CausalSpec(kind="causal").loss, tiny_rows(1), tiny_rows(2, 300))
            return Loop(prepared.model, task, spec, OPTIM, 0, Place(folder, world, "fp32", 2), prepared.plan)

    whole, cut = loop(tmp_path / "whole"), loop(tmp_path / "cut")
    start = snapshot(whole.model)
    whole.run()
    cut._leave_if_asked = lambda: (_ for _ in ()).throw(TransientError("cut")) if cut.position.step == 5 else None
    with pytest.raises(TransientError):
        cut.run()
    # At step 5 of periods of 3 both layers are trained, the shared embedding is not.
    assert moved(cut.model, start) == set(start) - {"model.embed_tokens.weight"}
    resumed = loop(tmp_path / "cut")
    resumed.run()
    assert resumed.position == whole.position
    assert moved(whole.model, start) == set(start)
    assert all(torch.equal(value, resumed.model.state_dict()[name]) for name, value in whole.model.state_dict().items())
