"""Readers: files and data sets become records, whatever state they are in.

In: a source. Out: a stream of records in a fixed order; what cannot be read comes as a record with a reason. Invariant:
no record is held that is longer than the source's bound, and damage costs only what is damaged.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tasks.core.errors import ContractError, RecipeError, TransientError
from tasks.core.inputs import InputFile, read_lines, read_whole
from tasks.core.stage import StageContext
from tasks.core.text import text_safe
from tasks.ingest.sources import FilesSource, HubSource, SavedSource, source_files

_FORMATS = {"txt": "txt", "text": "txt", "md": "md", "markdown": "md", "html": "html", "htm": "html", "xhtml": "html"} | {
    "jsonl": "jsonl",
    "ndjson": "jsonl",
    "parquet": "parquet",
}
_TEXT_FORMATS = {"txt": "plain", "md": "markdown", "html": "html"}
_ENCODINGS = ["gb18030", "big5", "cp1252"]
_METADATA = ("id", "lang", "licence", "license", "format")
_MAX_METADATA_CHARS = 500
_BATCH_ROWS = 100
_ESCAPE_FACTOR = 6  # JSON may write a byte of text as \u0041


@dataclass(frozen=True, slots=True)
class Record:
    """A record as read: a document, or what is wrong with it (`reason` set)."""

    file: str
    number: int
    text: str = ""
    id: str | None = None
    lang: str | None = None
    licence: str | None = None
    format: str = "plain"
    reason: str | None = None
    detail: str = ""


def read_records(source: Any, ctx: StageContext) -> Iterator[Record]:
    """Yields every record of a source.

    Raises:
        TransientError: The hub could not be reached.
        RecipeError: The hub has no such data set.
        ContractError: A saved data set cannot be opened, or lacks the split or the text column.
    """
    if isinstance(source, FilesSource):
        for file in source_files(source):
            ctx.log.info("reading %s", file.name)
            yield from _guarded(file, _file_records(source, file))
    else:
        for number, row in enumerate(_dataset_rows(source, ctx), 1):
            yield _row_record(source, source.name, number, row)


def _guarded(file: InputFile, records: Iterator[Record]) -> Iterator[Record]:
    """Turns damage of a file into one quarantined record after those that could be read."""
    import pyarrow as pa

    number = 0
    try:
        for record in records:
            number = record.number
            yield record
    except (OSError, pa.ArrowException) as error:
        yield Record(file.name, number + 1, reason="unreadable", detail=f"{type(error).__name__}: {error}")


def _file_records(source: FilesSource, file: InputFile) -> Iterator[Record]:
    kind = _FORMATS.get(file.format) if source.format == "auto" else source.format
    if kind is None:
        yield Record(file.name, 1, reason="unknown_format", detail=f"suffix {file.format!r}; set `format` to read it")
    elif kind == "jsonl":
        yield from _json_records(source, file)
    elif kind == "parquet":
        yield from _parquet_records(source, file)
    else:
        yield _text_record(source, file, _TEXT_FORMATS[kind])


def _text_record(source: FilesSource, file: InputFile, format: str) -> Record:
    data = read_whole(file, source.max_document_bytes)
    if data is None:
        return Record(file.name, 1, reason="too_large", detail=f"more than {source.max_document_bytes} bytes")
    text = decode(data)
    if text is None:
        return Record(file.name, 1, reason="undecodable", detail="neither UTF-8 nor surely another encoding")
    return Record(file.name, 1, text=text, id=file.name, format=format)


def decode(data: bytes) -> str | None:
    """Returns the text of a file's bytes: UTF-8 (UTF-16 by its mark), else what detection is sure of, else None."""
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError:
        from charset_normalizer import from_bytes

        best = from_bytes(data, cp_isolation=_ENCODINGS, threshold=0.1).best()
        return str(best) if best is not None and best.percent_coherence >= 20 else None


