"""Words and sentences for datatrove's filters, as its own word tokenizers find them but much faster.

In: text. Out: words, and spans of sentences. Invariant: the words and the number of sentences are those of datatrove's
spaCy tokenizer (English) and of jieba (Chinese), so the filters decide alike.

Chinese: see `tasks.core.segment`. English: see `english_words`.
"""

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from tasks.cleaning.base import Language
from tasks.cleaning.english_rules import rules_file
from tasks.cleaning.english_words import Runs, split_runs
from tasks.core.segment import jieba_tokenizer

_EMPTY_LINES = re.compile(r"\n\s*\n")


class Words:
    """What datatrove asks of a word tokenizer."""

    def __init__(self) -> None:
        self._last: tuple[str, list[str]] = ("", [])

    def word_tokenize(self, text: str) -> list[str]:
        """Returns the words; several filters ask for those of the same text, empty lines apart, which hold no word."""
        key = _EMPTY_LINES.sub("\n", text)
        if self._last[0] != key:
            self._last = (key, self.split(key))
        return self._last[1]

    def split(self, text: str) -> list[str]:
        """Returns the words of `text`."""
        raise NotImplementedError

    def sent_tokenize(self, text: str) -> list[str]:
        """Returns the sentences."""
        spans = self.span_tokenize(text)
        return [text[start:end].strip() for start, end in spans if text[start:end].strip()]

    def span_tokenize(self, text: str) -> list[tuple[int, int]]:
        """Returns where each sentence starts and ends: after a mark that ends one, at the next word or wide gap."""
        starts = list(self.sentence_starts(text))
        return list(zip(starts, [*starts[1:], len(text)], strict=True))

    def sentence_starts(self, text: str) -> Iterator[int]:
        """Yields where each sentence starts, so that a reader may stop when there are enough."""
        yield 0
        end, seen_end = 0, False
        for word in self.split(text):
            place = text.index(word, end)
            wide_gap = text[end:place] not in ("", " ")  # spaCy makes a word of white space beyond one space
            if seen_end and (wide_gap or (word not in _sentence_ends() and not _is_punctuation(word))):
                yield end if wide_gap else place
                seen_end = False
            seen_end = seen_end or word in _sentence_ends()
            end = place + len(word)


class _EnglishWords(Words):
    def __init__(self) -> None:
        super().__init__()
        self._runs = Runs()

    def split(self, text: str) -> list[str]:
        return split_runs(self._runs, text)


class _ChineseWords(Words):
    def __init__(self) -> None:
        super().__init__()
        self._tokenizer = jieba_tokenizer()

    def split(self, text: str) -> list[str]:
        return [stripped for word in self._tokenizer.cut(text) if (stripped := word.strip())]


@lru_cache
def word_tokenizer(lang: Language) -> Any:
    """Returns the word tokenizer of a language, to pass to a datatrove filter as its `language`."""
    tokenizer = _registered()[lang]()
    return tokenizer


@lru_cache
def _registered() -> dict[Language, type[Words]]:
    """Returns the classes, made datatrove's own kind: it asks with isinstance."""
    from datatrove.utils.word_tokenizers import WordTokenizer

    WordTokenizer.register(Words)
    return {"en": _EnglishWords, "zh": _ChineseWords}


@lru_cache
def _sentence_ends() -> frozenset[str]:
    return frozenset(rules_file()["sentence_ends"])


@lru_cache(maxsize=100_000)
def _is_punctuation(word: str) -> bool:
    return all(unicodedata.category(char).startswith("P") for char in word)
