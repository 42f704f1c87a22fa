"""Pairs: preference items as the world writes them become conversations with a better and a worse end, or with a verdict.

In: JSON objects: a prompt in any form of `forms` with `chosen` and `rejected` (an answer, a message, or a whole conversation), or
a conversation with `label`. Out: a `Preference`, or the reason why it is none. Invariant: both sides answer the same prompt, and
are neither empty nor equal.
"""

from dataclasses import dataclass
from typing import Any

from tasks.core.rows import Refused, object_of
from tasks.instructions.forms import conversation, filled, names, opening, turns_of
from tasks.instructions.items import Asked, Item
from tasks.instructions.turns import Message, Turn, read_messages, require_answered, text_of

_ANSWERING = ("assistant", "gpt")

Question = tuple[Asked, frozenset[str]]


@dataclass(frozen=True, slots=True)
class Preference:
    """A conversation whose last answer is preferred to another one, or is good or bad.

    Attributes:
        item: The conversation; of a pair with the chosen answer.
        rejected: The other answer of a pair.
        is_good: Verdict on an answer that stands alone.
    """

    item: Item
    rejected: str | None = None
    is_good: bool | None = None

    @property
    def question(self) -> Question:
        """What was to be decided: what was asked, and the answers to it."""
        return self.item.asked, frozenset({self.item.answer, self.rejected or self.item.answer})

    @property
    def verdict(self) -> str | bool | None:
        """What was decided."""
        return self.item.answer if self.rejected is not None else self.is_good

    def row(self, split: str) -> dict[str, Any]:
        """Returns the preference as a line of `preferences.jsonl`."""
        item = self.item
        row: dict[str, Any] = {"id": item.id, "group": item.group, "source": item.source, "split": split}
        if self.rejected is None:
            return row | {"messages": list(item.messages), "is_good": self.is_good}
        return row | {"prompt": list(item.messages[:-1]), "chosen": item.answer, "rejected": self.rejected}


def to_pair(value: Any, number: int, source: str, form: str, slots: dict[str, str]) -> Preference:
    """Returns the pair that a JSON value stands for.

    Raises:
        Refused: With the reason that is counted.
    """
    value = object_of(value, "unknown_form")
    if "chosen" not in value or "rejected" not in value:
        raise Refused("not_a_pair")
    prompt = opening(value, form)
    if prompt and prompt[-1][0] in _ANSWERING and _said_last(prompt) == _said_last(_turns(value["chosen"])):
        prompt = prompt[:-1]  # the conversation stands there with the chosen answer
    chosen, rejected = (filled(_ended(prompt, value[side], value), slots) for side in ("chosen", "rejected"))
    if chosen[:-1] != rejected[:-1]:
        raise Refused("prompts_differ")
    if not chosen[-1]["content"] or not rejected[-1]["content"]:
        raise Refused("empty_side")
    require_answered(chosen)
    if chosen == rejected:
        raise Refused("equal_sides")
    return Preference(_item(value, number, source, chosen), rejected=rejected[-1]["content"])


def to_verdict(value: Any, number: int, source: str, form: str, slots: dict[str, str]) -> Preference:
    """Returns the conversation and the verdict on its answer that a JSON value stands for.

    Raises:
        Refused: With the reason that is counted.
    """
    messages = filled(conversation(value, form), slots)
    require_answered(messages)
    label = value.get("label")
    if label is None:
        raise Refused("missing_label")
    if not isinstance(label, bool | int) or label not in (0, 1):
        raise Refused("broken_label")
    return Preference(_item(value, number, source, messages), is_good=bool(label))


def _item(value: dict[str, Any], number: int, source: str, messages: tuple[Message, ...]) -> Item:
    """Returns the conversation; without a group of its own its prompt is the group."""
    id, group = names(value, number, source)
    item = Item(id, group, source, messages)
    return item if group != id else Item(id, item.prompt_key[:16], source, messages)


def _ended(prompt: list[Turn], side: Any, value: dict[str, Any]) -> tuple[Message, ...]:
    """Returns the conversation with a side at its end; a side that is a whole conversation must begin with the prompt.

    Args:
        value: The item, which may hold the tools and the system message of all its sides.

    Raises:
        Refused: With the reason that is counted.
    """
    turns = _turns(side)
    is_whole = bool(turns) and turns[0][0] not in (*_ANSWERING, "function_call")
    system, tools = value.get("system"), value.get("tools")
    if is_whole and system and turns[0][0] != "system":
        turns = [("system", system), *turns]
    messages = read_messages(turns if is_whole else [*prompt, *turns], tools)
    if messages[-1]["role"] != "assistant":
        raise Refused("broken_turns")
    if is_whole and prompt and read_messages(prompt, tools) != messages[:-1]:
        raise Refused("prompts_differ")
    return messages


def _turns(side: Any) -> list[Turn]:
    if isinstance(side, str):
        return [("assistant", side)]
    return turns_of(side if isinstance(side, list) else [side])


def _said_last(turns: list[Turn]) -> str | None:
    """Returns the answer that the last turn is."""
    return text_of(turns[-1][1]) if turns and turns[-1][0] in _ANSWERING else None
