"""Methods without a plain form: bottlenecks, prefixes, prompts; how they start, what they train, how they are kept and scored."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tasks.contracts import Checkpoint, Conversations
from tasks.core.errors import ContractError, RecipeError
from tasks.core.site import Site
from tasks.modeling.batches import Example
from tasks.modeling.infer import Reader, example_nats, greedy_answers
from tasks.modeling.model import load_model, num_parameters
from tasks.modeling.specs import AdamWSpec, TrainSpec
from tasks.tuning import LoraSpec, TuneSpec, tune
from tasks.tuning.bottleneck import BottleneckSpec
from tasks.tuning.virtual_tokens import PrefixSpec, PromptSpec
from tests.modeling.kit import Old
from tests.tuning.kit import logits, moved, snapshot, tiny, train

TRAIN = TrainSpec(batch_rows=4, num_epochs=2, eval_every_steps=4, checkpoint_every_steps=4, select="best")
METHODS: dict[str, Any] = {
    "bottleneck": BottleneckSpec(kind="bottleneck"),
    "prefix": PrefixSpec(kind="prefix", num_tokens=4),
    "prefix-network": PrefixSpec(kind="prefix", num_tokens=4, hidden_size=8),
    "prompt": PromptSpec(kind="prompt", num_tokens=4),
}


@pytest.fixture(scope="module", params=METHODS)
def tuned(
    request: pytest.FixtureRequest, base: Checkpoint, conversations: Conversations, old: Old, shared_site: Site
) -> Checkpoint:
    spec = TuneSpec(
        method=METHODS[request.param], train=TRAIN, optim=AdamWSpec(kind="adamw", learning_rate=1e-2), precision="fp32"
    )
    return tune.build(spec, base, conversations, *old, site=shared_site)


# -- bottlenecks -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["llama", "qwen3", "gpt2", "bert"])
def test_bottlenecks_change_nothing_at_first_and_move_alone(family: str) -> None:
    model = tiny(family)
    before, start = logits(model), snapshot(model)
    prepared = BottleneckSpec(kind="bottleneck", size=3).prepare(model, 0)
    assert torch.equal(logits(model), before)
    added = {name for name, _ in model.named_parameters()} - start.keys()
    assert len(added) == 4 * 2 * 4  # 4 layers, 2 adapters, a matrix and a bias down and up
    # Two matrices of 16 by 3, a bias of 3 and one of 16, eight times.
    assert num_parameters(model, trained_only=True) == 8 * (2 * 16 * 3 + 3 + 16)
    start |= {name: weight for name, weight in snapshot(model).items() if name in added}
    train(prepared, 3)
    assert moved(model, start) == added
    assert not torch.equal(logits(model), before)


def test_a_bottleneck_is_h_plus_up_act_down_h() -> None:
    from tasks.modeling.bottleneck import Bottleneck

    one = Bottleneck(2, 1, "relu")
    with torch.no_grad():
        for weight, values in zip(one.parameters(), ([[1.0, -1.0]], [0.5], [[2.0], [3.0]], [0.0, 1.0]), strict=True):
            weight.copy_(torch.tensor(values))
    # down: 3 - 1 + 0.5 = 2.5, relu, up: (5, 7.5 + 1); and -3 - 1 + 0.5 < 0 leaves the bias alone.
    assert one(torch.tensor([[3.0, 1.0], [-3.0, 1.0]])).tolist() == [[8.0, 9.5], [-3.0, 2.0]]


def test_a_copy_of_a_model_runs_adapters_of_its_own() -> None:
    model = tiny("llama")
    BottleneckSpec(kind="bottleneck", size=3).prepare(model, 0)
    before, copied = logits(model), deepcopy(model)
    with torch.no_grad():
        copied.model.layers[0].bottleneck_0.up.bias.add_(1.0)
    assert not torch.equal(logits(copied), before)
    assert torch.equal(logits(model), before)


def test_the_activation_and_the_size_change_something() -> None:
    def after(**fields: Any) -> torch.Tensor:
        model = tiny("llama")
        train(BottleneckSpec(kind="bottleneck", **fields).prepare(model, 0), 2)
        return logits(model)

    results = [after(size=2), after(size=3), after(size=2, activation="relu"), after(size=2, activation="silu")]
    assert not any(torch.equal(one, other) for n, one in enumerate(results) for other in results[:n])


def test_by_default_bottlenecks_are_about_2_percent(base: Checkpoint) -> None:
    model = load_model(base.path / "model")
    num_before = num_parameters(model)
    BottleneckSpec(kind="bottleneck").prepare(model, 0)
    assert 0.005 < num_parameters(model, trained_only=True) / num_before < 0.05


def test_layers_of_unknown_names_are_refused() -> None:
    model = tiny("llama")
    for layer in model.model.layers:
        layer.mixer = layer.self_attn
        del layer.self_attn
    with pytest.raises(RecipeError, match=r"no attention and feed-forward of known names \(it has mlp, .*mixer\)"):
        BottleneckSpec(kind="bottleneck", size=2).prepare(model, 0)


# -- virtual tokens ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["llama", "qwen3", "gpt2"])
@pytest.mark.parametrize("name", ["prefix", "prefix-network", "prompt"])
def test_virtual_tokens_read_as_peft_reads_them_and_move_alone(family: str, name: str, tmp_path: Path) -> None:
    from peft import PeftModel

    model = tiny(family)
    start = snapshot(model)
    prepared = METHODS[name].prepare(model, 0)
    added = {key for key, _ in model.named_parameters()} - start.keys()
    start |= {key: weight for key, weight in snapshot(model).items() if key in added}
    train(prepared, 3)
    assert moved(model, start) == added
    assert prepared.finish(tmp_path / "adapter") is None
    theirs = PeftModel.from_pretrained(tiny(family), tmp_path / "adapter").eval()
    with torch.no_grad():
        expected = theirs(input_ids=torch.arange(20)[None]).logits[:, -20:]
    torch.testing.assert_close(logits(model), expected, rtol=1e-4, atol=1e-5)


def test_they_train_what_the_formulas_say() -> None:
    def trained(spec: Any) -> int:
        return num_parameters(spec.prepare(tiny("llama"), 0).model, trained_only=True)

    # Keys and values of one head of 8 in 4 layers; a network of 8 in between; embeddings of 16.
    assert trained(METHODS["prefix"]) == 4 * (4 * 2 * 8)
    assert trained(METHODS["prefix-network"]) == 4 * 8 + (8 * 8 + 8) + (8 * 64 + 64)
    assert trained(METHODS["prompt"]) == 4 * 16


def test_the_network_is_dropped_after_training(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    METHODS["prefix-network"].prepare(tiny("llama"), 0).finish(tmp_path / "adapter")
    kept = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    assert [tuple(value.shape) for value in kept.values()] == [(4, 4 * 2 * 8)]


def test_virtual_tokens_take_their_place_in_the_context() -> None:
    model = tiny("llama")
    METHODS["prompt"].prepare(model, 0)
    assert model.config.max_position_embeddings == 32 - 4
    with pytest.raises(RecipeError, match="num_tokens is 17, but the base's context has 32; set 16 or less"):
        PromptSpec(kind="prompt", num_tokens=17).prepare(tiny("llama"), 0)


@pytest.mark.parametrize("name", ["prefix", "prompt"])
def test_what_would_lose_virtual_tokens_is_refused(name: str) -> None:
    spec = TuneSpec(method=METHODS[name])
    with pytest.raises(RecipeError, match="set TEXTMILL_RECOMPUTE_ACTIVATIONS to false"):
        spec.check_site(Site(recompute_activations=True))
    spec.check_site(Site(num_processes=2))
    shards = Site(num_processes=2, sharding="fsdp2")
    if name == "prefix":
        spec.check_site(shards)
        return
    with pytest.raises(RecipeError, match=r"needs whole weights.*TEXTMILL_SHARDING to ddp, or the method to prefix"):
        spec.check_site(shards)


@pytest.mark.parametrize("name", ["prefix", "prompt"])
def test_a_base_without_a_cache_is_refused_with_what_works(name: str) -> None:
    from transformers import ModernBertConfig, ModernBertForMaskedLM

    sizes = {"vocab_size": 40, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    model = ModernBertForMaskedLM(
        ModernBertConfig(**sizes, pad_token_id=0, bos_token_id=1, eos_token_id=2, cls_token_id=1, sep_token_id=2)
    )
    with pytest.raises(RecipeError, match=r"ModernBertForMaskedLM keeps no keys and values.*set tune\.method\.kind to lora, ia3"):
        METHODS[name].prepare(model, 0)


# -- as artifacts ------------------------------------------------------------------------------------------------------


def test_it_learns_and_keeps_base_and_adapter(tuned: Checkpoint, base: Checkpoint) -> None:
    import json

    result = json.loads((tuned.path / "extra" / "result.json").read_text())
    assert tuned.validation_loss < result["first_validation_loss"]
    model = tuned.path / "model"
    assert not (model / "config.json").exists()  # so no server takes the base alone for the model
    assert (model / "base" / "model.safetensors").read_bytes() == (base.path / "model" / "model.safetensors").read_bytes()
    assert json.loads((model / "adapter" / "base.json").read_text())["base_digest"] == base.digest
    assert not (tuned.path / "adapter").exists()
    assert tuned.figures["kept_bytes"] == sum(path.stat().st_size for path in (model / "adapter").iterdir())


def test_it_is_scored_as_it_was_trained(tuned: Checkpoint, conversations: Conversations) -> None:
    from tasks.modeling.chat import mark_answers
    from tasks.tuning.conversation_rows import read_messages

    reader = Reader.load(tuned.path / "model", "cpu", "fp32")
    messages = read_messages(conversations.path, "validation")
    marked = [mark_answers(reader.tokenizer, one, reader.special.turn_end) for one in messages]
    examples = [Example.of(one.ids, one.is_target) for one in marked]
    nats = example_nats(reader, examples)
    assert nats.sum() / sum(sum(one.is_target) for one in marked) == pytest.approx(tuned.validation_loss, rel=1e-4)
    alone = [float(example_nats(reader, [example])[0]) for example in examples[:3]]
    np.testing.assert_allclose(alone, nats[:3], rtol=1e-4)  # packed beside others or not


def test_it_answers_as_its_own_next_tokens_say(tuned: Checkpoint) -> None:
    """Greedy answers, generated with a cache and in a padded batch, are the likeliest tokens of the whole text read at once."""
    reader = Reader.load(tuned.path / "model", "cpu", "fp32")
    questions = [reader.tokenizer.encode(text) for text in ("about the model", "about 文件", "files")]
    answers = greedy_answers(reader, questions, 5)
    for question, answer in zip(questions, answers, strict=True):
        ids = list(question)
        for _ in range(5):
            ids.append(_likeliest(reader.model, ids))
            if ids[-1] in (reader.special.turn_end, reader.special.end_of_text):
                break
        assert reader.tokenizer.decode(ids[len(question) :], skip_special_tokens=True).strip() == answer


def _likeliest(model: Any, ids: list[int]) -> int:
    from tasks.modeling.attention import packed_mask

    text = torch.tensor([ids])
    with torch.inference_mode():
        said = model(input_ids=text, attention_mask=packed_mask(torch.zeros_like(text), torch.float32), use_cache=False).logits
    return int(said[0, -1].argmax())


def test_beside_another_base_the_adapter_is_refused(tuned: Checkpoint, conversations: Conversations, tmp_path: Path) -> None:
    import shutil

    from safetensors.torch import load_file, save_file

    folder = tmp_path / "model"
    shutil.copytree(tuned.path / "model", folder)
    path = folder / "base" / "model.safetensors"
    weights = {name: weight + 1 for name, weight in load_file(path).items()}
    path.unlink()
    save_file(weights, path, {"format": "pt"})
    with pytest.raises(ContractError, match=rf"was trained on checkpoint {tuned.base_digest[:12]}, and .* holds other weights"):
        load_model(folder)


def test_it_is_not_tuned_further(tuned: Checkpoint, conversations: Conversations, old: Old, site: Site) -> None:
    with pytest.raises(ContractError, match="has no plain form to tune further"):
        tune.fn(TuneSpec(method=LoraSpec(kind="lora")), tuned, conversations, *old, ctx=None)
