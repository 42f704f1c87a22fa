"""Conversations as examples: the ids the chat template gives, with the answers marked as what is learned.

In: messages and a tokenizer. Out: ids and which of them are targets. Invariants: the ids are those of the whole conversation
through the template; what stands before an answer is, id for id, the prompt that will be asked later; the token that
ends an answer is learned, nothing else outside of answers is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tasks.core.errors import ContractError
from tasks.modeling.words import chat_ids

TooLong = Literal["drop", "truncate"]
Messages = Sequence[dict[str, str]]


@dataclass(frozen=True, slots=True)
class Marked:
    """A conversation's ids and, for each, whether it is to be predicted."""

    ids: list[int]
    is_target: list[bool]


def mark_answers(tokenizer: Any, messages: Messages, turn_end: int) -> Marked:
    """Returns a conversation with its answers marked.

    Raises:
        ContractError: Through the template, the turns do not add up to the whole conversation, or an answer has no end.
    """
    ids = chat_ids(tokenizer, list(messages), to_answer=False)
    is_target = [False] * len(ids)
    for number, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        start = _num_shared(tokenizer, messages[:number], ids, to_answer=True)
        stop = _num_shared(tokenizer, messages[: number + 1], ids, to_answer=False)
        end = next((place for place in range(stop - 1, start - 1, -1) if ids[place] == turn_end), None)
        if end is None:
            raise ContractError(
                f"the chat template ends no answer with {tokenizer.convert_ids_to_tokens(turn_end)!r}, the token that ends turns "
                f"(... {tokenizer.decode(ids[max(start, stop - 8) : stop])!r}); set base.chat_template to chatml or plain"
            )
        is_target[start : end + 1] = [True] * (end + 1 - start)
    return Marked(ids, is_target)


def question_and_answer(tokenizer: Any, messages: Messages, turn_end: int) -> tuple[list[int], list[int]]:
    """Returns the ids of everything before the last answer, and of the last answer with the token that ends it."""
    marked = mark_answers(tokenizer, messages, turn_end)
    stop = len(marked.ids) - marked.is_target[::-1].index(True)
    start = _num_shared(tokenizer, messages[:-1], marked.ids, to_answer=True)
    return marked.ids[:start], marked.ids[start:stop]


def _num_shared(tokenizer: Any, messages: Messages, ids: list[int], *, to_answer: bool) -> int:
    part = chat_ids(tokenizer, list(messages), to_answer=to_answer)
    if ids[: len(part)] != part:
        raise ContractError(
            f"the chat template gives other ids for the first {len(messages)} turns alone than within the whole conversation "
            f"(... {tokenizer.decode(part[-8:])!r} against ... {tokenizer.decode(ids[max(0, len(part) - 8) : len(part)])!r}); "
            "use a template that only ever adds to what came before"
        )
    return len(part)


def fit(marked: Marked, max_tokens: int, too_long: TooLong) -> Marked | None:
    """Returns the conversation cut to `max_tokens` ids, or none if it is dropped or no target is left."""
    if len(marked.ids) <= max_tokens:
        return marked
    cut = Marked(marked.ids[:max_tokens], marked.is_target[:max_tokens])
    return cut if too_long == "truncate" and any(cut.is_target[1:]) else None
