"""Forms: instruction items as the world writes them become one list of messages.

In: JSON objects, or rows of tables, in messages, alpaca (also with Dolly's keys), self-instruct, ShareGPT or prompt and response
form, with or without tools. Out: an `Item`, or the reason why it is none. Invariants: a conversation ends with an answer that is
not empty, and holds no slot left open; null is what is not there, as tables have it.
"""

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from tasks.core.rows import Refused, object_of, read_set
from tasks.core.values import YES_NO, group_of, is_missing, name_of
from tasks.instructions.items import Item
from tasks.instructions.sets import InstructionSet
from tasks.instructions.turns import Message, Turn, read_messages, require_answered

_FORM_BY_KEY = {"messages": "messages", "conversations": "sharegpt", "instruction": "alpaca", "prompt": "prompt_response"}
_SLOT = re.compile(r"\{\{(\w+)\}\}")
_KNOWN_SLOTS = ("name", "author")  # how sets about a model's identity write them; {{x}} may also be code
WEIGHTS = ("loss_weight", "weight")  # of a turn
_WRAPPED = re.compile(
    r"Below is an instruction[^\n]*\n\n### Instruction:\n(.*?)\n\n(?:### Input:\n(.*?)\n\n)?### Response:\s*", re.DOTALL
)


def read_values(one: InstructionSet) -> Iterator[tuple[int, Any]]:
    """Yields the JSON values or rows of a set, each instance apart, with the number of the value they come from."""
    for number, value in enumerate(read_set(one, ()), 1):
        yield from ((number, part) for part in _instances(value, number, one.name))


def _instances(value: Any, number: int, source: str) -> list[Any]:
    """Returns what an item stands for: itself, or each instance of its instruction (self-instruct), all in one group."""
    if not isinstance(value, dict) or not isinstance(found := value.get("instances"), list):
        return [value]
    if not found or not all(isinstance(one, dict) for one in found):
        return [Refused("broken_turns")]
    name, group = name_of(value.get("id")) or str(number), value.get("group")
    shared = {"instruction": value.get("instruction"), "group": f"{source}/{name}" if is_missing(group) else group}
    ids = [name] if len(found) == 1 else [f"{name}/{place}" for place in range(1, len(found) + 1)]
    return [one | shared | {"id": id} for one, id in zip(found, ids, strict=True)]


def to_item(value: Any, number: int, source: str, form: str, slots: dict[str, str]) -> Item:
    """Returns the item that a JSON value stands for.

    Args:
        slots: What stands for `{{name}}` in the texts, by name.

    Raises:
        Refused: With the reason that is counted.
    """
    messages = filled(conversation(value, form), slots)
    require_answered(messages)
    keywords, match = _keywords(value.get("keywords")), value.get("match") or "any"
    if match not in ("any", "all"):
        raise Refused("broken_keywords")
    id, group = names(value, number, source)
    return Item(id, group, source, messages, keywords, match, _is_copied(value.get("copied")))


def _keywords(value: Any) -> tuple[str, ...]:
    """Returns keywords that come as a list, as a JSON list that was made text, or as text with ; between them."""
    found = _listed(value) if isinstance(value, str) else value or []
    if not isinstance(found, list) or not all(isinstance(word, str) and word.strip() for word in found):
        raise Refused("broken_keywords")
    return tuple(found)


def _listed(text: str) -> Any:
    if not text.strip().startswith("["):
        return [word.strip() for word in text.split(";") if word.strip()]
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise Refused("broken_keywords") from None


def names(value: dict[str, Any], number: int, source: str) -> tuple[str, str]:
    """Returns id and group of an item; without a group of its own an item is one: a bare number may stand in any set."""
    id = f"{source}/{name_of(value.get('id')) or number}"
    return id, group_of(value.get("group")) or id


def _is_copied(value: Any) -> bool:
    text = "false" if is_missing(value) else str(value).strip().lower()  # of a csv file true is text
    if text not in YES_NO:
        raise Refused("broken_copied")
    return YES_NO[text]


def conversation(value: Any, form: str = "auto") -> tuple[Message, ...]:
    """Returns the messages of a JSON value, whoever has the last word.

    Raises:
        Refused: With the reason that is counted.
    """
    value = object_of(value, "unknown_form")
    form = _form(value) if form == "auto" else form
    return read_messages([*_asked(value, form), *_answered(value, form)], value.get("tools"))


