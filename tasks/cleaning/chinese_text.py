"""Chinese text: drops documents that are no running Chinese: few Han characters, or no pauses between them.

In: one text. Out: kept, or the reason; English passes. Invariants: traditional and simplified characters count alike and
stay as they are; the end of a line is a pause, so poems and dialogue without marks are kept.
"""

import re
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from tasks.cleaning.base import Example, FilterBase, Judge, Language
from tasks.cleaning.language import HAN
from tasks.cleaning.prose import prose

_UNBROKEN = re.compile(r"[^\W\d_a-zA-Z]+")
_LETTER = re.compile(r"[^\W\d_]")
_HALF = re.compile("(?<=[\u4e00-\u9fff])[,;:?!.](?![\\w.])")
_FULL = re.compile("[，。；：？！、]")


class ChineseText(FilterBase):
    """Share of Han characters, pauses, full-width marks."""

    kind: Literal["chinese_text"]
    min_han: Annotated[
        float,
        Field(
            ge=0,
            le=1,
            description="Smallest share of letters of prose that are Han. 0.3: a Han character says what two or three Latin "
            "letters say, so from here on most of it is Chinese; articles on commands reach 0.35.",
        ),
    ] = 0.3
    max_unbroken_han: Annotated[
        int | None,
        Field(
            ge=1,
            description="Most Han characters without mark, space or line end. 100: the longest clauses of prose have 40 to 60; "
            "lists of search words glued together have hundreds. off: not asked (classical texts without marks).",
        ),
    ] = 100
    min_full_width: Annotated[
        float | None,
        Field(
            ge=0,
            le=1,
            description="Smallest share of full-width marks among marks behind Han characters; off: not asked, since forums and "
            "old files write half-width ones throughout.",
        ),
    ] = None

    EXAMPLES: ClassVar[tuple[Example, ...]] = (
        Example("春眠不觉晓\n处处闻啼鸟\n夜来风雨声\n花落知多少", "zh", None),
        Example("“你來了？”\n“來了。”\n“坐。”", "zh", None),
        Example("Windows Linux macOS download free software 下载", "zh", "few_han"),
        Example("手机电脑相机耳机音箱键盘鼠标" * 10, "zh", "no_pauses"),
        Example("No Chinese here, and none is asked for.", "en", None),
    )

    def build(self) -> Judge:
        """Returns the judge; English passes."""

        def judge(text: str, lang: Language) -> tuple[str, str | None]:
            return text, self._reason(prose(text)) if lang == "zh" else None

        return judge

    def _reason(self, text: str) -> str | None:
        if len(HAN.findall(text)) < self.min_han * len(_LETTER.findall(text)):
            return "few_han"
        most = self.max_unbroken_han
        if most is not None and any(len(run) > most for run in _UNBROKEN.findall(text)):
            return "no_pauses"
        full, half = len(_FULL.findall(text)), len(_HALF.findall(text))
        if self.min_full_width is not None and full < self.min_full_width * (full + half):
            return "half_width_marks"
        return None
