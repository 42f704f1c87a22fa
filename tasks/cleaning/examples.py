"""Examples: which texts teach what good text is, and which do not.

In: a clean corpus, names of its sources, files the recipe names. Out: labelled texts by language, for training and held out.
Invariants: of the corpus, documents of the training split teach and those of the validation split are held out, the test split is
never read; of a file a tenth is held out; which examples are taken hangs on their ids and the seed alone.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Annotated, Any, Self

from pydantic import Field

from tasks.cleaning.base import Language
from tasks.cleaning.language import identify
from tasks.cleaning.references import ReferenceSet, read_items
from tasks.cleaning.scorer import NUM_FOLDS
from tasks.contracts import CleanCorpus
from tasks.core.artifact import Spec
from tasks.core.errors import ContractError, RecipeError
from tasks.core.site import Site
from tasks.core.tables import read_rows

_LANGUAGES: tuple[Language, ...] = ("zh", "en")
_FILE_HELD_OUT = 10


class Examples(Spec):
    """Where examples of one class come from."""

    sources: Annotated[tuple[str, ...], Field(description="Sources of the corpus, by name.")] = ()
    files: Annotated[tuple[ReferenceSet, ...], Field(description="Sets of texts that are not in the corpus.")] = ()

    def pinned(self, site: Site) -> Self:
        """Fills in what the files' bytes are.

        Raises:
            RecipeError: Neither a source nor a file is named.
        """
        if not self.sources and not self.files:
            raise RecipeError("quality.method: positive and negative examples each need sources or files")
        return self.model_copy(update={"files": tuple(one.pinned(site) for one in self.files)})

    def identity(self) -> dict[str, Any]:
        """Returns names and contents; never where files lie."""
        return {"sources": self.sources, "files": [one.identity() for one in self.files]}


@dataclass(frozen=True, slots=True)
class Example:
    """A labelled text."""

    id: str
    lang: Language
    text: str
    is_good: bool
    is_held_out: bool


class Chosen:
    """The examples of one language and class whose ids come first in the order drawn by seed, in bounded memory."""

    def __init__(self, most: int, seed: int) -> None:
        self._most, self._seed = most, seed
        self._held: list[tuple[int, Example]] = []

    def offer(self, example: Example) -> None:
        """Takes an example in, as long as fewer come before it."""
        self._held.append((place(example.id, self._seed), example))
        if len(self._held) >= 2 * self._most:
            self._prune()

    def examples(self) -> list[Example]:
        """Returns those chosen, in the order drawn."""
        self._prune()
        return [example for _, example in self._held]

    def _prune(self) -> None:
        self._held = sorted(self._held, key=lambda item: (item[0], item[1].id))[: self._most]


def place(id: str, seed: int) -> int:
    """Returns a number that hangs on the id and the seed alone."""
    return int.from_bytes(blake2b(f"{seed}:{id}".encode(), digest_size=8).digest(), "big")


def fold_of(id: str, seed: int) -> int:
    """Returns the fold of an example; its number in the order drawn says nothing about it."""
    return place(f"fold {id}", seed) % NUM_FOLDS


def read_examples(
    corpus: CleanCorpus, positive: Examples, negative: Examples, most: int, seed: int, site: Site
) -> dict[Language, list[Example]]:
    """Returns up to `most` training examples, and as many held-out ones, of each language and class.

    Raises:
        ContractError: A source is not one of the corpus, stands on both sides, or a file changed.
    """
    _require_sources(corpus, positive, negative)
    chosen: defaultdict[tuple[Language, bool, bool], Chosen] = defaultdict(lambda: Chosen(most, seed))
    files = (*_of_files(positive, True, site), *_of_files(negative, False, site))
    for examples in (_of_corpus(corpus, positive.sources, negative.sources), *files):
        for example in examples:
            chosen[example.lang, example.is_good, example.is_held_out].offer(example)
    by_language: defaultdict[Language, list[Example]] = defaultdict(list)
    for lang in _LANGUAGES:
        for is_good in (True, False):
            for is_held_out in (False, True):
                by_language[lang] += chosen[lang, is_good, is_held_out].examples()
    return dict(by_language)


def _require_sources(corpus: CleanCorpus, positive: Examples, negative: Examples) -> None:
    known = corpus.documents_by_source
    if unknown := sorted({*positive.sources, *negative.sources} - known.keys()):
        raise ContractError(f"quality: the corpus has no source {unknown[0]!r}; it has {', '.join(sorted(known))}")
    if both := sorted({*positive.sources} & {*negative.sources}):
        raise ContractError(f"quality: source {both[0]!r} is named as good and as not good; name it once")


def _of_corpus(corpus: CleanCorpus, good: Sequence[str], other: Sequence[str]) -> Iterator[Example]:
    if not good and not other:
        return
    for row in read_rows(corpus.path / "documents", ["id", "source", "lang", "split", "text"]):
        if row["split"] != "test" and (row["source"] in good or row["source"] in other):
            yield Example(row["id"], row["lang"], row["text"], row["source"] in good, row["split"] == "validation")


def _of_files(examples: Examples, is_good: bool, site: Site) -> Iterator[Iterator[Example]]:
    for one in examples.files:
        one.require_unchanged(site)
        yield _of_file(one, is_good)


def _of_file(one: ReferenceSet, is_good: bool) -> Iterator[Example]:
    for item in read_items(one):
        text = item.texts[0]
        lang, _ = identify(text, _LANGUAGES)
        if lang in _LANGUAGES:
            yield Example(f"file {item.id}", lang, text, is_good, place(item.id, 0) % _FILE_HELD_OUT == 0)
