"""Compiling: the same course but for rounding, and compiled code that the next run finds again."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch._dynamo
from safetensors.torch import load_file
from torch._dynamo.utils import counters

from tasks.modeling.attention import with_packed_attention
from tasks.modeling.batches import IGNORED
from tasks.modeling.compute import computed
from tasks.modeling.job import Compute
from tasks.modeling.labelled_loss import LabelLoss
from tasks.modeling.labelled_rows import LabelledExample, LabelledRows
from tasks.modeling.labels import HeadFacts
from tasks.modeling.layers import layer_list
from tasks.modeling.loop import Loop
from tasks.modeling.own_logits import packed_logits, two_texts
from tasks.modeling.parallel import joined
from tasks.modeling.records import read_records
from tasks.modeling.specs import AdamWSpec, TrainSpec
from tasks.modeling.task import Place, Task
from tasks.tuning.lora import LoraSpec
from tasks.tuning.virtual_tokens import PrefixSpec
from tests.architectures import tiny_of, writer
from tests.modeling.test_parallel import launch
from tests.modeling.training import TRAIN, TinyJob, train_tiny
from tests.tuning.kit import tiny

SHORT = TRAIN.model_copy(update={"num_tokens": 4 * 32 * 6})


@pytest.mark.slow
def test_a_compiled_model_learns_the_same_and_is_compiled_once(tmp_path: Path) -> None:
    job = TinyJob(folder=tmp_path / "eager", train=SHORT)
    _, plain = train_tiny(job)
    for name in ("first", "second"):
        launch(job.model_copy(update={"folder": tmp_path / name, "compute": Compute(compile=True)}), "compiled_main", tmp_path, 1)
        for figure in ("train_loss", "gradient_norm", "validation_loss"):
            assert _curve(tmp_path / name, figure) == pytest.approx(_curve(tmp_path / "eager", figure), rel=1e-4)
        weights = load_file(tmp_path / name / "model" / "model.safetensors")
        for weight_name, weight in plain.named_parameters():
            torch.testing.assert_close(weights[weight_name], weight.detach(), rtol=0, atol=2e-4, msg=weight_name)
    first, second = (json.loads((tmp_path / name / "cache.json").read_text()) for name in ("first", "second"))
    assert first["miss"] > 0
    assert (second["hit"], second["miss"]) == (first["hit"] + first["miss"], 0)
    assert any((tmp_path / "cache" / "inductor").rglob("*.so"))


def _curve(folder: Path, figure: str) -> list[float]:
    return [record[figure] for record in read_records(folder / "metrics.jsonl") if figure in record]


@pytest.mark.parametrize("family", ["llama", "bert"])
def test_each_layer_is_compiled_and_afterwards_none(family: str) -> None:
    """Equal layers share one compiled code, which a model compiled as a whole has once a layer."""
    model = tiny(family)
    layers = list(layer_list(model)[1])
    with computed(model, Compute(compile=True)):
        assert all(layer._compiled_call_impl is not None for layer in layers)
        assert model.base_model._compiled_call_impl is None
    assert all(module._compiled_call_impl is None for module in model.modules())


def compile_without_code(part: Any, dynamic: bool) -> None:
    part._compiled_call_impl = torch.compile(part._call_impl, backend="eager", dynamic=dynamic)


def test_layers_with_adapters_share_one_compiled_code_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.nn.Module, "compile", compile_without_code)
    torch._dynamo.reset()
    model = LoraSpec(kind="lora", rank=2).prepare(tiny("llama"), seed=0).model.train()
    ids = torch.arange(12)[None]
    eager = model(input_ids=ids, use_cache=False).logits
    own = [vars(module)["forward"] for module in model.modules() if "forward" in vars(module)]
    # Two: the first layer's input has no gradient.
    at_most_two = torch._dynamo.config.patch(recompile_limit=2, fail_on_recompile_limit_hit=True)
    with computed(model, Compute(compile=True)), at_most_two:
        torch.testing.assert_close(model(input_ids=ids, use_cache=False).logits, eager)
    assert own
    assert [vars(module)["forward"] for module in model.modules() if "forward" in vars(module)] == own


@pytest.mark.parametrize("architecture", ["modernbert", "llama"])
def test_items_of_any_length_share_one_compiled_code(architecture: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Labelled text is cut to the longest item of a pass. Two codes: some layers differ, and the first one's input may too."""
    monkeypatch.setattr(torch.nn.Module, "compile", compile_without_code)
    torch._dynamo.reset()
    model = tiny_of(architecture, "AutoModelForSequenceClassification")
    batches = [torch.arange(3, 3 + 2 * length).view(2, length) for length in range(5, 21, 5)]
    eager = [model(input_ids=ids).logits for ids in batches]
    at_most_two = torch._dynamo.config.patch(recompile_limit=2, fail_on_recompile_limit_hit=True)
    with computed(model, Compute(compile=True), any_shape=True), at_most_two:
        for ids, expected in zip(batches, eager, strict=True):
            torch.testing.assert_close(model(input_ids=ids).logits, expected)


