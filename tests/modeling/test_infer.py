"""Asking a model: every token once, nothing depends on the neighbours."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tasks.modeling.attention import packed_mask
from tasks.modeling.batches import IGNORED, Example
from tasks.modeling.infer import Reader, TwoPartReader, example_nats, greedy_answers, windows
from tasks.modeling.model import build_model, save_model
from tasks.modeling.specs import ModelSpec
from tasks.modeling.words import SpecialIds, chat_ids
from tasks.registry.served_model import ChatModel
from tests.architectures import tiny_of, writer


@pytest.fixture(scope="module")
def reader(tokenizer_folder: Path, special: SpecialIds, tmp_path_factory: pytest.TempPathFactory) -> Reader:
    folder = tmp_path_factory.mktemp("model")
    spec = ModelSpec(depth=2, width=32, num_heads=2, ffn_width=64, context_tokens=32, init_std=0.3)
    save_model(build_model(spec, 320, special, 5), tokenizer_folder, special, folder)
    return Reader.load(folder, "cpu", "fp32")


def test_windows_by_hand() -> None:
    cut = windows([5, 6, 7, 8, 9], separator=0, context_tokens=4, stride_tokens=2)
    assert [(part.ids.tolist(), part.targets.tolist()) for part in cut] == [
        ([0, 5, 6, 7], [5, 6, 7, 8]),
        ([6, 7, 8, 9], [IGNORED, IGNORED, 9, 0]),
    ]


@pytest.mark.parametrize(("context", "stride"), [(4, 1), (4, 4), (8, 3), (100, 50)])
def test_every_token_and_the_end_where_it_is_there_is_scored_once(context: int, stride: int) -> None:
    ids = list(range(10, 33))
    for is_whole, end in ((True, [0]), (False, [])):
        targets = np.concatenate([part.targets for part in windows(ids, 0, context, stride, is_whole=is_whole)])
        assert targets[targets != IGNORED].tolist() == [*ids, *end]


def test_an_empty_document_is_its_end() -> None:
    assert [(part.ids.tolist(), part.targets.tolist()) for part in windows([], 0, 4, 2)] == [([0], [0])]
    assert [(part.ids.tolist(), part.targets.tolist()) for part in windows([5], 0, 4, 2, opening=9)] == [([9, 5], [5, 0])]


def test_nats_are_those_of_the_plain_model(reader: Reader) -> None:
    ids = [4, 9, 30, 31, 77]
    example = Example.of(ids, [False, True, False, True, True])
    mask = packed_mask(torch.zeros(1, 5, dtype=torch.long), torch.float32)
    with torch.no_grad():
        logits = reader.model(input_ids=torch.tensor([ids]), attention_mask=mask, use_cache=False).logits[0].log_softmax(-1)
    by_hand = -(logits[0, 9] + logits[2, 31] + logits[3, 77]).item()
    fillers = [Example.of(list(range(4, 4 + length)), [True] * length) for length in (7, 9, 20, 30)]
    assert example_nats(reader, [example])[0] == pytest.approx(by_hand, rel=1e-5)
    assert example_nats(reader, [*fillers, example])[-1] == pytest.approx(by_hand, rel=1e-5)


def test_an_answer_does_not_depend_on_what_it_is_asked_beside(reader: Reader) -> None:
    contents = ["the files", "显示", "short questions about text and the model"]
    questions = [chat_ids(reader.tokenizer, [{"role": "user", "content": text}], to_answer=True) for text in contents]
    together = greedy_answers(reader, questions, 6)
    alone = [greedy_answers(reader, [question], 6)[0] for question in questions]
    assert together == alone
    assert len(set(together)) > 1


def test_an_answer_is_what_the_plain_model_likes_best(reader: Reader) -> None:
    question = chat_ids(reader.tokenizer, [{"role": "user", "content": "the files"}], to_answer=True)
    ids = list(question)
    for _ in range(5):
        mask = packed_mask(torch.zeros(1, len(ids), dtype=torch.long), torch.float32)
        with torch.no_grad():
            logits = reader.model(input_ids=torch.tensor([ids]), attention_mask=mask, use_cache=False).logits
        ids.append(int(logits[0, -1].argmax()))
    answer: Any = reader.tokenizer.decode(ids[len(question) :], skip_special_tokens=True).strip()
    assert greedy_answers(reader, [question], 5) == [answer]


@pytest.mark.parametrize(("architecture", "most"), [("gpt2", [6, 3, 1, 0]), ("bart", [16, 16, 16, 16])])
def test_nothing_is_written_beyond_the_context(
    architecture: str, most: list[int], tokenizer: Any, special: SpecialIds, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_of(architecture, writer(architecture), max_position_embeddings=16)
    monkeypatch.setattr(model.generation_config, "eos_token_id", None)
    monkeypatch.setattr(model.generation_config, "forced_eos_token_id", None)
    reader = (TwoPartReader if model.config.is_encoder_decoder else Reader)(
        model, tokenizer, special, torch.device("cpu"), "fp32"
    )
    questions = [list(range(20, 20 + length)) for length in (11, 14, 16, 17)]
    together = reader.generate(questions[: 4 if architecture == "gpt2" else 3], 40)
    assert {len(ids) for ids in together} == {max(most)}
    for question, ids, count in zip(questions, together, most, strict=False):
        alone = reader.generate([question], 40)
        assert (len(alone[0]), ids) == (count, alone[0] + [special.pad] * (max(most) - count))


@pytest.mark.parametrize("architecture", ["gpt2", "bart"])
def test_a_registered_model_writes_as_far_as_its_context_too(
    architecture: str, tokenizer: Any, special: SpecialIds, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_of(architecture, writer(architecture), max_position_embeddings=32)
    monkeypatch.setattr(model.generation_config, "eos_token_id", None)
    monkeypatch.setattr(model.generation_config, "forced_eos_token_id", None)
    messages = [{"role": "user", "content": "the files"}]
    reader = (TwoPartReader if model.config.is_encoder_decoder else Reader)(
        model, tokenizer, special, torch.device("cpu"), "fp32"
    )
    served = ChatModel()
    served.model, served.tokenizer, served.num_virtual_tokens = model, tokenizer, 0
    monkeypatch.setattr(model.config, "eos_token_id", special.end_of_text)
    (expected,) = greedy_answers(reader, [reader.question(messages)], 100)
    assert served._answer(messages, 100).strip() == expected
