"""FineWeb quality: drops pages whose lines look like lists, menus or copies.

In: one text. Out: kept, or the rule it breaks. Source: Penedo et al. 2024, FineWeb (arXiv 2406.17557), section 3.6;
Chinese values: FineWeb-2 (arXiv 2506.20920), configuration cmn_Hani, apart from what is said below.
"""

import re
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from tasks.cleaning.base import Example, FilterBase, Judge, Language, ask, per_language
from tasks.cleaning.prose import prose
from tasks.core.artifact import Spec

# Larger than any share, where datatrove knows no way to leave a rule out.
_NEVER = 1e9
_EMPTY_LINES = re.compile(r"\n\s*\n")


class LineRules(Spec):
    """Bounds on shares of lines and characters; off: not asked."""

    min_end_marks: Annotated[
        float | None,
        Field(
            gt=0,
            le=1,
            description="Smallest share of lines that end in a closing mark. en 0.12 (FineWeb); zh off: verse.",
        ),
    ] = 0.12
    max_short_lines: Annotated[
        float | None,
        Field(gt=0, le=1, description="Largest share of short lines. en 0.67 (FineWeb): menus; zh off: verse and dialogue."),
    ] = 0.67
    short_line_chars: Annotated[int, Field(ge=1, description="Most characters of a short line. 30 (FineWeb).")] = 30
    max_dup_line_chars: Annotated[
        float | None,
        Field(gt=0, le=1, description="Largest share of characters in copied lines. en 0.01 (FineWeb); zh 0.1 (FineWeb-2)."),
    ] = 0.01
    max_new_lines_per_word: Annotated[
        float | None,
        Field(
            gt=0,
            le=1,
            description="Most line ends a word; more make a list. 0.3 (FineWeb); zh 0.3: poems reach 0.18, menus lie above 0.5.",
        ),
    ] = 0.3


# FineWeb-2 leaves short lines out and allows 0.1 of copied characters for all its languages. Its other bounds for Chinese
# are off or wider here: closing marks (0.106), since verse and option lists have none, and line ends a word (0.178), which
# a tenth of the articles on commands pass while poems reach 0.18 and menus lie above 0.5.
CHINESE = LineRules(min_end_marks=None, max_short_lines=None, max_dup_line_chars=0.1, max_new_lines_per_word=0.3)


class FineWebQuality(FilterBase):
    """Lines without an end, short lines, copied lines, lists."""

    kind: Literal["fineweb_quality"]
    en: Annotated[LineRules | None, Field(description="Rules for English; off: not applied.")] = LineRules()
    zh: Annotated[LineRules | None, Field(description="Rules for Chinese; off: not applied.")] = CHINESE

    EXAMPLES: ClassVar[tuple[Example, ...]] = (
        Example("A line of prose that ends as prose does, with a full stop.\nAnd another one that does the same.", "en", None),
        Example("Home\nProducts\nAbout us\nContact\nNews and events of this year", "en", "line_punct_ratio"),
        Example("Home.\nProducts.\nAbout us.\nContact.", "en", "short_line_ratio"),
        Example("春眠不觉晓，\n处处闻啼鸟。\n夜来风雨声，\n花落知多少。", "zh", None),
        Example("首页\n新闻\n产品\n联系\n地图\n登录\n注册", "zh", "list_ratio"),
    )

    def build(self) -> Judge:
        """Returns the judge of both languages."""
        return per_language(_judge, en=self.en, zh=self.zh)


def _judge(rules: LineRules, lang: Language) -> Judge:
    from tasks.cleaning.blocks import FineWebBlock
    from tasks.cleaning.words import word_tokenizer

    block = FineWebBlock(
        line_punct_thr=0.0 if rules.min_end_marks is None else rules.min_end_marks,
        short_line_thr=_NEVER if rules.max_short_lines is None else rules.max_short_lines,
        short_line_length=rules.short_line_chars,
        char_duplicates_ratio=_NEVER if rules.max_dup_line_chars is None else rules.max_dup_line_chars,
        new_line_ratio=_NEVER if rules.max_new_lines_per_word is None else rules.max_new_lines_per_word,
        language=word_tokenizer(lang),
    )

    def judge(text: str, lang: Language) -> tuple[str, str | None]:
        # One line end a line, as in the text these rules were measured on: empty lines are Markdown's, not a list's.
        return text, ask(block, _EMPTY_LINES.sub("\n", prose(text)))[1]

    return judge
