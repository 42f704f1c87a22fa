"""Garbled text: drops documents whose characters were lost before they came to us.

In: one text. Out: kept, or the reason. Invariant: what repair can undo is undone before; here are left the marks of loss
(U+FFFD), their reading as GBK (锟斤拷), memory patterns printed as text (烫烫烫, 屯屯屯) and characters of private use.
"""

import re
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from tasks.cleaning.base import Example, FilterBase, Judge, Language

_LOST = re.compile("[\ufffd\ue000-\uf8ff]|(?:锟斤拷)+|烫{3,}|屯{3,}")


class Garbled(FilterBase):
    """Characters that are lost for good."""

    kind: Literal["garbled"]
    max_share: Annotated[
        float,
        Field(
            ge=0,
            le=1,
            description="Largest share of lost characters. 0.005: one in two hundred spoils a sentence in three; a stray one in "
            "an article is a symbol of some font.",
        ),
    ] = 0.005

    EXAMPLES: ClassVar[tuple[Example, ...]] = (
        Example("锟斤拷锟斤拷是乱码的样子", "zh", "lost_characters"),
        Example("Caf\ufffd and na\ufffdve", "en", "lost_characters"),
        Example("火很烫，锅也烫。" * 5, "zh", None),
        Example("One lost character \ufffd in a long text. " + "It goes on and on. " * 20, "en", None),
    )

    def build(self) -> Judge:
        """Returns the judge, the same for every language."""

        def judge(text: str, lang: Language) -> tuple[str, str | None]:
            lost = sum(len(found.group()) for found in _LOST.finditer(text))
            return text, "lost_characters" if lost > self.max_share * len(text) else None

        return judge
