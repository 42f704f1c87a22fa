"""The filters of FineWeb as blocks of datatrove that decide as datatrove's own do, from arrays instead of strings.

In: documents of datatrove. Out: kept, or the reason of datatrove's block. Invariant: given the same words, each block
says what the block it derives from says; a test asks both. Any pipeline of datatrove can take them:
`RepetitionBlock()` in the place of `GopherRepetitionFilter()`.
"""

import sys
from collections.abc import Callable
from functools import lru_cache
from itertools import islice
from typing import Any

import numpy as np
from datatrove.data import Document
from datatrove.pipeline.filters import C4QualityFilter, FineWebQualityFilter, GopherQualityFilter, GopherRepetitionFilter
from datatrove.pipeline.filters.c4_filters import CITATION_REGEX, ELLIPSIS, END_PUNCTUATION, POLICY_SUBSTRINGS
from datatrove.utils.text import PUNCTUATION_SET, split_into_sentences
from datatrove.utils.typeshelper import Languages
from datatrove.utils.word_tokenizers import load_word_tokenizer
from numpy.typing import NDArray

from tasks.cleaning.base import Language
from tasks.cleaning.split import Split, repeated_run_chars, split_of, top_run_chars
from tasks.cleaning.words import Words, word_tokenizer

Verdict = bool | tuple[bool, str]
_LETTER, _MEANING = 1, 2
_BULLETS, _ELLIPSES = ("•", "-"), ("...", "…")


def _words_of(language: Any) -> Any:
    """Returns our own word tokenizer for English and Chinese, datatrove's for any other name; one given stays."""
    ours: dict[Any, Language] = {Languages.english: "en", Languages.mandarin_chinese: "zh"}
    return word_tokenizer(ours[language]) if language in ours else load_word_tokenizer(language)


def _split(text: str, language: Any) -> Split:
    return split_of(text, _words_of(language))