def _json_records(source: FilesSource, file: InputFile) -> Iterator[Record]:
    max_bytes = source.max_document_bytes * _ESCAPE_FACTOR
    for line in read_lines(file, max_bytes):
        if line.data is None:
            yield Record(file.name, line.number, reason="too_large", detail=f"a line of more than {max_bytes} bytes")
        elif line.data.strip():
            yield _json_record(source, file, line.number, line.data)


def _json_record(source: FilesSource, file: InputFile, number: int, data: bytes) -> Record:
    try:
        row = json.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        return Record(file.name, number, reason="undecodable", detail=str(error))
    except (ValueError, RecursionError) as error:
        return Record(file.name, number, reason="broken_json", detail=str(error))
    if not isinstance(row, dict):
        return Record(file.name, number, reason="no_text", detail=f"a {type(row).__name__} instead of an object")
    return _row_record(source, file.name, number, row)


def _parquet_records(source: FilesSource, file: InputFile) -> Iterator[Record]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(file.path) as table:
        names = table.schema_arrow.names
        if source.text_column not in names:
            detail = f"no column {source.text_column!r} among {', '.join(names)}"
            yield Record(file.name, 1, reason="no_text", detail=detail)
            return
        columns = [name for name in names if name in (source.text_column, *_METADATA)]
        number = 0
        for batch in table.iter_batches(batch_size=_BATCH_ROWS, columns=columns):
            for row in batch.to_pylist():
                number += 1
                yield _row_record(source, file.name, number, row)


def _dataset_rows(source: SavedSource | HubSource, ctx: StageContext) -> Iterator[dict[str, Any]]:
    yield from _saved_rows(source) if isinstance(source, SavedSource) else _hub_rows(source, ctx)


def _saved_rows(source: SavedSource) -> Iterator[dict[str, Any]]:
    from datasets import DatasetDict, load_from_disk

    try:
        data = load_from_disk(source.path, keep_in_memory=False)
    except (OSError, ValueError) as error:
        raise ContractError(f"source {source.name}: {source.path} cannot be opened as a saved data set: {error}") from error
    if isinstance(data, DatasetDict):
        if source.split not in data:
            raise ContractError(f"source {source.name}: {source.path} has no split {source.split!r}, only {', '.join(data)}")
        data = data[source.split]
    _require_column(source, data.column_names)
    yield from data


def _hub_rows(source: HubSource, ctx: StageContext) -> Iterator[dict[str, Any]]:
    from datasets import load_dataset
    from datasets.exceptions import DatasetNotFoundError

    try:
        data = load_dataset(
            source.dataset,
            source.config,
            split=source.split,
            revision=source.revision,
            streaming=True,
            cache_dir=str(ctx.site.root / "cache" / "datasets"),
        )
        if data.column_names is not None:
            _require_column(source, data.column_names)
        yield from data
    except (DatasetNotFoundError, ValueError) as error:
        raise RecipeError(f"source {source.name}: there is no such data set, configuration or split: {error}") from error
    except OSError as error:
        raise TransientError(f"source {source.name}: {source.dataset} could not be read from the hub: {error}") from error


def _require_column(source: SavedSource | HubSource, columns: list[str]) -> None:
    if source.text_column not in columns:
        raise ContractError(
            f"source {source.name} has no column {source.text_column!r}, only {', '.join(columns)}; set its text_column"
        )


def _row_record(source: Any, file: str, number: int, row: dict[str, Any]) -> Record:
    text = row.get(source.text_column)
    if not isinstance(text, str):
        found = "missing" if text is None else f"a {type(text).__name__}"
        return Record(file, number, reason="no_text", detail=f"{source.text_column!r} is {found}")
    facts = {name: _metadata(row.get(name)) for name in _METADATA}
    return Record(
        file,
        number,
        text=text,
        id=facts["id"],
        lang=facts["lang"],
        licence=facts["licence"] or facts["license"],
        format=facts["format"] or "plain",
    )


def _metadata(value: Any) -> str | None:
    """Returns what a record says of itself as text any service can store, none where it is no plain value."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    return text_safe(str(value), _MAX_METADATA_CHARS).strip() or None
