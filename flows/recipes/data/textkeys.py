"""Text forms and keyword rules of the demo data.

In: answers, prompts and word lists (`keyword_terms.json`: Chinese terms that tell something, English words
that do not). Out: the keywords by which a held-out answer is recognised. Invariant: a keyword is NFKC +
casefolded, stands in the reference answer, and stands in at most `MAX_SHARE` of the answers of its set; only
names that a translation has to copy may also stand in the prompt.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

MAX_SHARE = 0.05
MAX_TERMS = 4
MAX_NAMES = 3
MIN_NAME_CHARS = 3
MIN_PASSAGE_CHARS = 16

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9+.#_-]*[A-Za-z0-9+#]")
_MARKUP = re.compile(r"<(script|style)\b.*?</\1>|<[^>]*>", re.DOTALL)
_BREAK = re.compile(r"[。！？；]|[.!?;]\s|\n\s*\n|\n\s*[*-]|：\n")


@dataclass(frozen=True)
class Keywords:
    """What recognises an answer: words, whether any or all are needed, whether copying them is the task."""

    words: tuple[str, ...]
    match: str
    copied: bool = False

    def fields(self) -> dict[str, object]:
        """The fields of a held-out line."""
        copied = {"copied": True} if self.copied else {}
        return {"keywords": list(self.words), "match": self.match, **copied}


def normalise(text: str) -> str:
    """NFKC and casefold: the form in which keywords are compared."""
    return unicodedata.normalize("NFKC", text).casefold()


def squeeze(text: str) -> str:
    """The normal form without white space: the form in which texts are looked up in each other."""
    return "".join(normalise(text).split())


def visible(text: str) -> str:
    """The text of an HTML page as read: markup away, entities resolved."""
    return html.unescape(_MARKUP.sub("", text))


def passages(text: str) -> list[str]:
    """The squeezed sentences and paragraphs of a text that are long enough to tell it from others."""
    parts = (squeeze(part) for part in _BREAK.split(text))
    return [part for part in parts if len(part) >= MIN_PASSAGE_CHARS]


class Chooser:
    """Chooses keywords for the answers of one set; a word is common if many answers of that set hold it."""

    def __init__(self, answers: Iterable[str], terms: Iterable[str], plain: Iterable[str]) -> None:
        self._answers = [normalise(answer) for answer in answers]
        self._plain = frozenset(plain)
        self._counts: dict[str, int] = {}
        # Leftmost, longest: a longer term hides the shorter ones inside it.
        longest = sorted(terms, key=lambda term: (-len(term), term))
        self._pattern = re.compile("|".join([*map(re.escape, longest), _NAME.pattern]))

    def count(self, word: str) -> int:
        """In how many answers of the set the word stands."""
        if word not in self._counts:
            self._counts[word] = sum(word in answer for answer in self._answers)
        return self._counts[word]

    def _telling(self, words: Iterable[str]) -> list[str]:
        """The words that are neither common, plain nor short Latin, each once, in order."""
        unique = [word for word in dict.fromkeys(words) if word not in self._plain]
        named = [word for word in unique if not word.isascii() or len(word) >= MIN_NAME_CHARS]
        return [word for word in named if self.count(word) <= MAX_SHARE * len(self._answers)]

    def terms(self, prompt: str, answer: str) -> list[str]:
        """Terms of the list and Latin names that only the answer holds."""
        known = normalise(prompt)
        found = self._telling(self._pattern.findall(normalise(answer)))
        return [word for word in found if word not in known]

    def names(self, prompt: str, answer: str, group: str) -> list[str]:
        """Latin names that stand in the prompt and in the answer."""
        known = set(_NAME.findall(unicodedata.normalize("NFKC", prompt)))
        found = _NAME.findall(unicodedata.normalize("NFKC", answer))
        own = {group, *re.split(r"[-.+]", group)}
        names = [name for name in found if name in known and (name != name.lower() or name in own)]
        return self._telling(name.casefold() for name in names)

    def explain(self, prompt: str, answer: str) -> Keywords | None:
        """Keywords of an explanation: any of its first terms."""
        terms = self.terms(prompt, answer)[:MAX_TERMS]
        return Keywords(tuple(terms), "any") if terms else None

    def translate(self, prompt: str, answer: str, group: str) -> Keywords | None:
        """Keywords of a translation: as for an explanation, or all first names where there are more names."""
        names = self.names(prompt, answer, group)
        if len(names) > len(self.terms(prompt, answer)):
            return Keywords(tuple(names[:MAX_NAMES]), "all", copied=True)
        return self.explain(prompt, answer)
