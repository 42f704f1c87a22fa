"""C4: takes out lines that are no text and drops pages that are no prose.

In: one text. Out: the text without such lines, or the rule it breaks. Source: Raffel et al. 2020 (jmlr.org/papers/v21/
20-074), as used by FineWeb (arXiv 2406.17557), which leaves the rule of the closing punctuation mark out. FineWeb-2 does
not apply C4 to Chinese: its words, sentences and phrases are English.
"""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from tasks.cleaning.base import Example, FilterBase, Judge, Language, ask, per_language
from tasks.cleaning.prose import code_lines, is_structure, prose, without_code_spans
from tasks.core.artifact import Spec


class C4Rules(Spec):
    """Rules for lines and pages."""

    lines_need_end_mark: Annotated[
        bool, Field(description="Take out lines without a closing mark. FineWeb: off, it costs 30% of the tokens.")
    ] = False
    min_sentences: Annotated[int | None, Field(ge=1, description="Fewest sentences of a page.")] = 5
    min_words_per_line: Annotated[int | None, Field(ge=1, description="Fewest words of a line that is kept.")] = 3
    max_word_chars: Annotated[int | None, Field(ge=1, description="Longest word of a line that is kept.")] = 1_000
    drop_lorem_ipsum: Annotated[bool, Field(description="Drop pages of filler text.")] = True
    drop_javascript_lines: Annotated[bool, Field(description="Take out lines that speak of JavaScript.")] = True
    drop_curly_brackets: Annotated[bool, Field(description="Drop pages with a curly bracket: most of them are code.")] = True
    drop_policy_lines: Annotated[bool, Field(description="Take out lines on cookies and terms of use.")] = True
    remove_citations: Annotated[
        bool, Field(description="Take marks like [1] and [edit] out of lines. Off: manuals write [0] and [] in commands.")
    ] = False


class C4(FilterBase):
    """Lines and pages of the web that are not prose."""

    kind: Literal["c4"]
    en: Annotated[C4Rules | None, Field(description="Rules for English; off: not applied.")] = C4Rules()

    EXAMPLES: ClassVar[tuple[Example, ...]] = (
        Example("This is a first sentence. And here is one more. It goes on. Then it ends. Not quite yet.", "en", None),
        Example("Lorem ipsum dolor sit amet. One two three. One two three. One two three. One two.", "en", "lorem_ipsum"),
        Example("function main() { return 0; }\n" * 5, "en", "curly_bracket"),
        Example("Only one sentence is here.", "en", "too_few_sentences"),
        Example("函数 main() { return 0; } 这是中文文档里的一段代码。", "zh", None),
    )

    def build(self) -> Judge:
        """Returns the judge; Chinese passes."""
        return per_language(_judge, en=self.en)


def _judge(rules: C4Rules, lang: Language) -> Judge:
    block = _block(rules, lang)

    def judge(text: str, lang: Language) -> tuple[str, str | None]:
        _, reason = ask(block, prose(without_code_spans(text)))
        return (text, reason) if reason is not None else (_without_bad_lines(text, block), None)

    return judge


def _without_bad_lines(text: str, block: Any) -> str:
    """Asks about each line of prose by itself: code, headings, items and tables stay as they are."""
    code = code_lines(text)
    lines: list[str] = []
    for number, line in enumerate(text.split("\n")):
        kept = line if number in code or is_structure(line) else _asked_alone(line, block)
        if kept or not line:
            lines.append(kept)
    return "\n".join(lines)


def _asked_alone(line: str, block: Any) -> str:
    """Returns what the rules for lines leave of a line; what would drop a page was asked of the page."""
    kept, drops_page = block.kept_lines(line)
    return line if drops_page else "\n".join(kept).strip()


def _block(rules: C4Rules, lang: Language) -> Any:
    from tasks.cleaning.blocks import C4Block
    from tasks.cleaning.words import word_tokenizer

    return C4Block(
        filter_no_terminal_punct=rules.lines_need_end_mark,
        min_num_sentences=-1 if rules.min_sentences is None else rules.min_sentences,
        min_words_per_line=-1 if rules.min_words_per_line is None else rules.min_words_per_line,
        max_word_length=-1 if rules.max_word_chars is None else rules.max_word_chars,
        filter_lorem_ipsum=rules.drop_lorem_ipsum,
        filter_javascript=rules.drop_javascript_lines,
        filter_curly_bracket=rules.drop_curly_brackets,
        filter_policy=rules.drop_policy_lines,
        remove_citations=rules.remove_citations,
        language=word_tokenizer(lang),
    )
