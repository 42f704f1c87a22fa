"""Overlap: which held-out items stand in a text, by shared n-grams and by answers word for word.

In: reference items and texts. Out: for each text the items found in it, with the evidence. Invariants: texts are compared as
units (words, or characters of Chinese), so case, width, white space and punctuation do not count; a run that many different
texts share is template and proves nothing, nor do runs that touch it (a passage asked about many times is one text); an item is
never found by less than one whole run or one whole answer.

N-gram overlap as in Brown et al. 2020 (arXiv 2005.14165, appendix C: 13-grams, frequent ones ignored).
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from tasks.core.artifact import Spec
from tasks.core.ngrams import Hashes, Places, is_by_character, run_hashes, unit_hashes, unit_spans
from tasks.core.text import normalized, text_safe

Reason = Literal["ngram", "answer"]
_EXCERPT_CHARS = 300


class OverlapRules(Spec):
    """What counts as an overlap with a held-out item."""

    words_per_ngram: Annotated[int, Field(ge=5, le=100, description="Words of a shared run, where the item is spaced.")] = 13
    chars_per_ngram: Annotated[
        int,
        Field(ge=5, le=100, description="Characters of a shared run, where the item is Chinese (a Latin word counts as one)."),
    ] = 13
    min_answer_units: Annotated[
        int | None,
        Field(ge=4, le=100, description="Shortest answer, in words or Chinese characters, looked for word for word; off: none."),
    ] = 8
    max_items_per_ngram: Annotated[
        int | None,
        Field(
            ge=1,
            description="A run that items of more different texts share is template: it and what touches it is ignored; off: "
            "every run counts.",
        ),
    ] = 10


@dataclass(frozen=True, slots=True)
class ReferenceItem:
    """A held-out item: all that was asked and answered in it, and the answer that is right, if it has one."""

    id: str
    source: str
    texts: tuple[str, ...]
    answer: str | None = None


@dataclass(frozen=True, slots=True)
class Match:
    """An item found in a text.

    Attributes:
        text: Number of the text.
        item: Number of the item.
        num_ngrams: Distinct n-grams of the item in the text; 0 where only its answer was found.
        excerpt: What they share, normalised, from the first shared unit to the end of that run, cut.
    """

    text: int
    item: int
    reason: Reason
    num_ngrams: int
    excerpt: str


class Reference:
    """Held-out items as sorted hashes, to be looked up in texts.

    Attributes:
        unreachable: Numbers of the items that nothing can find: without an answer of the least length, and without a run that is
            looked for.
        num_too_short: Those of them that have no run at all; the runs of the others are template.
        num_template_ngrams: N-grams ignored because too many texts share them.
    """

    def __init__(self, items: Sequence[ReferenceItem], rules: OverlapRules) -> None:
        self._rules = rules
        sized = [(rules.chars_per_ngram if is_by_character(text) else rules.words_per_ngram, text) for text in _texts(items)]
        owners = [number for number, item in enumerate(items) for _ in item.texts]
        self.num_template_ngrams = 0
        self._with_run: set[int] = set()
        self._grams = {size: self._table(size, sized, owners) for size in sorted({size for size, _ in sized})}
        self._answers = _answers(items, rules.min_answer_units)
        reachable = {number for grams in self._grams.values() for number in grams.items.tolist()}
        reachable |= {number for found in self._answers.values() for number, _ in found}
        self.unreachable = frozenset(range(len(items))) - reachable
        self.num_too_short = len(self.unreachable - self._with_run)

    @property
    def num_ngrams(self) -> int:
        """Distinct n-grams that are looked for."""
        return sum(len(grams.hashes) for grams in self._grams.values())

    def _table(self, size: int, sized: Sequence[tuple[int, str]], owners: Sequence[int]) -> "_Grams":
        chosen = [place for place, (wanted, _) in enumerate(sized) if wanted == size]
        units, bounds = unit_hashes([sized[place][1] for place in chosen])
        hashes = run_hashes(units, size)
        text = np.repeat(np.arange(len(chosen)), np.diff(bounds))[: len(hashes)]
        inside = np.arange(len(hashes)) + size <= bounds[text + 1]
        items = np.array([owners[place] for place in chosen], dtype=np.uint64)[text]
        self._with_run.update(items[inside].tolist())
        if self._rules.max_items_per_ngram is not None:
            first: dict[str, int] = {}
            different = np.array([first.setdefault(sized[place][1], place) for place in chosen], dtype=np.uint64)[text]
            grams, starts, _ = _grouped(hashes[inside], different[inside])
            template = grams[np.diff(starts) > self._rules.max_items_per_ngram]
            self.num_template_ngrams += len(template)
            inside &= ~_touching(inside & np.isin(hashes, template), size, len(units))
        return _Grams(*_grouped(hashes[inside], items[inside]))

    def matches(self, texts: Sequence[str]) -> Iterator[Match]:
        """Yields every item found in each text, texts and items in order."""
        plain = [normalized(text) for text in texts]
        units, bounds = unit_hashes(plain)
        spans: dict[tuple[int, int], list[tuple[int, int, int]]] = defaultdict(list)  # first unit, last one, n-gram
        for size, grams in self._grams.items():
            for place, gram in _found(run_hashes(units, size), grams.hashes):
                if (text := _text_of(bounds, place, size)) is not None:
                    for item in grams.owners(gram):
                        spans[text, item].append((place, place + size, gram))
        whole = self._whole_answers(units, bounds)
        for text, pairs in groupby(sorted(spans.keys() | whole.keys()), key=lambda pair: pair[0]):
            places = unit_spans(plain[text])
            for _, item in pairs:
                ngrams, answer = spans.get((text, item), []), whole.get((text, item))
                first, last = answer or _first_run(ngrams)
                shared = _excerpt(plain[text], places[first - int(bounds[text]) : last - int(bounds[text])])
                yield Match(text, item, "answer" if answer else "ngram", len({gram for _, _, gram in ngrams}), shared)

    def _whole_answers(self, units: Hashes, bounds: Places) -> dict[tuple[int, int], tuple[int, int]]:
        """Returns where an item's answer stands in a text; its first units are looked up, the rest is compared."""
        found: dict[tuple[int, int], tuple[int, int]] = {}
        if not self._answers or self._rules.min_answer_units is None:
            return found
        heads = np.array(sorted(self._answers), dtype=np.uint64)
        for place, head in _found(run_hashes(units, self._rules.min_answer_units), heads):
            for item, answer in self._answers[int(heads[head])]:
                text = _text_of(bounds, place, len(answer))
                if text is not None and np.array_equal(units[place : place + len(answer)], answer):
                    found.setdefault((text, item), (place, place + len(answer)))
        return found


