"""Line numbers: takes the numbers of a code listing's gutter out of the text.

In: one text. Out: the text without the numbers of at least `min_lines` neighbouring lines that count upwards by one.
Invariant: numbered items ("1. first"), dates, hours and years stay: numbers with a mark behind them, or each with a part of a
date, are no gutter, and four digits count as one only where the lines before do.
"""

import re
from collections.abc import Callable
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from tasks.cleaning.base import Example, FilterBase, Judge, same

_MONTHS = "Jan(?:uary)?|Feb(?:ruary)?|Mar(?:ch)?|Apr(?:il)?|May|June?|July?|Aug(?:ust)?|Sep(?:t(?:ember)?)?|Oct(?:ober)?"
_DATE = re.compile(rf"[ \t]*(?:[月日号號年时時点點岁歲周週]|(?:{_MONTHS}|Nov(?:ember)?|Dec(?:ember)?)\b)")
_NUMBERED = re.compile(r"[ \t]*(\d{1,5})(?!\d)(?:[ \t]*(?:[|│]|:(?!\d))[ \t]?|[ \t]+|$)(?=(.*))", re.DOTALL)
_LAST_START = 999  # what begins above may be years
_CODE = "def f():\n    return 1\n\nprint(f())"


class LineNumbers(FilterBase):
    """Numbers that stand before the lines of code, or in lines of their own."""

    kind: Literal["line_numbers"]
    min_lines: Annotated[
        int,
        Field(ge=2, description="Fewest lines that count on. 4: tables of three ranks stay, hardly a listing is shorter."),
    ] = 4

    EXAMPLES: ClassVar[tuple[Example, ...]] = (
        Example("1  def f():\n2      return 1\n3\n4  print(f())", "en", None, _CODE),
        Example("1\n2\n3\n4\ndef f():\n    return 1", "en", None, "def f():\n    return 1"),
        Example("列表：\n 9 | 甲\n10 | 乙\n11 | 丙\n12 | 丁", "zh", None, "列表：\n甲\n乙\n丙\n丁"),
        Example("1. first\n2. second\n3. third\n4. fourth", "en", None),
        Example("1997 founded\n1998 grown\n1999 sold\n2000 closed", "en", None),
        Example("9:00 Welcome\n10:00 Talk\n11:00 Coffee\n12:00 Lunch", "en", None),
        Example("1 月 120 万\n2 月 98 万\n3 月 130 万\n4 月 99 万", "zh", None),
        Example("9 May sunny\n10 May rain\n11 May snow\n12 May fog", "en", None),
        Example("1 import os\n2 日志 = []\n3 年龄 = 3\n4 x = 5", "zh", None, "import os\n日志 = []\n年龄 = 3\nx = 5"),
        Example("1 The tenant\n2 May not\n3 sublet\n4 rooms", "en", None, "The tenant\nMay not\nsublet\nrooms"),
        Example("1 gold\n2 silver\n3 bronze\nIn 1999\n2000 came.", "en", None),
    )

    def build(self) -> Judge:
        """Returns the judge, the same for every language."""
        return same(_remover(self.min_lines))


def _remover(min_lines: int) -> Callable[[str], str]:
    def remove(text: str) -> str:
        lines = text.split("\n")
        found = [_NUMBERED.match(line) for line in lines]
        numbers = [int(one[1]) if one else None for one in found]
        kept: list[str] = []
        for first, end in _counting(numbers):
            is_listing = end - first >= min_lines and (numbers[first] or 0) <= _LAST_START
            is_listing = is_listing and not all(map(_is_date, found[first:end]))
            for place in range(first, end):
                one = found[place]
                if not is_listing or one is None:
                    kept.append(lines[place])
                elif one[2] or any(other is not None and other[2] for other in found[first:end]):
                    kept.append(one[2])  # an empty line of the listing stays; a column of bare numbers goes
        return "\n".join(kept)

    return remove


def _is_date(numbered: re.Match[str] | None) -> bool:
    return numbered is not None and _DATE.match(numbered.string, numbered.end(1)) is not None


def _counting(numbers: list[int | None]) -> list[tuple[int, int]]:
    """Returns the stretches of lines whose numbers rise by one each; a line that counts on from none is its own."""
    cuts = [0]
    for place in range(1, len(numbers)):
        before, here = numbers[place - 1], numbers[place]
        if before is None or here != before + 1:
            cuts.append(place)
    return list(zip(cuts, [*cuts[1:], len(numbers)], strict=True))
