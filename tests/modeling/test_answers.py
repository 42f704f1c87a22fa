"""Encoder-decoders: each answer is written about what stands before it, scored and generated as the model does by itself."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tasks.core.errors import ContractError
from tasks.modeling.answers import Answered, answered_rows, fit_answer, room, split_answers, text_windows
from tasks.modeling.batches import IGNORED, make_batch
from tasks.modeling.chat import Marked, mark_answers
from tasks.modeling.infer import TwoPartReader, example_nats, greedy_answers
from tasks.modeling.model import token_losses
from tasks.modeling.words import SpecialIds, chat_ids, model_special_ids
from tests.architectures import tiny_of
from tests.modeling.kit import save_tokenizer

END, CPU = 3, torch.device("cpu")
TURNS = [
    {"role": "user", "content": "the files"},
    {"role": "assistant", "content": "read"},
    {"role": "user", "content": "text"},
    {"role": "assistant", "content": "short"},
]
PAIRS = [Answered((20, 30, 40, END), (50, 60, END)), Answered((25, END), (70, 80, 90, END)), Answered((7, 8, 9, END), (10, END))]


@pytest.fixture(scope="module", params=["t5", "bart"])
def reader(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> TwoPartReader:
    model = tiny_of(request.param, "AutoModelForSeq2SeqLM")
    tokenizer = save_tokenizer(tmp_path_factory.mktemp("tokenizer"))
    model.generation_config.forced_bos_token_id = model.generation_config.forced_eos_token_id = None
    return TwoPartReader(model, tokenizer, SpecialIds(end_of_text=END, pad=1, turn_end=END), CPU, "fp32")


def own_nats(model: Any, pair: Answered) -> float:
    """By the model's own loss, which shifts the labels itself."""
    with torch.no_grad():
        said = model(input_ids=torch.tensor([pair.question]), labels=torch.tensor([pair.answer]))
    return float(said.loss) * len(pair.answer)


def test_a_conversation_is_split_at_each_answer() -> None:
    marked = Marked([1, 2, 3, 4, 5, 6, 7, 8], [False, False, True, True, False, False, True, True])
    assert split_answers(marked, 0) == [Answered((1, 2, 0), (3, 0)), Answered((1, 2, 3, 4, 5, 6, 0), (7, 0))]


def test_what_is_read_is_the_prompt_that_will_be_asked(reader: TwoPartReader) -> None:
    pairs = split_answers(mark_answers(reader.tokenizer, TURNS, END), END)
    assert [list(pair.question) for pair in pairs] == [reader.question(TURNS[:1]), reader.question(TURNS[:3])]
    assert reader.question(TURNS[:1]) == [*chat_ids(reader.tokenizer, TURNS[:1], to_answer=True), END]
    assert reader.question_and_answer(TURNS) == (list(pairs[1].question), list(pairs[1].answer))
    assert [reader.tokenizer.decode(pair.answer[:-1]) for pair in pairs] == ["read", "short"]


def test_a_long_question_keeps_its_end_and_a_long_answer_its_beginning() -> None:
    long = Answered((1, 2, 3, END), (4, 5, 6, 7, END))
    assert fit_answer(long, 5, "drop") == long
    assert fit_answer(long, 3, "drop") is None
    assert fit_answer(long, 3, "truncate") == Answered((2, 3, END), (4, 5, 6))


@pytest.mark.parametrize(("length", "most"), [(0, 4), (3, 4), (4, 4), (11, 4)])
def test_each_token_of_a_text_is_written_once_about_what_came_before(length: int, most: int) -> None:
    ids = list(range(10, 10 + length))
    cut = text_windows(ids, END, most)
    assert [token for window in cut for token in window.answer] == [*ids, END]
    assert [token for window in text_windows(ids, END, most, is_whole=False) for token in window.answer] == ids
    assert cut[0].question == (END,)
    assert all(1 < len(window.question) <= most and window.question[-1] == END for window in cut[1:])
    assert all(window.question[:-1] == before.answer[1 - most :] for before, window in pairwise(cut))


def test_an_answer_costs_what_the_model_itself_says_whatever_it_stands_beside(reader: TwoPartReader) -> None:
    expected = [own_nats(reader.model, pair) for pair in PAIRS]
    assert example_nats(reader, PAIRS) == pytest.approx(expected, rel=1e-4)
    assert [float(example_nats(reader, [pair])[0]) for pair in PAIRS] == pytest.approx(expected, rel=1e-4)


def test_rows_hold_each_answer_once(reader: TwoPartReader) -> None:
    config = reader.model.config
    is_packed = config.model_type == "t5"
    positions = room(PAIRS, config, 16)
    rows = answered_rows(PAIRS, config, positions, reader.special)
    assert (rows.num_rows, positions) == ((1, 16) if is_packed else (3, 4))
    batch = make_batch(rows, np.arange(rows.num_rows), CPU)
    assert sorted(batch.targets_BT[batch.targets_BT != IGNORED].tolist()) == sorted(
        token for pair in PAIRS for token in pair.answer
    )
    assert batch.num_targets == sum(len(pair.answer) for pair in PAIRS) == len(token_losses(reader.model, batch))


def test_greedy_answers_are_the_model_s_own(reader: TwoPartReader) -> None:
    questions = [list(pair.question) for pair in PAIRS]
    alone = []
    for question in questions:
        made = reader.model.generate(input_ids=torch.tensor([question]), max_new_tokens=6, do_sample=False)
        alone.append(reader.tokenizer.decode(made[0, 1:], skip_special_tokens=True).strip())
    assert greedy_answers(reader, questions, 6) == alone
    assert all(alone)


def test_what_fits_is_counted_by_side(reader: TwoPartReader) -> None:
    full = [9] * reader.context_tokens
    assert reader.fits(full, full)
    assert not reader.fits([*full, 9], [9])
    assert not reader.fits([9], [*full, 9])


def test_an_encoder_decoder_without_its_ends_is_refused() -> None:
    model = tiny_of("t5", "AutoModelForSeq2SeqLM")
    with pytest.raises(ContractError, match="eos_token_id and turn_end_token_id must be one token each"):
        model_special_ids(model)
    model.config.turn_end_token_id = 2
    assert model_special_ids(model) == SpecialIds(end_of_text=3, pad=1, turn_end=2)


def test_the_folder_is_read_by_two_parts(tmp_path: Path) -> None:
    from tasks.modeling.architecture import is_encoder_decoder
    from tasks.modeling.model import load_model

    for architecture, auto_class, has_two in (("t5", "AutoModelForSeq2SeqLM", True), ("llama", "AutoModelForCausalLM", False)):
        tiny_of(architecture, auto_class).save_pretrained(tmp_path / architecture)
        assert is_encoder_decoder(tmp_path / architecture) == has_two
        assert load_model(tmp_path / architecture).config.is_encoder_decoder == has_two