def opening(value: dict[str, Any], form: str) -> list[Turn]:
    """Returns the turns of a prompt that is answered elsewhere; none where the item has no prompt of its own.

    Raises:
        Refused: With the reason that is counted.
    """
    if form == "auto" and all(value.get(key) is None for key in _FORM_BY_KEY):
        return []
    return _asked(value, _form(value) if form == "auto" else form)


def turns_of(messages: Any) -> list[Turn]:
    """Returns the turns of a list of messages, whether they are written as messages or as ShareGPT.

    Raises:
        Refused: With the reason that is counted.
    """
    return [
        (turn["from"], _get(turn, "value")) if isinstance(turn, dict) and "from" in turn else _message_turn(turn)
        for turn in _list(messages)
    ]


def filled(messages: Sequence[Message], slots: dict[str, str]) -> tuple[Message, ...]:
    """Returns the messages with their slots filled.

    Raises:
        Refused: A known slot is left.
    """
    done = []
    for message in messages:
        content = _SLOT.sub(lambda found: slots.get(found[1], found[0]), message["content"])
        if any(found in _KNOWN_SLOTS for found in _SLOT.findall(content)):
            raise Refused("unfilled_slot")
        done.append(message | {"content": content})
    return tuple(done)


def _form(value: dict[str, Any]) -> str:
    for key, form in _FORM_BY_KEY.items():
        if value.get(key) is not None:
            return form
    raise Refused("unknown_form")


def _asked(value: dict[str, Any], form: str) -> list[Turn]:
    """Returns the turns of an item, without the answer where the form keeps it apart."""
    turns, system = _asked_turns(value, form), value.get("system")
    is_there = bool(turns) and turns[0] == ("system", system)
    return [("system", system), *turns] if system and not is_there else turns


def _asked_turns(value: dict[str, Any], form: str) -> list[Turn]:
    match form:
        case "messages":
            return turns_of(value.get("messages"))
        case "sharegpt":
            return turns_of(value.get("conversations"))
        case "alpaca":
            return [
                *_history(value.get("history")),
                ("user", _alpaca(value.get("instruction"), _first(value, "input", "context"))),
            ]
        case _:
            prompt = value.get("prompt")
            return turns_of(prompt) if _are_messages(prompt) else [("user", _unwrapped(prompt))]


def _answered(value: dict[str, Any], form: str) -> list[Turn]:
    if form in ("messages", "sharegpt"):
        return []
    answer = _first(value, *(["output"] if form == "alpaca" else []), "response", "completion")
    return turns_of(answer) if _are_messages(answer) else [("assistant", answer)]


def _first(value: dict[str, Any], *keys: str) -> Any:
    return next((value[key] for key in keys if value.get(key) is not None), None)


def _history(history: Any) -> Iterator[Turn]:
    """Yields the earlier turns of an alpaca item: pairs of what was asked and answered.

    Raises:
        Refused: It holds something else.
    """
    for pair in _list(history or []):
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise Refused("broken_turns")
        yield from zip(("user", "assistant"), pair, strict=True)


def _are_messages(value: Any) -> bool:
    return isinstance(value, list) and any(isinstance(turn, dict) and ("role" in turn or "from" in turn) for turn in value)


def _message_turn(turn: Any) -> Turn:
    """Returns a turn of the messages form.

    Raises:
        Refused: It lacks role or content, or its weight asks for another loss than that on answers only.
    """
    role = _get(turn, "role")
    weights = (turn.get("loss_weight"), turn.get("weight") if role == "assistant" else None)
    if any(weight not in (None, role == "assistant") for weight in weights):
        raise Refused("loss_weights")
    if not turn.get("tool_calls"):
        return role, _get(turn, "content")
    if role != "assistant" or turn.get("content"):
        raise Refused("text_and_call")
    return "function_call", turn["tool_calls"]


def _alpaca(*parts: Any) -> str:
    return "\n".join(part for part in parts if isinstance(part, str) and part)


def _unwrapped(prompt: Any) -> Any:
    """Returns the instruction inside the frame of the Alpaca prompt: the chat template is the frame here."""
    found = _WRAPPED.fullmatch(prompt) if isinstance(prompt, str) else None
    return _alpaca(found[1], found[2]) if found else prompt


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise Refused("broken_turns")
    return value


def _get(turn: Any, key: str) -> Any:
    if not isinstance(turn, dict) or key not in turn:
        raise Refused("broken_turns")
    return turn[key]
