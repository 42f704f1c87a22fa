"""English words as spaCy's tokenizer finds them, from its rules but without its documents.

In: text. Out: words. Invariant: the words are those of `spacy.blank("en")` without white space.

Method: spaCy splits each run without white space by itself, so the words of each run are kept; text repeats its runs. A run
loses marks at its two ends until it is an exception or has none left; an address stays whole, the rest is cut at infixes; words
that are one expression (a smiley, a time of day) are joined again (spacy.io/usage/linguistic-features#how-tokenizer-works).
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from itertools import chain

from tasks.cleaning.english_rules import EnglishRules, rules_file

_MAX_RUNS = 500_000
_MAX_RUN_CHARS = 200
_NONE: Mapping[str, tuple[str, ...]] = {}


class Runs(dict[str, tuple[str, ...]]):
    """The words of each run of characters without white space, found when it is first asked for."""

    def __init__(self) -> None:
        super().__init__()
        self._rules = EnglishRules(rules_file())
        self._exceptions = self._rules.exceptions
        self._longest = max(map(len, self._exceptions))
        self._expressions = frozenset(tuple(self._cut(run, _NONE)) for run in self._exceptions if self._rules.is_cut(run))
        sizes: defaultdict[str, set[int]] = defaultdict(set)
        for words in self._expressions:
            sizes[words[0]].add(len(words))
        self._sizes = dict(sizes)

    def __missing__(self, run: str) -> tuple[str, ...]:
        if run in self._exceptions:
            words = self._exceptions[run]
        elif run.isascii() and run.isalpha():
            words = (run,)
        else:
            words = self._joined(tuple(self._cut(run, self._exceptions)))
        if len(run) <= _MAX_RUN_CHARS and len(self) < _MAX_RUNS:
            self[run] = words
        return words

    def _cut(self, run: str, exceptions: Mapping[str, tuple[str, ...]]) -> Iterator[str]:
        """Yields the words of a run, before expressions are joined."""
        before, core, after = self._without_affixes(run, exceptions)
        yield from before
        if core in exceptions:
            yield from exceptions[core]
        elif (core.isascii() and core.isalnum()) or self._rules.is_address(core):
            yield core
        else:
            yield from self._cut_at_infixes(core)
        yield from reversed(after)

    def _without_affixes(self, run: str, exceptions: Mapping[str, tuple[str, ...]]) -> tuple[list[str], str, list[str]]:
        """Returns the marks before a run from the left, what is left, and the marks after it from the right."""
        before: list[str] = []
        after: list[str] = []
        start, end = 0, len(run)  # places, not slices: a long run of marks would be copied for each of them
        while start < end and not self._is_among(exceptions, run, start, end):
            num_before = self._rules.prefix_chars(run, start, end)
            if num_before and self._is_among(exceptions, run, start + num_before, end):
                return [*before, run[start : start + num_before]], run[start + num_before : end], after
            num_after = self._rules.suffix_chars(run, start + num_before, end)
            if num_after and self._is_among(exceptions, run, start, end - num_after):
                return before, run[start : end - num_after], [*after, run[end - num_after : end]]
            if not num_before and not num_after:
                break
            if num_before:
                before.append(run[start : start + num_before])
            if num_after:
                after.append(run[end - num_after : end])
            start, end = start + num_before, end - num_after
        return before, run[start:end], after

    def _is_among(self, exceptions: Mapping[str, tuple[str, ...]], run: str, start: int, end: int) -> bool:
        return end - start <= self._longest and run[start:end] in exceptions

    def _cut_at_infixes(self, run: str) -> Iterator[str]:
        start = 0
        for found in self._rules.infixes(run):
            if found.start() == 0:
                continue
            yield from filter(None, (run[start : found.start()], found.group()))
            start = found.end()
        if start < len(run):
            yield run[start:]

    def _joined(self, words: tuple[str, ...]) -> tuple[str, ...]:
        """Returns the words with expressions joined: the longest first, of equal ones the first in the run."""
        found = [
            (-size, first)
            for first, word in enumerate(words)
            if word in self._sizes
            for size in self._sizes[word]
            if first + size <= len(words) and words[first : first + size] in self._expressions
        ]
        if not found:
            return words
        chosen: dict[int, int] = {}
        taken: set[int] = set()
        for minus_size, first in sorted(found):
            end = first - minus_size
            if first not in taken and end - 1 not in taken:
                chosen[first] = end
            taken.update(range(first, end))
        return tuple(self._with_expressions(words, chosen))

    def _with_expressions(self, words: tuple[str, ...], ends: Mapping[int, int]) -> Iterator[str]:
        place = 0
        while place < len(words):
            end = ends.get(place, place + 1)
            run = "".join(words[place:end])
            yield from self._exceptions[run] if place in ends and run in self._exceptions else words[place:end]
            place = end


def split_runs(runs: Runs, text: str) -> list[str]:
    """Returns the words of a text."""
    return list(chain.from_iterable(map(runs.__getitem__, text.split())))
