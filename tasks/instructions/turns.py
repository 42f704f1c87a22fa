"""Turns: what the sides of a conversation said becomes one list of messages.

In: roles and contents, as forms name them, and tools. Out: messages with role and content. Invariant: turns alternate user,
assistant (after at most one system message), none is empty, and a tool answers only where it was called.
"""

import re
from collections.abc import Sequence
from typing import Any

from tasks.core.rows import Refused
from tasks.instructions.tools import answers_text, call_text, tool_prompt

Message = dict[str, str]
Turn = tuple[Any, Any]  # role and content, of whatever type they come in

_CALL, _ANSWER = "call", "tool answer"
_KINDS = {
    "system": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "function_call": _CALL,
    "observation": _ANSWER,
    "tool": _ANSWER,
    "function": _ANSWER,
}
_ROLES = {_CALL: "assistant", _ANSWER: "user"}
_CONTROL = re.compile(r"<\|[\w-]{1,40}\|>")  # how tokenizers write tokens that are not text, e.g. <|im_end|>


def read_messages(turns: Sequence[Turn], tools: Any = None) -> tuple[Message, ...]:
    """Returns the messages of a conversation, whoever has the last word.

    Raises:
        Refused: With the reason that is counted.
    """
    spoken = _joined([(_kind(role), content) for role, content in turns])
    _require_turns([kind for kind, _ in spoken])
    messages = [{"role": _ROLES.get(kind, kind), "content": text} for kind, text in spoken]
    if told := _plain(tool_prompt(tools)):
        system = messages.pop(0)["content"] if messages[0]["role"] == "system" else ""
        messages.insert(0, {"role": "system", "content": "\n\n".join(filter(None, (system, told)))})
    return tuple(messages)


def require_answered(messages: Sequence[Message]) -> None:
    """Refuses a conversation that does not end with an answer, or in which somebody says nothing.

    Raises:
        Refused: With the reason that is counted.
    """
    if messages[-1]["role"] != "assistant":
        raise Refused("broken_turns")
    silent = [message["role"] for message in messages if not message["content"] and message["role"] != "system"]
    if silent:
        raise Refused("empty_answer" if "assistant" in silent else "empty_prompt")


def text_of(content: Any) -> str:
    """Returns the text of a message, also where it comes as typed parts.

    Raises:
        Refused: With the reason that is counted.
    """
    return _plain("".join(map(_part, content)) if isinstance(content, list) else content)


def _part(part: Any) -> str:
    if isinstance(part, str):
        return part
    if not isinstance(part, dict):
        raise Refused("broken_turns")
    text = part.get("text", part.get("value"))
    if part.get("type", "text") != "text" or not isinstance(text, str):
        raise Refused("not_text")
    return text


def _plain(content: Any) -> str:
    if not isinstance(content, str):
        raise Refused("broken_turns")
    try:
        content.encode("utf-8")
    except UnicodeEncodeError:
        raise Refused("lone_surrogate") from None
    if _CONTROL.search(content):  # the chat template would make it end a turn, or open one
        raise Refused("control_token")
    return content.strip()


def _kind(role: Any) -> str:
    if not isinstance(role, str) or role not in _KINDS:
        raise Refused("broken_turns")
    return _KINDS[role]


def _joined(turns: Sequence[tuple[str, Any]]) -> list[tuple[str, str]]:
    """Returns kind and text of each turn; tools that answer one after the other are one turn."""
    spoken: list[tuple[str, str]] = []
    for kind, content in turns:
        if kind == _ANSWER:
            text = answers_text([text_of(content)])
        else:
            text = _plain(call_text(content)) if kind == _CALL else text_of(content)
        if kind == _ANSWER and spoken and spoken[-1][0] == _ANSWER:
            text = f"{spoken.pop()[1]}\n{text}"
        spoken.append((kind, text))
    return spoken


def _require_turns(kinds: Sequence[str]) -> None:
    turns = kinds[1:] if kinds and kinds[0] == "system" else kinds
    roles = [_ROLES.get(kind, kind) for kind in turns]
    if not roles or roles != [("user", "assistant")[number % 2] for number in range(len(roles))]:
        raise Refused("broken_turns")
    said_by_users = turns[::2]
    called = [False, *(kind == _CALL for kind in turns[1::2])]
    if any((kind == _ANSWER) is not was_called for kind, was_called in zip(said_by_users, called, strict=False)):
        raise Refused("broken_turns")
