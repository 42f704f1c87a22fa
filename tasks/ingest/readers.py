"""Readers: files and data sets become records, whatever state they are in.

In: a source and its files. Out: a stream of records in a fixed order; what cannot be read comes as a record with a reason.
Invariant: no record is held that is longer than the source's bound, and damage costs only what is damaged.
"""

import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from tasks.core.inputs import InputFile
from tasks.ingest.breaks import restore_breaks
from tasks.ingest.datasets import dataset_rows
from tasks.ingest.formats import FORMATS, INNER, SUFFIXES
from tasks.ingest.formats.sniff import kind_by_content
from tasks.ingest.records import Record, is_too_large, rejected
from tasks.ingest.rows import row_record
from tasks.ingest.sources import FilesSource

_DAMAGED_ZIP = (zipfile.BadZipFile, UnicodeDecodeError, NotImplementedError)  # a name that is not UTF-8, a version that is not


def read_records(source: Any, files: Sequence[InputFile]) -> Iterator[Record]:
    """Yields every record of a source's files, or of its data set.

    Raises:
        TransientError: The hub or a remote store could not be reached.
        RecipeError: The hub has no such data set.
        ContractError: A saved data set cannot be opened, or lacks the split or the text column.
    """
    for record in _records(source, files):
        known = INNER.get(record.format) if record.reason is None else None
        read = known(source, record) if known and not is_too_large(source, record) else record
        yield replace(read, text=restore_breaks(read.text)) if source.restore_breaks else read


def _records(source: Any, files: Sequence[InputFile]) -> Iterator[Record]:
    if isinstance(source, FilesSource):
        for file in files:
            yield from _guarded(file, _file_records(source, file))
    else:
        for number, row in enumerate(dataset_rows(source), 1):
            yield row_record(source, source.name, number, row)


def _guarded(file: InputFile, records: Iterator[Record]) -> Iterator[Record]:
    """Turns damage of a file into one quarantined record after those that could be read."""
    import pyarrow as pa

    number = file.lines_before
    try:
        for record in records:
            number = record.number
            yield record
    except (OSError, EOFError, pa.ArrowException, *_DAMAGED_ZIP, zlib.error) as error:
        yield rejected(file, number + 1, "unreadable", f"{type(error).__name__}: {error}")


def _file_records(source: FilesSource, file: InputFile) -> Iterator[Record]:
    kind = source.format if source.format != "auto" else SUFFIXES.get(file.format) or kind_by_content(file)
    if kind is None:
        detail = f"suffix {file.format!r} and first bytes show none; set `format` to read it"
        yield rejected(file, 1, "unknown_format", detail)
    else:
        yield from FORMATS[kind].records(source, file)
