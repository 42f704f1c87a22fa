"""Prose: what is running text in a document with Markdown structure, and what is code or mark-up.

In: one text. Out: the text as quality rules should see it. Invariant: rules measured on plain web text (words that are
symbols, copied lines, hash signs) are not asked of code, fences, heading marks and bullets; a text that is nearly all
code is seen whole.
"""

import re
from functools import lru_cache

_FENCE = re.compile(r"^[ \t]*(```|~~~).*?(?:^[ \t]*\1[ \t]*$|\Z)", re.DOTALL | re.MULTILINE)
_MARK = re.compile(r"^[ \t]*(?:#{1,6}[ \t]+|[-*+][ \t]+|>[ \t]?|\|[ \t]*)", re.MULTILINE)
_SPAN = re.compile(r"`+([^`\n]*)`+|\*\*|__")
_CODE_SPAN = re.compile(r"`[^`\n]+`")
_CELL = re.compile(r"(?:(?<![ \t])[ \t]+)?\|[ \t]*")  # looks back: a run of spaces is tried from its start alone
_GAPS = re.compile(r"\n{3,}")
_MIN_SHARE = 0.1
_RULE, _TABLE_RULE = "=-*_~", "|:- "


@lru_cache(maxsize=2)  # several rules ask for that of the same text
def prose(text: str) -> str:
    """Returns the running text, without code blocks and marks; the whole text where little else is there."""
    if "```" not in text and "~~~" not in text and not _MARK.search(text) and "`" not in text:
        return text
    running = "\n".join(line for line in _FENCE.sub("", text).split("\n") if not _is_rule(line))
    running = _CELL.sub(" ", _SPAN.sub(r"\1", _MARK.sub("", running)))
    running = _GAPS.sub("\n\n", running).strip("\n")
    return running if len(running) >= _MIN_SHARE * len(text) else text


def without_code_spans(text: str) -> str:
    """Returns the text with each code span in a sentence replaced by one word."""
    return _CODE_SPAN.sub("code", text)


def code_lines(text: str) -> set[int]:
    """Returns the numbers (from 0) of the lines that lie in code blocks."""
    lines: set[int] = set()
    number = place = 0
    for found in _FENCE.finditer(text):
        first = number + text.count("\n", place, found.start())
        number, place = first + found.group().count("\n"), found.end()
        lines.update(range(first, number + 1))
    return lines


def is_structure(line: str) -> bool:
    """Says whether a line is a heading, an item, a table row or empty, and so no line of prose."""
    return not line.strip() or bool(_MARK.match(line)) or "|" in line or _is_rule(line)


def _is_rule(line: str) -> bool:
    """Says whether a line is three or more marks of a rule, or of the line under a table's head (spaces count, tabs do not)."""
    if line.strip(_RULE + _TABLE_RULE + "\t"):
        return False
    rule = line.strip(" \t")
    if len(rule) >= 3 and not rule.strip(_RULE):
        return True
    parts = line.split("\t")
    marked = [part for part in parts if part.strip(" ")] or parts
    return (len(marked) == 1 or not rule) and any(len(part) >= 3 and not part.strip(_TABLE_RULE) for part in marked)
