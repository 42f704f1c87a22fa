"""Gopher repetition: drops documents that say the same again and again.

In: one text. Out: kept, or the part that repeats too much. Source: Rae et al. 2021 (arXiv 2112.11446), table A1; Chinese
limits: Penedo et al. 2025, FineWeb-2 (arXiv 2506.20920), configuration cmn_Hani.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from tasks.cleaning.base import Example, FilterBase, Judge, Language, from_datatrove, per_language
from tasks.core.artifact import Spec

Share = Annotated[float | None, Field(gt=0, le=1)]


class RepetitionLimits(Spec):
    """Largest share of a text that repetition of each kind may take; off: not asked."""

    dup_lines: Annotated[Share, Field(description="Lines that are copies of an earlier line.")] = 0.3
    dup_paragraphs: Annotated[Share, Field(description="Paragraphs that are copies of an earlier one.")] = 0.3
    dup_line_chars: Annotated[Share, Field(description="Characters in copied lines.")] = 0.2
    dup_paragraph_chars: Annotated[Share, Field(description="Characters in copied paragraphs.")] = 0.2
    min_words_for_runs: Annotated[
        int,
        Field(
            ge=1,
            description="Fewest words at which runs of words are looked at: in a shorter text a run that stands there once "
            "already takes such a share. 50 is Gopher's shortest document.",
        ),
    ] = 50
    top_2_gram: Annotated[float, Field(gt=0, le=1, description="Characters in the most frequent run of 2 words.")] = 0.2
    top_3_gram: Annotated[float, Field(gt=0, le=1, description="Characters in the most frequent run of 3 words.")] = 0.18
    top_4_gram: Annotated[float, Field(gt=0, le=1, description="Characters in the most frequent run of 4 words.")] = 0.16
    dup_5_grams: Annotated[float, Field(gt=0, le=1, description="Characters in repeated runs of 5 words.")] = 0.15
    dup_6_grams: Annotated[float, Field(gt=0, le=1, description="Characters in repeated runs of 6 words.")] = 0.14
    dup_7_grams: Annotated[float, Field(gt=0, le=1, description="Characters in repeated runs of 7 words.")] = 0.13
    dup_8_grams: Annotated[float, Field(gt=0, le=1, description="Characters in repeated runs of 8 words.")] = 0.12
    dup_9_grams: Annotated[float, Field(gt=0, le=1, description="Characters in repeated runs of 9 words.")] = 0.11
    dup_10_grams: Annotated[float, Field(gt=0, le=1, description="Characters in repeated runs of 10 words.")] = 0.1


# FineWeb-2 asks nothing of paragraphs and of characters in copied lines, since another filter of it does.
CHINESE = RepetitionLimits(
    dup_lines=0.287,
    min_words_for_runs=100,
    dup_paragraphs=None,
    dup_line_chars=None,
    dup_paragraph_chars=None,
    top_2_gram=0.256,
    top_3_gram=0.201,
    top_4_gram=0.171,
    dup_5_grams=0.198,
    dup_6_grams=0.182,
    dup_7_grams=0.167,
    dup_8_grams=0.154,
    dup_9_grams=0.14,
    dup_10_grams=0.127,
)


class GopherRepetition(FilterBase):
    """Repeated lines, paragraphs and runs of words."""

    kind: Literal["gopher_repetition"]
    en: Annotated[RepetitionLimits | None, Field(description="Limits for English; off: not applied.")] = RepetitionLimits()
    zh: Annotated[RepetitionLimits | None, Field(description="Limits for Chinese; off: not applied.")] = CHINESE

    EXAMPLES: ClassVar[tuple[Example, ...]] = (
        Example("Each line of this text says something new.\nSo none of them is a copy of another one.\n", "en", None),
        Example("Buy now and save money today.\n" * 6, "en", "dup_line_frac"),
        Example("buy now " * 40, "en", "top_2_gram"),
        Example("春眠不觉晓，处处闻啼鸟。\n夜来风雨声，花落知多少。", "zh", None),
        Example("点击这里查看更多内容\n" * 8, "zh", "dup_line_frac"),
    )

    def build(self) -> Judge:
        """Returns the judge of both languages."""
        return per_language(_judge, en=self.en, zh=self.zh)


def _judge(limits: RepetitionLimits, lang: Language) -> Judge:
    from tasks.cleaning.blocks import RepetitionBlock
    from tasks.cleaning.words import word_tokenizer

    values = limits.model_dump()
    return from_datatrove(
        RepetitionBlock(
            dup_line_frac=limits.dup_lines,
            dup_para_frac=limits.dup_paragraphs,
            dup_line_char_frac=limits.dup_line_chars,
            dup_para_char_frac=limits.dup_paragraph_chars,
            top_n_grams=tuple((n, values[f"top_{n}_gram"]) for n in range(2, 5)),
            dup_n_grams=tuple((n, values[f"dup_{n}_grams"]) for n in range(5, 11)),
            min_words_for_runs=limits.min_words_for_runs,
            language=word_tokenizer(lang),
        )
    )
