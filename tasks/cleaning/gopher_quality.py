"""Gopher quality: drops documents whose words are too few, too long, too odd or no sentences.

In: one text. Out: kept, or the rule it breaks. Source: Rae et al. 2021 (arXiv 2112.11446), table A1; Chinese values:
Penedo et al. 2025, FineWeb-2 (arXiv 2506.20920), configuration cmn_Hani, apart from what is said below.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from tasks.cleaning.base import Example, FilterBase, Judge, Language, from_datatrove, per_language
from tasks.core.artifact import Spec

Share = Annotated[float | None, Field(gt=0, le=1)]

_ENGLISH_STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")


class QualityLimits(Spec):
    """Bounds on the words and lines of a text; off: not asked."""

    min_words: Annotated[
        int | None,
        Field(
            ge=1,
            description="Fewest words that are not punctuation. en 50 (Gopher); zh 5: a quatrain is short.",
        ),
    ] = 50
    max_words: Annotated[
        int | None, Field(ge=1, description="Most words that are not punctuation. 100,000 (Gopher): longer ones are dumps.")
    ] = 100_000
    min_mean_word_chars: Annotated[
        float | None,
        Field(
            gt=0,
            description="Smallest mean length of words. en 3 (Gopher); zh 1: words of one character.",
        ),
    ] = 3
    max_mean_word_chars: Annotated[
        float | None,
        Field(
            gt=0, description="Largest mean length of words. en 10 (Gopher): above it are addresses and codes; zh 5 (FineWeb-2)."
        ),
    ] = 10
    max_symbols_per_word: Annotated[
        Share, Field(description="Most hash signs, or ellipses, a word. 0.1 (Gopher): more are tags and teasers.")
    ] = 0.1
    max_bullet_lines: Annotated[
        Share, Field(description="Largest share of lines that start with a bullet. 0.9 (Gopher): lists alone.")
    ] = 0.9
    max_ellipsis_lines: Annotated[
        Share, Field(description="Largest share of lines that end in an ellipsis. 0.3 (Gopher): previews.")
    ] = 0.3
    min_alphabetic_words: Annotated[
        Share,
        Field(
            description="Smallest share of words with a letter. en 0.8 (Gopher); zh 0.5: commands and option tables lie at 0.6."
        ),
    ] = 0.8
    min_stop_words: Annotated[
        int | None,
        Field(ge=1, description="Fewest different stop words. en 2 (Gopher): prose has them; zh off: classical verse has none."),
    ] = 2
    stop_words: Annotated[tuple[str, ...], Field(description="Stop words to look for.")] = _ENGLISH_STOP_WORDS


# FineWeb-2 also asks for 50 words and two of its stop words: both drop every classical poem (a quatrain has 20 or 28
# characters, and classical Chinese does without the particles of the modern language), so they are off or low here.
# Its smallest share of words with a letter (0.735) is measured on web prose; articles with commands and option tables
# lie below it, while lines of symbols lie far below 0.5.
CHINESE = QualityLimits(
    min_words=5,
    min_mean_word_chars=1,
    max_mean_word_chars=5,
    min_alphabetic_words=0.5,
    min_stop_words=None,
    stop_words=(),
)


class GopherQuality(FilterBase):
    """Number, length and kind of words; bullets and ellipses."""

    kind: Literal["gopher_quality"]
    en: Annotated[QualityLimits | None, Field(description="Limits for English; off: not applied.")] = QualityLimits()
    zh: Annotated[QualityLimits | None, Field(description="Limits for Chinese; off: not applied.")] = CHINESE

    EXAMPLES: ClassVar[tuple[Example, ...]] = (
        Example("The cat sat on the mat and looked at the birds that flew over the house. " * 4, "en", None),
        Example("Too short to be of use.", "en", "gopher_short_doc"),
        Example(
            "Products prices offers discounts vouchers coupons deals bargains shops stores. " * 8,
            "en",
            "gopher_enough_stop_words",
        ),
        Example("春眠不觉晓，处处闻啼鸟。\n夜来风雨声，花落知多少。", "zh", None),
        Example("更多", "zh", "gopher_short_doc"),
        Example("1234 5678 9012 3456 7890 1234 5678 9012 表", "zh", "gopher_below_alpha_threshold"),
    )

    def build(self) -> Judge:
        """Returns the judge of both languages."""
        return per_language(_judge, en=self.en, zh=self.zh)


def _judge(limits: QualityLimits, lang: Language) -> Judge:
    from tasks.cleaning.blocks import QualityBlock
    from tasks.cleaning.words import word_tokenizer

    return from_datatrove(
        QualityBlock(
            min_doc_words=limits.min_words,
            max_doc_words=limits.max_words,
            min_avg_word_length=limits.min_mean_word_chars,
            max_avg_word_length=limits.max_mean_word_chars,
            max_symbol_word_ratio=limits.max_symbols_per_word,
            max_bullet_lines_ratio=limits.max_bullet_lines,
            max_ellipsis_lines_ratio=limits.max_ellipsis_lines,
            max_non_alpha_words_ratio=limits.min_alphabetic_words,  # datatrove's name says the opposite of what it does
            min_stop_words=limits.min_stop_words,
            stop_words=list(limits.stop_words),
            language=word_tokenizer(lang),
        )
    )