def test_a_training_on_labelled_text_is_compiled_for_any_length(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.nn.Module, "compile", compile_without_code)
    torch._dynamo.reset()
    goal = np.zeros(1, dtype=np.float32)
    ids = [np.arange(3, 3 + length) for length in range(5, 17)]
    rows = LabelledRows([LabelledExample("", one, 0 * one, 0 * one + IGNORED, goal) for one in ids], 0)
    task = Task(LabelLoss(HeadFacts(task="classification", label_names=("a", "b"))), rows, rows, order=rows.order)
    spec = TrainSpec(batch_rows=2, num_epochs=1, eval_every_steps=6, checkpoint_every_steps=6)
    at_most_two = torch._dynamo.config.patch(recompile_limit=2, fail_on_recompile_limit_hit=True)
    with joined("cpu") as world, at_most_two:
        model = tiny_of("bert", "AutoModelForSequenceClassification")
        place = Place(tmp_path, world, "fp32", compute=Compute(compile=True))
        assert Loop(model, task, spec, AdamWSpec(kind="adamw", learning_rate=1e-2), 0, place).run().num_steps == 6


def test_layers_that_read_virtual_tokens_are_not_compiled(caplog: pytest.LogCaptureFixture) -> None:
    model = PrefixSpec(kind="prefix", num_tokens=4).prepare(tiny("llama"), seed=0).model
    with caplog.at_level(logging.INFO, "textmill.train"), computed(model, Compute(compile=True)):
        assert all(module._compiled_call_impl is None for module in model.modules())
    assert "not compiled: layers that read virtual tokens" in caplog.text


@pytest.mark.parametrize("architecture", ["t5", "bart"])
def test_of_a_model_of_two_stacks_the_layers_of_both_are_compiled(architecture: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each stack is called by itself, so that code for both together would never run."""
    compiled: list[str] = []

    def compile_and_count(part: Any, dynamic: bool) -> None:
        compiled.append(type(part).__name__)
        compile_without_code(part, dynamic)

    monkeypatch.setattr(torch.nn.Module, "compile", compile_and_count)
    model = with_packed_attention(tiny_of(architecture, writer(architecture)))
    texts = two_texts(model)
    eager = packed_logits(model, texts)
    frames = counters["frames"]["ok"]
    with computed(model, Compute(compile=True)):
        torch.testing.assert_close(packed_logits(model, texts), eager)
    assert len(compiled) == 4
    assert counters["frames"]["ok"] > frames
    assert all(module._compiled_call_impl is None for module in model.modules())


def test_layers_that_cannot_be_counted_are_compiled_whole() -> None:
    model = tiny_of("bart", writer("bart"), decoder_layers=3)
    with computed(model, Compute(compile=True)):
        assert model.base_model.decoder._compiled_call_impl is not None
    assert model.base_model.decoder._compiled_call_impl is None
