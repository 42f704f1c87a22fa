"""Tools: definitions, calls and answers of tools as plain text that any chat template carries.

In: definitions and calls as ShareGPT and OpenAI write them. Out: text between the tags that Hermes and Qwen models use:
definitions join the system message, a call is an assistant's message, an answer of a tool a user's. Invariant: definitions and
calls are JSON objects with a name, and have no nulls, which a table puts where another row's object has a field.
"""

import json
from collections.abc import Sequence
from typing import Any

from tasks.core.rows import Refused

_HEAD = "You can call these tools. Each line between the tags is the JSON schema of one tool."
_TAIL = "To call a tool, answer with its name and its arguments as JSON between tags:"


def tool_prompt(tools: Any) -> str:
    """Returns the text that tells a model of its tools, empty where there are none.

    Raises:
        Refused: The definitions are not a JSON list of objects with a name.
    """
    definitions = _json(tools, "broken_tools") if tools else []
    if not isinstance(definitions, list):
        raise Refused("broken_tools")
    if not definitions:
        return ""
    lines = [_dump({"type": "function", "function": _named(one, "broken_tools")}) for one in definitions]
    form = _tagged("tool_call", '{"name": ..., "arguments": {...}}')
    return "\n".join([_HEAD, _tagged("tools", "\n".join(lines)), _TAIL, form])


def call_text(calls: Any) -> str:
    """Returns the text of one call, or of several at once.

    Raises:
        Refused: A call is not a JSON object with a name and arguments.
    """
    found = _json(calls, "broken_call")
    parts = []
    for one in found if isinstance(found, list) else [found]:
        call = _named(one, "broken_call")
        arguments = _json(call.get("arguments", {}), "broken_call")
        if not isinstance(arguments, dict):
            raise Refused("broken_call")
        parts.append(_tagged("tool_call", _dump({"name": call["name"], "arguments": arguments})))
    if not parts:
        raise Refused("broken_call")
    return "\n".join(parts)


def answers_text(answers: Sequence[str]) -> str:
    """Returns the text of what tools answered."""
    return "\n".join(_tagged("tool_response", answer) for answer in answers)


def _tagged(tag: str, text: str) -> str:
    return f"<{tag}>\n{text}\n</{tag}>"


def _named(value: Any, reason: str) -> dict[str, Any]:
    """Returns the object with the name; OpenAI wraps it once more."""
    inner = value.get("function", value) if isinstance(value, dict) else None
    if not isinstance(inner, dict) or not isinstance(inner.get("name"), str) or not inner["name"]:
        raise Refused(reason)
    return inner


def _json(value: Any, reason: str) -> Any:
    """Returns what JSON says, as it stands; of what came as objects, the fields that are there."""
    if not isinstance(value, str):
        return _without_nulls(value)
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        raise Refused(reason) from None


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(part) for key, part in value.items() if part is not None}
    return [_without_nulls(part) for part in value] if isinstance(value, list) else value


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
