"""Values of rows as people mean them: what is missing, what names something, what says yes or no.

In: one value of a row, from whatever file. Out: text, a truth, or none. Invariant: what a column with gaps made a float (1.0), or
a csv file text, is what it was before.
"""

import math
import re
from datetime import date, time
from decimal import Decimal
from typing import Any

from tasks.core.rows import Refused
from tasks.core.text import text_safe

YES_NO = {"1": True, "1.0": True, "true": True, "0": False, "0.0": False, "false": False}  # in small letters
_MAX_NAME_CHARS = 300
_WHOLE = re.compile(r"[+-]?\d+\.0", re.ASCII)


def is_missing(value: Any) -> bool:
    """Says whether a value is not there: empty, null, or the NaN of a table."""
    if isinstance(value, str):
        return not value.strip()
    return value is None or bool(value != value)


def whole(text: str) -> str:
    """Returns 1 for 1.0, which a column with gaps made of it before a csv file made it text; any other text as it is."""
    return text[:-2] if _WHOLE.fullmatch(text) else text


def name_of(value: Any) -> str | None:
    """Returns an id or a group as text, none where it names nothing: 1.0 is 1, as a number and as text."""
    if isinstance(value, float | Decimal) and math.isfinite(value) and value == int(value):
        value = int(value)
    if is_missing(value) or isinstance(value, bool) or not isinstance(value, str | int | float | Decimal | date | time):
        return None
    return whole(text_safe(str(value), _MAX_NAME_CHARS).strip())


def group_of(value: Any) -> str | None:
    """Returns the name of a group, none where it is missing.

    Raises:
        Refused: It is there and has no name: alone in its group, the row would lie in another split than the others of it.
    """
    name = str(value) if isinstance(value, bool) else name_of(value)
    if name is None and not is_missing(value):
        raise Refused("broken_group")
    return name
