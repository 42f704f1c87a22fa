"""Which tokens of a conversation are learned."""

from typing import Any

import pytest

from tasks.core.errors import ContractError
from tasks.instructions.forms import conversation
from tasks.modeling.chat import fit, mark_answers, question_and_answer
from tasks.modeling.words import SpecialIds, chat_ids, load_tokenizer

TWO_TURNS = [
    {"role": "system", "content": "the files"},
    {"role": "user", "content": "text"},
    {"role": "assistant", "content": "显示 目录"},
    {"role": "user", "content": "short"},
    {"role": "assistant", "content": "users"},
]


def test_answers_and_their_ends_are_learned_and_nothing_else(tokenizer: Any, special: SpecialIds) -> None:
    marked = mark_answers(tokenizer, TWO_TURNS, special.turn_end)
    learned = tokenizer.decode([token for token, is_target in zip(marked.ids, marked.is_target, strict=True) if is_target])
    assert learned == "显示 目录<|im_end|>users<|im_end|>"
    assert marked.ids == chat_ids(tokenizer, TWO_TURNS, to_answer=False)


def test_what_stands_before_an_answer_is_the_prompt_that_is_asked_later(tokenizer: Any, special: SpecialIds) -> None:
    question, answer = question_and_answer(tokenizer, TWO_TURNS, special.turn_end)
    assert question == chat_ids(tokenizer, TWO_TURNS[:-1], to_answer=True)
    assert tokenizer.decode(answer) == "users<|im_end|>"


def test_calls_of_tools_are_learned_and_what_tools_answer_is_not(tokenizer: Any, special: SpecialIds) -> None:
    spoken = [("human", "text"), ("function_call", '{"name": "ls"}'), ("observation", "files"), ("gpt", "users")]
    turns = [{"from": role, "value": text} for role, text in spoken]
    messages = list(conversation({"conversations": turns, "tools": [{"name": "ls"}]}))
    marked = mark_answers(tokenizer, messages, special.turn_end)
    learned = tokenizer.decode([token for token, is_target in zip(marked.ids, marked.is_target, strict=True) if is_target])
    assert learned == '<tool_call>\n{"name": "ls", "arguments": {}}\n</tool_call><|im_end|>users<|im_end|>'
    assert "<tool_response>\nfiles\n</tool_response>" in tokenizer.decode(marked.ids)


def test_a_conversation_too_long_is_dropped_or_cut(tokenizer: Any, special: SpecialIds) -> None:
    marked = mark_answers(tokenizer, TWO_TURNS, special.turn_end)
    first_target = marked.is_target.index(True)
    assert fit(marked, len(marked.ids), "drop") is marked
    assert fit(marked, len(marked.ids) - 1, "drop") is None
    cut = fit(marked, first_target + 2, "truncate")
    assert cut is not None
    assert cut.ids == marked.ids[: first_target + 2]
    assert fit(marked, first_target, "truncate") is None


def test_a_template_that_ends_no_answer_is_refused_with_what_to_set(tokenizer: Any, special: SpecialIds) -> None:
    with pytest.raises(ContractError, match=r"ends no answer with '<\|endoftext\|>'.*set base\.chat_template to chatml or plain"):
        mark_answers(tokenizer, TWO_TURNS, special.end_of_text)


def test_a_conversation_the_template_refuses_is_refused_with_what_to_do(tokenizer_folder: Any, special: SpecialIds) -> None:
    tokenizer = load_tokenizer(tokenizer_folder)
    refuses = "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    tokenizer.chat_template = refuses + tokenizer.chat_template  # as Gemma's does
    with pytest.raises(
        ContractError, match=r"of system, user, assistant, .*System role not supported\); leave system messages out"
    ):
        mark_answers(tokenizer, TWO_TURNS, special.turn_end)
    mark_answers(tokenizer, TWO_TURNS[1:], special.turn_end)


def test_a_template_that_rewrites_the_past_is_refused(tokenizer_folder: Any, special: SpecialIds) -> None:
    tokenizer = load_tokenizer(tokenizer_folder)
    tokenizer.chat_template = "{{ messages | length }}" + tokenizer.chat_template
    with pytest.raises(ContractError, match="gives other ids for the first 2 turns"):
        mark_answers(tokenizer, TWO_TURNS, special.turn_end)
