"""Menus: takes out blocks of short lines that stand in the text more than once, as navigation above and below a page does.

In: one text. Out: the text without every copy of such a block. Invariant: lines that end as sentences or verses do, with a
closing mark or a comma, belong to no menu, nor do Chinese ones of a verse's length, so refrains of poems and songs stay; nor do
lines of code.
"""

from collections import Counter
from collections.abc import Callable
from itertools import groupby
from operator import itemgetter
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from tasks.cleaning.base import Example, FilterBase, Judge, same
from tasks.cleaning.language import HAN
from tasks.cleaning.prose import code_lines

_SENTENCE_ENDS = tuple(".?!,;:…。？！，；：、”』」\"'")
_STRUCTURE = ("#", "|", "```", "~~~", "$", ">")


class Menus(FilterBase):
    """Navigation that is there twice."""

    kind: Literal["menus"]
    min_lines: Annotated[
        int, Field(ge=2, description="Fewest lines of a block. 3: a title and a date may be repeated, a third line makes a menu.")
    ] = 3
    max_line_chars: Annotated[
        int,
        Field(
            ge=1,
            description="Longest line of a menu, a Chinese character counted as three. 24: entries are a few words, in Chinese "
            "two to eight characters.",
        ),
    ] = 24

    EXAMPLES: ClassVar[tuple[Example, ...]] = (
        Example(
            "首页\n新闻\n产品\n今天的天气很好，我们去公园散步。\n首页\n新闻\n产品", "zh", None, "今天的天气很好，我们去公园散步。"
        ),
        Example(
            "Home\nNews\nAbout us\n\nA sentence of the page.\n\nHome\nNews\nAbout us\n",
            "en",
            None,
            "A sentence of the page.",
        ),
        Example("江南可采莲，\n莲叶何田田，\n鱼戏莲叶间。\n江南可采莲，\n莲叶何田田，\n鱼戏莲叶间。", "zh", None),
        Example("\n\n".join(["让我们一起大声歌唱\n唱出心中最美的梦想\n歌声永远陪在你身旁"] * 2), "zh", None),
        Example("Home\nNews\nAbout us\n\nA sentence of the page.", "en", None),
        Example("```\na\nb\nc\n```\nAgain:\n```\na\nb\nc\n```", "en", None),
    )

    def build(self) -> Judge:
        """Returns the judge, the same for every language."""
        return same(_remover(self.min_lines, self.max_line_chars))


def _remover(min_lines: int, max_chars: int) -> Callable[[str], str]:
    def is_entry(line: str) -> bool:
        label = line.strip()
        is_short = 0 < len(label) + 2 * len(HAN.findall(label)) <= max_chars
        return is_short and not label.endswith(_SENTENCE_ENDS) and not label.startswith(_STRUCTURE)

    def remove(text: str) -> str:
        lines, code = text.split("\n"), code_lines(text)
        kinds = [number not in code and is_entry(line) for number, line in enumerate(lines)]
        blocks = [
            (entries, [line for _, line in block]) for entries, block in groupby(zip(kinds, lines, strict=True), itemgetter(0))
        ]
        labels = [tuple(line.strip() for line in lines) if entries else () for entries, lines in blocks]
        counts = Counter(one for one in labels if len(one) >= min_lines)
        return "\n".join(line for one, (_, lines) in zip(labels, blocks, strict=True) if counts[one] < 2 for line in lines)

    return remove