class RepetitionBlock(GopherRepetitionFilter):  # type: ignore[misc]  # datatrove is not typed
    """Repeated lines, paragraphs and runs of words; runs only from `min_words_for_runs` words on."""

    def __init__(self, *args: Any, min_words_for_runs: int = 1, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.min_words_for_runs = min_words_for_runs

    def filter(self, doc: Document) -> Verdict:
        """Keeps or drops one document."""
        text = doc.text
        if not text:
            return False, "empty"
        reason = self._copies(text) or self._runs(text)
        return True if reason is None else (False, reason)

    def _copies(self, text: str) -> str | None:
        paragraphs = self.paragraph_exp.split(text.strip())
        copies, chars = _copies_in(paragraphs)
        if self.dup_para_frac and copies / len(paragraphs) > self.dup_para_frac:
            return "dup_para_frac"
        if self.dup_para_char_frac and chars / len(text) > self.dup_para_char_frac:
            return "dup_para_char_frac"
        lines = self._line_splitter.split(text)
        copies, chars = _copies_in(lines)
        if self.dup_line_frac and copies / len(lines) > self.dup_line_frac:
            return "dup_line_frac"
        if self.dup_line_char_frac and chars / len(text) > self.dup_line_char_frac:
            return "dup_line_char_frac"
        return None

    def _runs(self, text: str) -> str | None:
        if len(text) < self.min_words_for_runs:  # a word has at least one character
            return None
        split = _split(text, self.language)
        if len(split.words) < self.min_words_for_runs:
            return None
        for n, most in self.top_n_grams:
            if top_run_chars(split, n, most * len(text)) / len(text) > most:
                return f"top_{n}_gram"
        for n, most in self.dup_n_grams:
            if repeated_run_chars(split, n, most * len(text)) / len(text) > most:
                return f"duplicated_{n}_n_grams"
        return None


class QualityBlock(GopherQualityFilter):  # type: ignore[misc]  # datatrove is not typed
    """Number, length and kind of words; bullets and ellipses."""

    def filter(self, doc: Document) -> Verdict:
        """Keeps or drops one document."""
        reason = self._words(doc.text) or self._lines(doc.text) or self._kinds(doc.text)
        return True if reason is None else (False, reason)

    def _words(self, text: str) -> str | None:
        split = _split(text, self.language)
        meaning = (_kinds(split) & _MEANING) != 0
        num_words, num_meaning = len(split.words), int(meaning.sum())
        if self.min_doc_words and num_meaning < self.min_doc_words:
            return "gopher_short_doc"
        if self.max_doc_words and num_meaning > self.max_doc_words:
            return "gopher_long_doc"
        mean = split.run_chars(1)[meaning].sum() / num_meaning if num_meaning else float("nan")
        if self.min_avg_word_length and mean < self.min_avg_word_length:
            return "gopher_below_avg_threshold"
        if self.max_avg_word_length and mean > self.max_avg_word_length:
            return "gopher_above_avg_threshold"
        most = self.max_symbol_word_ratio
        if most and text.count("#") / num_words > most:
            return "gopher_too_many_hashes"
        if most and _num_marks(text, _ELLIPSES) / num_words > most:
            return "gopher_too_many_ellipsis"
        return None

    def _lines(self, text: str) -> str | None:
        lines = text.splitlines()
        if self._many(text, _BULLETS, self.max_bullet_lines_ratio, lines, lambda line: line.lstrip().startswith(_BULLETS)):
            return "gopher_too_many_bullets"
        if self._many(text, _ELLIPSES, self.max_ellipsis_lines_ratio, lines, lambda line: line.rstrip().endswith(_ELLIPSES)):
            return "gopher_too_many_end_ellipsis"
        return None

    @staticmethod
    def _many(text: str, marks: tuple[str, ...], most: float | None, lines: list[str], has: Callable[[str], bool]) -> bool:
        """Says whether more than the share `most` of the lines have a mark in the place `has` asks for."""
        if not most or _num_marks(text, marks) / len(lines) <= most:
            return False
        return sum(map(has, lines)) / len(lines) > most

    def _kinds(self, text: str) -> str | None:
        split = _split(text, self.language)
        least = self.max_non_alpha_words_ratio  # datatrove's name says the opposite of what it does
        if least and int((_kinds(split) & _LETTER).sum()) / len(split.words) < least:
            return "gopher_below_alpha_threshold"
        if self.min_stop_words and len(self.stop_words.intersection(split.words)) < self.min_stop_words:
            return "gopher_enough_stop_words"
        return None


class C4Block(C4QualityFilter):  # type: ignore[misc]  # datatrove is not typed
    """Lines and pages of the web that are not prose; sentences are counted only until there are enough."""

    def filter(self, doc: Document) -> Verdict:
        """Keeps or drops one document; takes lines out of one that is kept."""
        if not self.split_paragraph:
            found: Verdict = super().filter(doc)
            return found
        kept, reason = self.kept_lines(doc.text)
        if reason is None and not self._enough_sentences(kept):
            reason = "too_few_sentences"
        if reason is not None:
            return False, reason
        doc.text = "\n".join(kept).strip()
        return True

    def kept_lines(self, text: str) -> tuple[list[str], str | None]:
        """Returns the lines that stay, and why the whole page goes, where it does."""
        kept: list[str] = []
        lines = text.splitlines()
        for line in lines:
            clean, lost = self._line(line.strip())
            if clean is None:
                self.stat_update(f"line-filter-{lost}")
            elif lost is not None:
                return kept, lost
            else:
                kept.append(clean)
        self.stat_update("line-total", value=len(lines))
        self.stat_update("line-kept", value=len(kept))
        return kept, None

    def _line(self, line: str) -> tuple[str | None, str | None]:
        """Returns the line without citations, or None and why it goes; the line and a reason: the page goes."""
        words = line.split()
        if len(line) > self.max_word_length != -1 and any(len(word) > self.max_word_length for word in words):
            return None, "too_long_word"
        if self.remove_citations and "[" in line:
            line = CITATION_REGEX.sub("", line)
        if self.filter_no_terminal_punct and (not line.endswith(END_PUNCTUATION) or line.endswith(ELLIPSIS)):
            return None, "no_terminal_punc"
        if len(words) < self.min_words_per_line:
            return None, "too_few_words"
        lower = line.lower()
        if self.filter_lorem_ipsum and "lorem ipsum" in lower:
            return line, "lorem_ipsum"
        if self.filter_javascript and "javascript" in lower:
            return None, "javascript"
        if self.filter_curly_bracket and "{" in line:
            return line, "curly_bracket"
        if self.filter_policy and any(phrase in lower for phrase in POLICY_SUBSTRINGS):
            return None, "policy"
        return line, None

    def _enough_sentences(self, lines: list[str]) -> bool:
        found = len(lines)  # each line holds one at least
        for line in lines:
            if found >= self.min_num_sentences:
                return True
            found += self._num_sentences(line, self.min_num_sentences) - 1
        return bool(self.min_num_sentences == -1 or found >= self.min_num_sentences)

    def _num_sentences(self, line: str, most: int) -> int:
        words = _words_of(self.language)
        if isinstance(words, Words):
            return sum(1 for _ in islice(words.sentence_starts(line), most))
        return len(split_into_sentences(line, words))


class FineWebBlock(FineWebQualityFilter):  # type: ignore[misc]  # datatrove is not typed
    """Lines without an end, short lines, copied lines, lists; words are counted only where runs of characters are too few."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._last_chars = frozenset(stop for stop in self.stop_chars if len(stop) == 1)
        self._last_strings = tuple(stop for stop in self.stop_chars if len(stop) != 1)

    def filter(self, doc: Document) -> Verdict:
        """Keeps or drops one document."""
        text = doc.text
        lines = [line for line in text.split("\n") if line.strip()]
        if not lines:
            return False, "empty"
        ratio = sum(line[-1] in self._last_chars or line.endswith(self._last_strings) for line in lines) / len(lines)
        if ratio < self.line_punct_thr and not (ratio == 0 and self.line_punct_exclude_zero):
            return False, "line_punct_ratio"
        if sum(len(line) <= self.short_line_length for line in lines) / len(lines) > self.short_line_threshold:
            return False, "short_line_ratio"
        num_ends = text.count("\n")
        if _copies_in(lines)[1] / (len(text) - num_ends) > self.char_duplicates_ratio:
            return False, "char_dup_ratio"
        # A run without white space holds one word at least.
        if num_ends / len(text.split()) > self.new_line_ratio and (
            num_ends / len(_split(text, self.language).words) > self.new_line_ratio
        ):
            return False, "list_ratio"
        return True


def _copies_in(parts: list[str]) -> tuple[int, int]:
    """Returns how many parts stood earlier in the list, and their characters."""
    different = set(parts)
    return len(parts) - len(different), sum(map(len, parts)) - sum(map(len, different))


def _num_marks(text: str, marks: tuple[str, ...]) -> int:
    return sum(map(text.count, marks))


def _kinds(split: Split) -> NDArray[np.uint8]:
    """Returns what each word holds: a letter, a character that is no punctuation, both or neither."""
    if not split.words:
        return np.zeros(0, np.uint8)
    return np.bitwise_or.reduceat(_kind_table()[split.code_points], split.starts[:-1])


@lru_cache
def _kind_table() -> NDArray[np.uint8]:
    size = sys.maxunicode + 1
    letters = np.fromiter(map(str.isalpha, map(chr, range(size))), np.uint8, size)
    meaning = np.full(size, _MEANING, np.uint8)
    meaning[[ord(char) for char in PUNCTUATION_SET]] = 0
    return letters * np.uint8(_LETTER) | meaning
