"""The pretraining stage, with its child process."""

import contextlib
import json
import math
import signal
import statistics
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch
from safetensors.torch import load_file

from tasks.contracts import Checkpoint, TokenizedCorpus, Tokenizer
from tasks.core.errors import ContractError, TransientError
from tasks.core.site import Site
from tasks.modeling.held_out import held_out_figures
from tasks.modeling.records import read_records
from tasks.modeling.specs import AdamWSpec, ModelSpec, TrainSpec
from tasks.pretrain import PretrainSpec, pretrain
from tests.data.kit import no_base
from tests.modeling.kit import ToySpec, in_process, out_of_memory_once, toy_tokenizer, toy_tokens

SPEC = PretrainSpec(
    model=ModelSpec(depth=2, width=32, num_heads=2, ffn_width=64, context_tokens=64),
    optim=AdamWSpec(kind="adamw", learning_rate=1e-2),
    train=TrainSpec(batch_rows=8, num_tokens=8 * 64 * 30, eval_every_steps=10, checkpoint_every_steps=10),
    precision="fp32",
)
Inputs = tuple[TokenizedCorpus, Tokenizer, Checkpoint]


@pytest.fixture(scope="module")
def shared_site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return Site(state_dir=tmp_path_factory.mktemp("state"))


@pytest.fixture(scope="module")
def inputs(shared_site: Site) -> Inputs:
    tokenizer = toy_tokenizer.build(ToySpec(), site=shared_site)
    return toy_tokens.build(ToySpec(size=200), tokenizer, site=shared_site), tokenizer, no_base(shared_site)


@pytest.fixture(scope="module")
def base(inputs: Inputs, shared_site: Site) -> Checkpoint:
    return pretrain.build(SPEC, *inputs, site=shared_site)


def test_facts_and_files(base: Checkpoint, inputs: Inputs) -> None:
    assert (base.method, base.tokenizer_digest, base.precision) == ("pretrain", inputs[1].digest, "fp32")
    assert (base.num_steps, base.num_parameters) == (30, base.num_trained_parameters)
    assert base.validation_loss < 3.5
    ratio = inputs[0].tokens_by_split["validation"] / inputs[0].bytes_by_split["validation"]
    assert base.validation_bits_per_byte == pytest.approx(base.validation_loss / 0.693147 * ratio, rel=1e-5)
    extra = base.path / "extra"
    assert (extra / "curve.svg").read_text().startswith("<?xml")
    figures = base.held_out
    assert figures["loss"] == pytest.approx(base.validation_loss, rel=1e-3)  # rows by language cut documents elsewhere
    assert figures["bits_per_byte"] == pytest.approx(base.validation_bits_per_byte, rel=1e-3)
    assert {name.split("/")[-1] for name in figures if "/" in name} == {"en", "zh"}
    assert min(figures["bits_per_byte/en"], figures["bits_per_byte/zh"]) < figures["bits_per_byte"]
    assert 0 < figures["bigram_nats"] < figures["loss"] < figures["unigram_nats"] < math.log(320)
    assert f"bigram {figures['bigram_nats']:.2f}" in (extra / "curve.svg").read_text()
    assert {path.name for path in (extra / "checkpoints").iterdir()} == {"step-000020", "step-000030"}
    assert json.loads((extra / "result.json").read_text())["notes"]["documents_continued_in_next_row"] > 0
    config = json.loads((base.path / "model" / "generation_config.json").read_text())
    assert config["eos_token_id"] == [3, 0]


def test_it_loads_as_users_load_models(base: Checkpoint) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(base.path / "model")
    tokenizer = AutoTokenizer.from_pretrained(base.path / "model")
    chat = tokenizer.apply_chat_template(
        [{"role": "user", "content": "the files"}], add_generation_prompt=True, return_tensors="pt"
    )
    assert model.generate(**chat, max_new_tokens=3).shape[1] > chat["input_ids"].shape[1]


def test_another_tokenizer_is_refused(inputs: Inputs, shared_site: Site) -> None:
    other = inputs[1].model_copy(update={"digest": "f" * 64})
    with pytest.raises(ContractError, match=r"was encoded with tokenizer .* encode the corpus again"):
        pretrain.fn(SPEC, inputs[0], other, inputs[2], ctx=SimpleNamespace(stage=pretrain))


def test_an_empty_validation_split_is_refused(inputs: Inputs) -> None:
    empty = inputs[0].model_copy(update={"tokens_by_split": {"train": 5, "validation": 0, "test": 0}})
    with pytest.raises(ContractError, match="no validation tokens"):
        pretrain.fn(SPEC, empty, *inputs[1:], ctx=SimpleNamespace(stage=pretrain))


OBJECTIVES = [
    ("masked", "bert", {}, {"loss", "accuracy"}),
    ("masked", "modernbert", {"whole_words": True}, {"loss", "accuracy"}),
    ("masked_next_sentence", "bert", {}, {"loss", "accuracy", "next_sentence_loss", "next_sentence_accuracy"}),
    ("span_corruption", "t5", {"num_sentinels": 12}, {"loss", "accuracy"}),
    ("text_infilling", "bart", {}, {"loss", "accuracy"}),
    ("fill_in_the_middle", "gpt2", {}, {"loss", "accuracy", "bits_per_byte", "infilling_loss", "infilling_accuracy"}),
]


