"""Sketches: what deduplication needs to know of each document, made by worker processes, a row group at a time.

In: the documents of a corpus. Out: one record a document, its MinHash keys and its shingle set (on disk), in the order of the
ids. Invariants: a document's sketch hangs on its text and language alone; a piece that is done is not done again.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from tasks.cleaning.clusters import signatures
from tasks.cleaning.repeated import RepeatedLines, line_filter
from tasks.cleaning.shingles import BY_CHARACTER, shingle_sets
from tasks.core.artifact import Spec
from tasks.core.ngrams import Hashes
from tasks.core.tables import Row, read_group, read_rows, row_groups, write_table
from tasks.core.text import normalized
from tasks.core.workers import run_jobs

_SKETCH = dict.fromkeys(("id", "source", "lang"), "string") | {"num_chars": "int64", "text_digest": "binary", "size": "int64"}
_BATCH_CHARS = 500_000


class NearDuplicates(Spec):
    """How near-duplicates are found."""

    threshold: Annotated[
        float, Field(ge=0.5, le=1, description="Jaccard similarity of shingles from which two texts are copies.")
    ] = 0.8
    chars_per_shingle: Annotated[
        int, Field(ge=2, le=20, description="Characters (and whole words of other scripts) a shingle of Chinese text.")
    ] = 5
    words_per_shingle: Annotated[
        int,
        Field(
            ge=1,
            le=20,
            description="Words (and single Chinese characters) a shingle of English text; texts labelled Chinese and English are "
            "compared only where this equals chars_per_shingle.",
        ),
    ] = 5
    num_bands: Annotated[int, Field(ge=1, le=128, description="Bands of MinHash values: more find more candidates.")] = 20
    rows_per_band: Annotated[int, Field(ge=1, le=16, description="Values a band: more make fewer false candidates.")] = 6


@dataclass(frozen=True, slots=True)
class Document:
    """What is kept in memory of a document."""

    id: str
    source: str
    lang: str
    num_chars: int
    text_digest: bytes


@dataclass(frozen=True, slots=True)
class Sketches:
    """Documents in the order of their ids; `keys` has a row each, `sets` is none where only exact copies are looked for."""

    documents: list[Document]
    keys: NDArray[np.uint64]
    sets: list[Hashes] | None


class _Piece(NamedTuple):
    """One row group to read; its results carry its number."""

    number: int
    path: Path
    group: int
    work: Path
    near: NearDuplicates | None
    lines: RepeatedLines | None

    def file(self, what: str) -> Path:
        return self.work / f"{self.number:06d}.{what}"


def sketch(
    documents: Path, near: NearDuplicates | None, lines: RepeatedLines | None, work: Path, workers: int
) -> Iterator[tuple[int, int]]:
    """Makes the sketches in `work` and yields how many pieces are done, and of how many."""
    pieces = _pieces(documents, near, work, lines)
    waiting = [piece for piece in pieces if not piece.file("done").exists()]
    for done in run_jobs(sketch_piece, waiting, workers):
        yield len(pieces) - len(waiting) + done, len(pieces)


def read_sketches(documents: Path, near: NearDuplicates | None, work: Path) -> Sketches:
    """Returns what `sketch` made."""
    found: list[Document] = []
    keys: list[NDArray[np.uint64]] = []
    sets: list[Hashes] = []
    for piece in _pieces(documents, near, work):
        rows = list(read_rows(piece.file("documents.parquet")))
        found += [Document(*(row[name] for name in ("id", "source", "lang", "num_chars", "text_digest"))) for row in rows]
        if near is not None:
            keys.append(np.fromfile(piece.file("keys"), dtype=np.uint64).reshape(len(rows), near.num_bands))
            sets += _mapped(piece.file("shingles"), [row["size"] for row in rows])
    order = sorted(range(len(found)), key=lambda number: found[number].id)
    ordered = [found[number] for number in order]
    if near is None or not found:
        return Sketches(ordered, np.zeros((len(found), 0), dtype=np.uint64), None)
    return Sketches(ordered, np.concatenate(keys)[order], [sets[number] for number in order])


def _pieces(documents: Path, near: NearDuplicates | None, work: Path, lines: RepeatedLines | None = None) -> list[_Piece]:
    return [_Piece(number, path, group, work, near, lines) for number, (path, group) in enumerate(row_groups(documents))]


def _mapped(path: Path, sizes: Sequence[int]) -> list[Hashes]:
    """Returns the sets in a file, one after the other, without reading them."""
    ends = np.cumsum([0, *sizes])
    flat = np.memmap(path, dtype=np.uint64, mode="r") if ends[-1] else np.zeros(0, dtype=np.uint64)
    return [flat[start:end] for start, end in pairwise(ends)]


def sketch_piece(piece: _Piece) -> None:
    """Sketches one row group; the file that says it is done comes last."""
    rows: list[Row] = []
    without_repeated = line_filter(piece.lines, piece.work)
    with piece.file("shingles").open("wb") as shingles, piece.file("keys").open("wb") as keys:
        read = read_group(piece.path, piece.group, ["id", "source", "lang", "text"])
        for batch in _batches([row | {"text": without_repeated(row["source"], row["text"])} for row in read]):
            texts = [normalized(row["text"]) for row in batch]
            sets = _sets(texts, [row["lang"] for row in batch], piece.near)
            if piece.near is not None:
                shingles.write(np.concatenate(sets).tobytes())
                keys.write(signatures(sets, piece.near.num_bands, piece.near.rows_per_band).tobytes())
            rows += [_row(row, text, len(found)) for row, text, found in zip(batch, texts, sets, strict=True)]
    write_table(piece.file("documents.parquet"), _SKETCH, rows)
    piece.file("done").touch()


def _batches(rows: Sequence[Row]) -> Iterator[list[Row]]:
    """Yields rows in batches of some text: a few passes over an array are dear for one short text."""
    batch: list[Row] = []
    num_chars = 0
    for row in rows:
        batch.append(row)
        num_chars += len(row["text"])
        if num_chars >= _BATCH_CHARS:
            yield batch
            batch, num_chars = [], 0
    if batch:
        yield batch


def _sets(texts: list[str], langs: list[str], near: NearDuplicates | None) -> list[Hashes]:
    """Returns the shingle set of each text.

    Every text is taken in the same units, whatever its language: copies of a text half Chinese, half English may be labelled
    as either, and must still be seen to be alike.
    """
    sets = [np.zeros(0, dtype=np.uint64)] * len(texts)
    if near is None:
        return sets
    sizes = [near.chars_per_shingle if lang in BY_CHARACTER else near.words_per_shingle for lang in langs]
    for size in sorted(set(sizes)):
        chosen = [number for number, one in enumerate(sizes) if one == size]
        for number, found in zip(chosen, shingle_sets([texts[number] for number in chosen], size, True), strict=True):
            sets[number] = found
    return sets


def _row(row: Row, text: str, size: int) -> dict[str, Any]:
    digest = sha256(text.encode("utf-8")).digest()
    about = {name: row[name] for name in ("id", "source", "lang")}
    return about | {"num_chars": len(row["text"]), "text_digest": digest, "size": size}
