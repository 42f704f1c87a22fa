"""Pieces: files read apart from each other, in any order and by any number of processes.

In: sources. Out: for each piece its documents, its quarantine and the number of records seen. Invariants: pieces are cut by
the files alone; a piece that is done is not read again unless one of its files changed; memory does not grow with a piece.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from tasks.core.inputs import InputFile
from tasks.core.store import write_durably
from tasks.core.tables import TableWriter
from tasks.core.text import one_line, text_safe
from tasks.ingest.parts import parts
from tasks.ingest.readers import read_records
from tasks.ingest.records import Record
from tasks.ingest.sources import FilesSource, HubSource, IngestSpec, source_files

DOCUMENTS = dict.fromkeys(("id", "source", "licence", "lang", "format", "text"), "string")
QUARANTINE = {"source": "string", "file": "string", "record": "int64", "reason": "string", "detail": "string"}
_WHERE = {"position": "int64", "file": "string", "record": "int64"}

_PIECE_BYTES = 32_000_000
_WORKER_BYTES = 8_000_000  # less than this is read sooner than a process starts


class Piece(NamedTuple):
    """Files of one source to read; results carry its number."""

    number: int
    source: Any
    files: tuple[InputFile, ...]
    work: Path

    def file(self, what: str) -> Path:
        """Returns the file that holds `what` of this piece."""
        return self.work / f"{self.number:06d}.{what}"

    @property
    def num_bytes(self) -> int:
        """Size of its files."""
        return sum(file.now()[0] for file in self.files)

    @property
    def is_done(self) -> bool:
        """Whether its results are there, made from the files as they are now."""
        try:
            return bool(json.loads(self.file("json").read_text(encoding="utf-8"))["files"] == self._stamps())
        except (OSError, ValueError, KeyError):
            return False

    def _stamps(self) -> list[list[Any]]:
        return [[file.name, *file.now()] for file in self.files]

    def read(self) -> None:
        """Reads the files; the number of records is written last and says that the piece is done."""
        stamps, position = self._stamps(), 0
        with (
            TableWriter(self.file("documents.parquet"), DOCUMENTS | _WHERE) as documents,
            TableWriter(self.file("quarantine.parquet"), QUARANTINE | _WHERE) as quarantine,
        ):
            for position, record in enumerate(read_records(self.source, self.files), 1):
                record = judged(self.source, record)
                (documents if record.reason is None else quarantine).write(_row(self.source, position, record))
        write_durably(self.file("json"), json.dumps({"num_records": position, "files": stamps}))

    @property
    def num_records(self) -> int:
        """Records its reader saw, whatever became of them."""
        return int(json.loads(self.file("json").read_text(encoding="utf-8"))["num_records"])


def read_piece(piece: Piece) -> None:
    """Reads a piece; at the top level, for processes of their own."""
    piece.read()


def workers_for(pieces: Sequence[Piece], most: int) -> int:
    """Returns how many processes are worth starting."""
    return min(most, 1 + sum(piece.num_bytes for piece in pieces) // _WORKER_BYTES)


def cut(spec: IngestSpec, work: Path) -> list[Piece]:
    """Returns the pieces of all sources, in the order of their documents."""
    work.mkdir(exist_ok=True)
    batches = [(source, batch) for source in spec.sources for batch in _batches(source)]
    return [Piece(number, source, tuple(batch), work) for number, (source, batch) in enumerate(batches)]


def _batches(source: Any) -> Iterator[list[InputFile]]:
    """Yields neighbouring files, and parts of large ones, up to the size of a piece; a data set is one piece."""
    if not isinstance(source, FilesSource):
        yield [] if isinstance(source, HubSource) else source_files(source)
        return
    batch: list[InputFile] = []
    num_bytes = 0
    for file, size in (part for whole in source_files(source) for part in parts(source, whole, _PIECE_BYTES)):
        if batch and num_bytes + size > _PIECE_BYTES:
            yield batch
            batch, num_bytes = [], 0
        batch.append(file)
        num_bytes += size
    yield batch


def judged(source: Any, record: Record) -> Record:
    """Returns the record, marked where its text cannot be taken."""
    if record.reason is not None:
        return record
    if not record.text.strip():
        return replace(record, reason="empty_text")
    try:
        num_bytes = len(record.text.encode("utf-8"))
    except UnicodeEncodeError as error:  # half of a surrogate pair stands for a character that is lost
        return replace(record, reason="lone_surrogate", detail=str(error))
    if num_bytes > source.max_document_bytes:
        return replace(record, reason="too_large", detail=f"{num_bytes} bytes")
    return record


def _row(source: Any, position: int, record: Record) -> dict[str, Any]:
    where = {"position": position, "source": source.name, "file": one_line(record.file), "record": record.number}
    if record.reason is not None:
        return where | {"reason": record.reason, "detail": one_line(record.detail)}
    name = record.id if record.id is not None else f"{record.file}:{record.number}"
    return where | {
        "id": text_safe(f"{source.name}/{name}"),
        "licence": record.licence or source.licence,
        "lang": record.lang or source.lang,
        "format": record.format,
        "text": record.text,
    }
