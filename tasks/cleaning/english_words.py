"""English words as spaCy's tokenizer finds them, from its rules but without its documents.

In: text. Out: words. Invariant: the words are those of `spacy.blank("en")` without white space; a run that its rules for
whole expressions (smileys, times of day) could join again is given to spaCy itself.

Method: spaCy splits each run without white space by itself, so the words of each run are kept; text repeats its runs. A run
loses marks at its two ends until it is an exception or has none left; an address stays whole, the rest is cut at infixes
(spacy.io/usage/linguistic-features#how-tokenizer-works). Most of spaCy's time goes into making documents and lexemes, which
nobody asks for here.
"""

import re
from collections.abc import Iterator
from itertools import chain

_MAX_RUNS = 500_000
_MAX_RUN_CHARS = 200
# A stop is split off only after a small letter, a digit or 's; hyphens are split only between letters.
_PLAIN_RUN = re.compile(
    r"""([("]?)(?:([A-Za-z]+(?:-[A-Za-z]+)*)|([0-9]+(?:[.,:][0-9]+)*))((?<=[A-Za-z])'s)?((?<=[a-z0-9])\.)?([,!?)"]{0,2}|[;:])"""
)
_HYPHENS = re.compile("(-)")
_DIGIT = re.compile("[0-9]")


class Runs(dict[str, tuple[str, ...]]):
    """The words of each run of characters without white space, found when it is first asked for."""

    def __init__(self) -> None:
        super().__init__()
        import spacy
        from spacy.symbols import ORTH

        self._spacy = spacy.blank("en").tokenizer
        self._exceptions = {
            run: tuple(filter(None, (piece[ORTH].strip() for piece in pieces))) for run, pieces in self._spacy.rules.items()
        }
        finders = (self._spacy.find_prefix, self._spacy.find_suffix, self._spacy.find_infix)
        self._joined = frozenset(run for run in self._exceptions if any(find(run) for find in finders))
        self._longest_joined = max(map(len, self._joined))

    def __missing__(self, run: str) -> tuple[str, ...]:
        if run.isascii() and run.isalpha():
            words = self._exceptions.get(run) or (run,)
        else:
            words = self._plain(run) or self._by_rules(run) or self._by_spacy(run)
        if len(run) <= _MAX_RUN_CHARS and len(self) < _MAX_RUNS:
            self[run] = words
        return words

    def _by_spacy(self, run: str) -> tuple[str, ...]:
        return tuple(stripped for token in self._spacy(run) if (stripped := token.text.strip()))

    def _plain(self, run: str) -> tuple[str, ...] | None:
        """Returns the words of a run of ASCII letters or of a number, with marks around it; None for any other."""
        found = _PLAIN_RUN.fullmatch(run)
        if found is None:
            return None
        before, letters, number, owner, stop, after = found.groups()
        parts = _HYPHENS.split(letters) if letters else [number]
        last = parts[-1]
        tried = (run, letters, *parts, f"{letters}.", f"{last}.", last + after, last + after[:1])
        if not self._exceptions.keys().isdisjoint(tried):
            return None
        return *before, *parts, *filter(None, (owner, stop)), *after

    def _by_rules(self, run: str) -> tuple[str, ...] | None:
        """Returns the words of a run; None where neighbours among them may be one expression again."""
        if run in self._exceptions:
            return self._exceptions[run]
        before, core, after = self._without_affixes(run)
        words = (*before, *self._core(core), *reversed(after))
        return None if self._may_join(words) else words

    def _without_affixes(self, run: str) -> tuple[list[str], str, list[str]]:
        """Returns the marks before a run from the left, what is left, and the marks after it from the right."""
        before: list[str] = []
        after: list[str] = []
        last_size = 0
        while run and len(run) != last_size and run not in self._exceptions:
            last_size = len(run)
            num_before = self._prefix_chars(run)
            if num_before and run[num_before:] in self._exceptions:
                before.append(run[:num_before])
                return before, run[num_before:], after
            num_after = self._suffix_chars(run[num_before:])
            if num_after and run[:-num_after] in self._exceptions:
                after.append(run[-num_after:])
                return before, run[:-num_after], after
            if num_before + num_after > len(run):
                num_after = 0
            if num_before:
                before.append(run[:num_before])
            if num_after:
                after.append(run[-num_after:])
            run = run[num_before : len(run) - num_after]
        return before, run, after

    def _prefix_chars(self, run: str) -> int:
        if run[0].isascii() and run[0].isalnum() and "$" not in run:  # of these only US$, C$ and A$ are any
            return 0
        return int(self._spacy.find_prefix(run))

    def _suffix_chars(self, run: str) -> int:
        if not run or (run[-1].isascii() and run[-1].isalpha() and run[-2:-1] not in ("'", "’") and not _DIGIT.search(run)):
            return 0  # letters that are any: 's, and units after a digit
        return int(self._spacy.find_suffix(run))

    def _core(self, run: str) -> Iterator[str]:
        """Yields the words of a run that has lost its affixes."""
        if run in self._exceptions:
            yield from self._exceptions[run]
        elif not run:
            return
        elif "." in run and self._spacy.url_match(run):  # no address without a stop
            yield run
        else:
            yield from self._cut_at_infixes(run)

    def _cut_at_infixes(self, run: str) -> Iterator[str]:
        start = 0
        for found in self._spacy.find_infix(run):
            if found.start() == 0:
                continue
            yield from filter(None, (run[start : found.start()], found.group()))
            start = found.end()
        if start < len(run):
            yield run[start:]

    def _may_join(self, words: tuple[str, ...]) -> bool:
        """Whether neighbouring words, written together, are an expression of several marks."""
        for first in range(len(words) - 1):
            joined = words[first]
            for word in words[first + 1 :]:
                joined += word
                if len(joined) > self._longest_joined:
                    break
                if joined in self._joined:
                    return True
        return False


def split_runs(runs: Runs, text: str) -> list[str]:
    """Returns the words of a text."""
    return list(chain.from_iterable(map(runs.__getitem__, text.split())))
