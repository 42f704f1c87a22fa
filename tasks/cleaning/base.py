"""What every cleaning filter has: a spec, a judge built from it, and examples that show what it does.

In: the text of one document and its language. Out: the text (a filter may take lines out) and, where the document is to
be dropped, the reason. Invariant: a judge is a pure function; the same text is judged alike in any order and process.
"""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeVar

from tasks.cleaning.prose import prose
from tasks.core.artifact import Spec

Language = Literal["zh", "en"]
L = TypeVar("L")
Judge = Callable[[str, Language], tuple[str, str | None]]


@dataclass(frozen=True, slots=True)
class Example:
    """A text and what the filter with its default settings says of it: a reason, or None where it is kept.

    `becomes` is what is left of a text that is kept, where the filter takes something out of it.
    """

    text: str
    lang: Language
    reason: str | None
    becomes: str | None = None


class FilterBase(Spec):
    """Base of all filter specs; `kind` is the tag in a recipe and starts the reason of each drop.

    `MARKS` are what a filter may put in the place of words: the kind under which each is counted with what is masked.
    """

    EXAMPLES: ClassVar[tuple[Example, ...]] = ()
    MARKS: ClassVar[dict[str, str]] = {}

    kind: Any

    @abstractmethod
    def build(self) -> Judge:
        """Returns the function that judges one text."""


def per_language(make: Callable[[L, Language], Judge], *, en: L | None = None, zh: L | None = None) -> Judge:
    """Returns a judge that applies the settings of the text's language; a language without settings passes."""
    judges: dict[Language, Judge] = {}
    if en is not None:
        judges["en"] = make(en, "en")
    if zh is not None:
        judges["zh"] = make(zh, "zh")

    def judge(text: str, lang: Language) -> tuple[str, str | None]:
        return judges[lang](text, lang) if lang in judges else (text, None)

    return judge


def same(judge: Callable[[str], str]) -> Judge:
    """Returns the judge of a filter that only takes things out, of any language."""
    return lambda text, lang: (judge(text), None)


def from_datatrove(block: Any) -> Judge:
    """Returns a judge that asks a filter block of datatrove about the prose of a text, and leaves the text as it is."""

    def judge(text: str, lang: Language) -> tuple[str, str | None]:
        return text, ask(block, prose(text))[1]

    return judge


def ask(block: Any, text: str) -> tuple[str, str | None]:
    """Returns what a filter block of datatrove makes of a text, and why it would drop it."""
    from datatrove.data import Document
    from datatrove.pipeline.filters.base_filter import get_filter_result

    document = Document(text=text, id="")
    keep, reason = get_filter_result(block.filter(document))
    return document.text, None if keep else str(reason)
