"""Forms: instruction items as the world writes them become one list of messages.

In: JSON objects in messages, alpaca, ShareGPT or prompt and response form. Out: an `Item`, or the reason why it is none.
Invariant: turns alternate user, assistant (after at most one system message) and end with an answer that is not empty.
"""

import re
from dataclasses import dataclass
from typing import Any

from tasks.core.rows import Refused
from tasks.core.text import normalized, text_safe

Message = dict[str, str]

_ROLES = {"human": "user", "gpt": "assistant"}
_MAX_NAME_CHARS = 300
_CONTROL = re.compile(r"<\|[\w-]{1,40}\|>")  # how tokenizers write tokens that are not text, e.g. <|im_end|>


@dataclass(frozen=True, slots=True)
class Item:
    """One conversation.

    Attributes:
        group: Items of one group (a command, a package) are never in two splits.
        keywords: What recognises a right answer of a held-out item.
        match: Whether any or all keywords are asked for.
        copied: The keywords stand in the prompt: copying them is the task.
    """

    id: str
    group: str
    source: str
    messages: tuple[Message, ...]
    keywords: tuple[str, ...] = ()
    match: str = "any"
    copied: bool = False

    @property
    def prompt(self) -> str:
        """What the user says, in the form in which prompts are compared: letters and digits only."""
        said = " ".join(message["content"] for message in self.messages if message["role"] == "user")
        return "".join(char for char in normalized(said) if char.isalnum())

    @property
    def answer(self) -> str:
        """The last answer."""
        return self.messages[-1]["content"]

    @property
    def num_chars(self) -> int:
        """Characters of all messages."""
        return sum(len(message["content"]) for message in self.messages)

    def row(self, split: str) -> dict[str, Any]:
        """Returns the item as a line of `conversations.jsonl`."""
        return {
            "id": self.id,
            "group": self.group,
            "source": self.source,
            "split": split,
            "messages": list(self.messages),
            "keywords": list(self.keywords),
            "match": self.match,
            "copied": self.copied,
        }


def to_item(value: Any, number: int, source: str, form: str) -> Item:
    """Returns the item that a JSON value stands for.

    Raises:
        Refused: With the reason that is counted.
    """
    if isinstance(value, Refused):
        raise value
    if not isinstance(value, dict):
        raise Refused("unknown_form")
    messages = _messages(value, _form(value) if form == "auto" else form)
    name = _name(value.get("id")) or str(number)
    keywords, match = value.get("keywords") or [], value.get("match", "any")
    if not isinstance(keywords, list) or not all(isinstance(word, str) and word.strip() for word in keywords):
        raise Refused("broken_keywords")
    if match not in ("any", "all"):
        raise Refused("broken_keywords")
    id = f"{source}/{name}"  # without a group of its own an item is a group: a bare number may stand in any set
    return Item(id, _name(value.get("group")) or id, source, messages, tuple(keywords), match, bool(value.get("copied", False)))


def _name(value: Any) -> str | None:
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    return text_safe(str(value), _MAX_NAME_CHARS).strip() or None


def _form(value: dict[str, Any]) -> str:
    if "messages" in value:
        return "messages"
    if "conversations" in value:
        return "sharegpt"
    if "instruction" in value:
        return "alpaca"
    if "prompt" in value:
        return "prompt_response"
    raise Refused("unknown_form")


def _messages(value: dict[str, Any], form: str) -> tuple[Message, ...]:
    match form:
        case "messages":
            turns = [(_get(turn, "role"), _get(turn, "content")) for turn in _list(value.get("messages"))]
        case "sharegpt":
            turns = [(_get(turn, "from"), _get(turn, "value")) for turn in _list(value.get("conversations"))]
            turns = [("system", value["system"]), *turns] if value.get("system") else turns
        case "alpaca":
            prompt = "\n".join(part for part in (value.get("instruction"), value.get("input")) if isinstance(part, str) and part)
            turns = [("user", prompt), ("assistant", value.get("output"))]
        case _:
            turns = [("user", value.get("prompt")), ("assistant", value.get("response", value.get("completion")))]
    return _checked([{"role": _ROLES.get(role, role), "content": _text(content)} for role, content in turns])


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise Refused("broken_turns")
    return value


def _get(turn: Any, key: str) -> Any:
    if not isinstance(turn, dict) or key not in turn:
        raise Refused("broken_turns")
    return turn[key]


def _text(content: Any) -> str:
    """Returns the text of a message, also where it comes as typed parts."""
    if isinstance(content, list):
        content = "".join(str(part.get("text", part.get("value", ""))) for part in content if isinstance(part, dict))
    if not isinstance(content, str):
        raise Refused("broken_turns")
    try:
        content.encode("utf-8")
    except UnicodeEncodeError:
        raise Refused("lone_surrogate") from None
    if _CONTROL.search(content):  # the chat template would make it end a turn, or open one
        raise Refused("control_token")
    return content.strip()


def _checked(messages: list[Message]) -> tuple[Message, ...]:
    turns = messages[1:] if messages and messages[0]["role"] == "system" else messages
    expected = ["user", "assistant"] * (len(turns) // 2)
    if not turns or [turn["role"] for turn in turns] != expected:
        raise Refused("broken_turns")
    if any(not turn["content"] for turn in turns):
        raise Refused("empty_answer" if any(not turn["content"] for turn in turns[1::2]) else "empty_prompt")
    return tuple(messages)