@dataclass(frozen=True, slots=True)
class _Grams:
    """Sorted n-gram hashes and the items of each: those of number n are `items[starts[n]:starts[n + 1]]`."""

    hashes: Hashes
    starts: Places
    items: Places

    def owners(self, number: int) -> list[int]:
        found: list[int] = self.items[self.starts[number] : self.starts[number + 1]].tolist()
        return found


def _texts(items: Sequence[ReferenceItem]) -> Iterator[str]:
    return (normalized(text) for item in items for text in item.texts)


def _grouped(hashes: Hashes, items: Hashes) -> tuple[Hashes, Places, Places]:
    """Returns the distinct hashes, where the items of each one start, and its distinct items."""
    pairs = np.unique(np.stack([hashes, items]), axis=1)
    grams, counts = np.unique(pairs[0], return_counts=True)
    return grams, np.concatenate(([0], np.cumsum(counts))), pairs[1].astype(np.int64)


def _touching(template: NDArray[np.bool_], size: int, num_units: int) -> NDArray[np.bool_]:
    """Says of each run whether it shares a unit with a run that is template: its edge would be found in every such item."""
    change = np.zeros(num_units + 1, dtype=np.int64)
    change[: len(template)] += template
    change[size : size + len(template)] -= template
    covered = np.concatenate(([0], np.cumsum(np.cumsum(change[:-1]) > 0)))
    return covered[size : size + len(template)] > covered[: len(template)]


def _answers(items: Sequence[ReferenceItem], min_units: int | None) -> dict[int, list[tuple[int, Hashes]]]:
    """Returns the items by the hash of the first `min_units` units of their answer, with all its units."""
    by_head: defaultdict[int, list[tuple[int, Hashes]]] = defaultdict(list)
    if min_units is None:
        return by_head
    units, bounds = unit_hashes([normalized(item.answer or "") for item in items])
    for number, (start, end) in enumerate(pairwise(bounds)):
        if end - start >= min_units:
            by_head[int(run_hashes(units[start : start + min_units], min_units)[0])].append((number, units[start:end]))
    return by_head


def _found(hashes: Hashes, wanted: Hashes) -> Iterator[tuple[int, int]]:
    """Yields place and number of each hash that is among the wanted ones, which are sorted."""
    if not len(wanted):
        return
    numbers = np.minimum(np.searchsorted(wanted, hashes), len(wanted) - 1)
    for place in np.flatnonzero(wanted[numbers] == hashes):
        yield int(place), int(numbers[place])


def _text_of(bounds: Places, place: int, size: int) -> int | None:
    """Returns the text in which a run lies whole."""
    text = int(np.searchsorted(bounds, place, side="right")) - 1
    return text if place + size <= bounds[text + 1] else None


def _first_run(spans: Sequence[tuple[int, int, int]]) -> tuple[int, int]:
    """Returns the first stretch of overlapping n-grams."""
    ordered = sorted(spans)
    first, last = ordered[0][:2]
    for start, end, _ in ordered[1:]:
        if start > last:
            break
        last = max(last, end)
    return first, last


def _excerpt(text: str, units: Sequence[tuple[int, int]]) -> str:
    return text_safe(text[units[0][0] : units[-1][1]], _EXCERPT_CHARS)
