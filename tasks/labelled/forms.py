"""Forms: a row of a labelled set becomes an item.

In: rows as dicts, from whatever file. Out: an `Item`, or the reason why it is none. Invariant: an item has an input that is not
empty and, as its task asks, a label, labels, one tag a word, or a finite number.
"""

import ast
import json
import math
import re
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from tasks.core.rows import Refused, object_of
from tasks.core.text import normalized, text_safe
from tasks.core.values import YES_NO, group_of, is_missing, name_of, whole
from tasks.labelled.sets import LabelledSet, LabelledSpec

# Columns that say how an item was made here, null for all that were read.
MADE = ("made_by", "origin", "maker")
_MAX_NAME_CHARS = 300
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_WITHOUT_COMMA = re.compile(r"""['"]\s+['"]""")  # as NumPy writes a list; Python would read both texts as one
_BROKEN_LIST = re.compile(r"""\[(?:[^'",]*['",].*|[\d.\s+-]*)\]""", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Item:
    """One input and what is to be learned of it.

    Attributes:
        key: Hash of the input in the form in which inputs are compared: case, width and white space do not count.
        group: Items of one group are never in two splits.
    """

    id: str
    group: str
    source: str
    key: str
    text: str
    text_pair: str | None = None
    words: tuple[str, ...] | None = None
    labels: tuple[str, ...] | None = None
    value: float | None = None

    @property
    def target(self) -> tuple[str, ...] | float | None:
        """What is to be learned."""
        return self.value if self.labels is None else self.labels

    @property
    def num_chars(self) -> int:
        """Characters of the input."""
        return len(self.text) + len(self.text_pair or "")

    def row(self, split: str) -> dict[str, Any]:
        """Returns the item as a row of `items.parquet`."""
        return {
            name: getattr(self, name) for name in ("id", "group", "source", "text", "text_pair", "words", "labels", "value")
        } | {"split": split, **dict.fromkeys((*MADE, "confidence"))}


def to_item(row: Any, number: int, one: LabelledSet, spec: LabelledSpec) -> Item:
    """Returns the item that a row stands for.

    Raises:
        Refused: With the reason that is counted.
    """
    row = object_of(row, "no_object")
    if any(_written(row.get(name)) not in wanted for name, wanted in one.where.items()):
        raise Refused("not_selected")
    words = _words(row.get(one.words_column), row.get(one.label_column)) if spec.task == "token_classification" else None
    text = _text(row.get(one.text_column)) if words is None else " ".join(words)
    pair = _text(row.get(one.pair_column)) if one.pair_column is not None else None
    labels, value = (_marked(row, one, spec), None) if one.label_columns else _target(row.get(one.label_column), one, spec)
    if words is not None and labels is not None and len(words) != len(labels):
        raise Refused("words_and_tags_differ")
    key = input_key(text, pair)
    group = group_of(row.get(one.group_column)) if one.group_column is not None else None
    name = name_of(row.get(one.id_column)) if one.id_column is not None else None
    return Item(
        id=f"{one.name}/{name or number}",
        group=group or key[:16],
        source=one.name,
        key=key,
        text=text,
        text_pair=pair,
        words=words,
        labels=labels,
        value=value,
    )


def input_key(text: str, pair: str | None) -> str:
    """Returns the hash of an input in the form in which inputs are compared."""
    compared = "\x1f".join(normalized(part) for part in (text, pair) if part is not None)
    return sha256(compared.encode("utf-8")).hexdigest()


def text_of(row: Any, column: str) -> str:
    """Returns the text of a row.

    Raises:
        Refused: With the reason that is counted.
    """
    return _text(object_of(row, "no_object").get(column))


def _target(value: Any, one: LabelledSet, spec: LabelledSpec) -> tuple[tuple[str, ...] | None, float | None]:
    match spec.task:
        case "regression":
            return None, _number(value, spec)
        case "classification":
            return (_label(value, one, spec),), None
        case "multi_label":
            found = [_label(part, one, spec) for part in _listed(value, one.label_separator)]
            return tuple(sorted(set(found))), None
        case _:
            return tuple(_label(part, one, spec) for part in _listed(value, None)), None


def _marked(row: dict[str, Any], one: LabelledSet, spec: LabelledSpec) -> tuple[str, ...]:
    """Returns the labels whose column says yes."""
    found = []
    for column in one.label_columns:
        written = _written(row.get(column))
        if written is None or written.lower() not in YES_NO:
            raise Refused("missing_label" if is_missing(row.get(column)) else "broken_label")
        if YES_NO[written.lower()]:
            found.append(_label(column, one, spec))
    return tuple(sorted(set(found)))


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise Refused("no_text")
    _require_whole(value)
    if not value.strip():
        raise Refused("empty_text")
    return value.strip()


def _require_whole(text: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:  # half of a surrogate pair stands for a character that is lost
        raise Refused("lone_surrogate") from None


def _words(value: Any, tags: Any) -> tuple[str, ...]:
    words = _words_in(value, tags) if isinstance(value, str) else value
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise Refused("no_text")
    if not words:
        raise Refused("empty_text")
    for word in words:
        _require_whole(word)
        if not word.strip():
            raise Refused("empty_word")
    return tuple(words)


def _words_in(text: str, tags: Any) -> list[str]:
    """Returns the words of a text; beside tags that are no list it is none either, whatever brackets it has."""
    found: Any = _list_in(text) if isinstance(_list_in(tags), list) else text
    is_list = isinstance(found, list) and all(isinstance(word, str) for word in found)
    return found if is_list else text.split()


def _listed(value: Any, separator: str | None) -> list[Any]:
    """Returns labels that come as a list, as a list that was made text, or as one text."""
    value = _list_in(value)
    if isinstance(value, str):
        value = _split(value, separator)
    if not isinstance(value, list):
        raise Refused("missing_label" if is_missing(value) else "broken_label")
    return value


def _split(text: str, separator: str | None) -> list[str] | str:
    """Returns the labels of a text, none of an empty one; the text where it is a broken list: [NUM] is a label, [0 1] is none."""
    parts = [part for part in text.split(separator) if part.strip()]
    return text if _BROKEN_LIST.fullmatch(text.strip()) else parts


def _looks_listed(text: str) -> bool:
    return text.strip().startswith("[") and text.strip().endswith("]")


def _list_in(value: Any) -> Any:
    """Returns the list that a text holds as JSON or Python write it; the value where it holds none."""
    if not isinstance(value, str) or not _looks_listed(value):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        pass
    if _WITHOUT_COMMA.search(value):
        return value
    try:
        return ast.literal_eval(value.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return value


def _label(value: Any, one: LabelledSet, spec: LabelledSpec) -> str:
    """Returns the name of a label; 1.0 is 1 unless the recipe writes 1.0 too."""
    text = _written(value)
    if text is None:
        raise Refused("missing_label" if is_missing(value) else "broken_label")
    if text not in (one.names or spec.label_names):
        text = whole(text)
    if one.names and text not in one.names:
        raise Refused("unknown_label")
    return one.names.get(text, text)


def _number(value: Any, spec: LabelledSpec) -> float:
    text = _written(value)
    if is_missing(value):
        raise Refused("missing_label")
    number = value if isinstance(value, float) else float(text) if text and _NUMBER.fullmatch(text) else math.nan
    if not math.isfinite(number):
        raise Refused("not_a_number")
    if (spec.min_value is not None and number < spec.min_value) or (spec.max_value is not None and number > spec.max_value):
        raise Refused("out_of_range")
    return number


def _written(value: Any) -> str | None:
    """Returns a plain value as people write it, none where it is missing or not plain: 1.0 is 1, true is true."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, str | int):
        return None
    text = str(value).strip()
    return text if text and len(text) <= _MAX_NAME_CHARS and text_safe(text) == text else None