@pytest.mark.parametrize(("kind", "family", "options", "figures"), OBJECTIVES, ids=[f"{one[0]}-{one[1]}" for one in OBJECTIVES])
def test_every_objective_is_pretrained_by_the_same_loop(
    inputs_of_all: Inputs, site: Site, kind: str, family: str, options: dict[str, object], figures: set[str]
) -> None:
    tree = SPEC.model_dump(mode="json", exclude={"optim"}) | {"objective": {"kind": kind} | options}
    tree["model"] |= {"family": family, "context_tokens": 64}
    tree["train"] |= {"num_tokens": 8 * 64 * 6, "eval_every_steps": 3, "checkpoint_every_steps": 3}
    with in_process():
        made = pretrain.build(PretrainSpec.model_validate(tree), *inputs_of_all, site=site)
    assert {name for name in made.held_out if "/" not in name} == figures | {"unigram_nats", "bigram_nats"}
    assert all(f"{name}/{lang}" in made.held_out for name in figures for lang in ("en", "zh"))
    assert made.validation_loss < json.loads((made.path / "extra" / "result.json").read_text())["first_validation_loss"]
    assert (made.validation_bits_per_byte is None) == (kind != "fill_in_the_middle")
    _check_parts(made, parts=("masked", "next_sentence") if kind == "masked_next_sentence" else ())


def _check_parts(made: Checkpoint, parts: tuple[str, ...]) -> None:
    """The losses that were recorded apart add up to the loss, at each step and at each look, and are drawn."""
    records = read_records(made.path / "extra" / "metrics.jsonl")
    for kind, count in (("train", 6), ("validation", 3)):
        found = [record for record in records if f"{kind}_loss" in record]
        assert len(found) == count
        names = {f"{kind}_{part}_loss" for part in parts}
        assert all(names == {name for name in one if name.endswith("_loss")} - {f"{kind}_loss"} for one in found)
        for one in found if parts else []:
            assert one[f"{kind}_loss"] == pytest.approx(sum(one[name] for name in names), rel=1e-6)
    curve = (made.path / "extra" / "curve.svg").read_text()
    assert all(f"{kind} {part.replace('_', ' ')} loss" in curve for kind in ("train", "validation") for part in parts)
    assert "model FLOPs utilisation" in curve
    assert made.figures["mfu"] == statistics.median(record["mfu"] for record in records if "mfu" in record) > 0


@pytest.fixture(scope="module")
def inputs_of_all(shared_site: Site) -> Inputs:
    """A corpus whose tokenizer has the special tokens of every objective; its sentences end."""
    tokenizer = toy_tokenizer.build(ToySpec(extra=True), site=shared_site)
    return toy_tokens.build(ToySpec(size=120, extra=True), tokenizer, site=shared_site), tokenizer, no_base(shared_site)


@pytest.mark.parametrize(
    ("kind", "family", "lacking"),
    [
        ("masked", "bert", "mask, cls, sep"),
        ("masked_next_sentence", "bert", "mask, cls, sep"),
        ("span_corruption", "t5", r"sentinel_0, sentinel_1, sentinel_2, sentinel_3 \.\.\."),
        ("text_infilling", "bart", "mask"),
        ("fill_in_the_middle", "qwen3", "fim_prefix, fim_suffix, fim_middle"),
    ],
)
def test_a_tokenizer_without_the_objective_s_tokens_is_refused(inputs: Inputs, kind: str, family: str, lacking: str) -> None:
    spec = PretrainSpec.model_validate({"objective": {"kind": kind}, "model": {"family": family}})
    remedy = "with tokenizer.source.kind = train they are added.*or set another pretrain.objective.kind"
    with pytest.raises(ContractError, match=f"'{kind}' needs tokens that .* lacks: {lacking}; {remedy}"):
        pretrain.fn(spec, *inputs, ctx=SimpleNamespace(stage=pretrain))


def test_many_epochs_are_a_warning(inputs: Inputs, site: Site) -> None:
    train = TrainSpec(batch_rows=8, num_epochs=4.5, eval_every_steps=1000, checkpoint_every_steps=1000)
    with in_process():
        warned = pretrain.build(SPEC.model_copy(update={"train": train}), *inputs, site=site)
    assert any("read 4.5 times" in line or "read 4.6 times" in line for line in warned.warnings)


def test_a_model_that_no_device_has_room_for_is_kept_all_the_same(
    inputs: Inputs, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = out_of_memory_once(monkeypatch, held_out_figures, "tasks.modeling.train.held_out_figures")
    train = SPEC.train.model_copy(update={"num_tokens": 8 * 64 * 2})
    with in_process():
        made = pretrain.build(SPEC.model_copy(update={"train": train}), *inputs, site=site)
    assert made.held_out.items() >= looks[0].items()
    assert len(looks) == 2


@pytest.mark.slow
def test_kills_at_any_moment_change_no_bit(base: Checkpoint, inputs: Inputs, site: Site) -> None:
    """SIGKILL the training processes three times at moments that differ; the weights end up the same."""
    for delay_s in (0.15, 0.5, 0.9):
        killer = threading.Thread(target=_kill_after_start, args=(site.store_dir, delay_s))
        killer.start()
        with pytest.raises(TransientError, match="was killed"):
            pretrain.build(SPEC, *inputs, site=site)
        killer.join()
    resumed = pretrain.build(SPEC, *inputs, site=site)
    assert resumed.digest == base.digest
    weights, expected = (load_file(one.path / "model" / "model.safetensors") for one in (resumed, base))
    assert all(torch.equal(weights[name], expected[name]) for name in expected)


def _kill_after_start(store: Path, delay_s: float) -> None:
    """Kills this test's workers and launcher `delay_s` seconds after the training has begun or gone on."""
    before = _records(store)
    while _records(store) <= before:
        time.sleep(0.005)
    time.sleep(delay_s * 0.1)
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if "tasks.modeling.train:pretrain_main" in process.cmdline():
                process.send_signal(signal.SIGKILL)


def _records(store: Path) -> int:
    return sum(path.stat().st_mtime_ns for path in store.glob("checkpoint/*.partial/extra/metrics.jsonl"))
