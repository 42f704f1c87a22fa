"""Parquet: a document a row.

In: a parquet file. Out: a record a row. Invariant: rows are decoded one at a time from a dictionary, so a file that writes
a large text once and points to it a million times stays as small in memory as on disk.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from tasks.core.inputs import InputFile, open_binary
from tasks.ingest.records import Record, rejected
from tasks.ingest.rows import METADATA, row_record

_BATCH_ROWS = 100
_MAX_GROUP_BYTES = 500_000_000


def records(source: Any, file: InputFile) -> Iterator[Record]:
    """Yields what each row holds; without the column of the text there is one record that names the columns there are."""
    import pyarrow.parquet as pq

    with open_binary(file) as stream:
        schema = pq.read_metadata(stream).schema.to_arrow_schema()
        first = file.groups[0] if file.groups else 0
        if source.text_column in schema.names:
            with pq.ParquetFile(stream, read_dictionary=_texts(source, schema)) as table:
                yield from _rows(source, file, table, schema.names)
        elif first == 0:
            yield rejected(file, 1, "no_text", f"no column {source.text_column!r} among {', '.join(schema.names)}")


def _texts(source: Any, schema: Any) -> list[str]:
    import pyarrow as pa

    kind = schema.field(source.text_column).type
    return [source.text_column] if pa.types.is_string(kind) or pa.types.is_large_string(kind) else []


def _rows(source: Any, file: InputFile, table: Any, names: Sequence[str]) -> Iterator[Record]:
    columns = [name for name in names if name in (source.text_column, *METADATA)]
    first, end = file.groups or (0, table.num_row_groups)
    number = sum(table.metadata.row_group(group).num_rows for group in range(first))
    for group in range(first, end):
        for record in _group(source, file, table, group, columns, number):
            number = record.number
            yield record


def _group(source: Any, file: InputFile, table: Any, group: int, columns: Sequence[str], number: int) -> Iterator[Record]:
    facts = table.metadata.row_group(group)
    if facts.total_byte_size > max(_MAX_GROUP_BYTES, source.max_document_bytes * facts.num_rows):
        for row in range(facts.num_rows):
            yield rejected(file, number + row + 1, "too_large", f"a row group of {facts.total_byte_size} bytes")
        return
    for batch in table.iter_batches(batch_size=_BATCH_ROWS, row_groups=[group], columns=columns):
        for row in range(batch.num_rows):
            number += 1
            yield _record(source, file, number, {name: batch.column(name)[row] for name in columns})


def _record(source: Any, file: InputFile, number: int, cells: dict[str, Any]) -> Record:
    try:
        values = {name: cell.as_py() for name, cell in cells.items()}
    except UnicodeDecodeError as error:  # parquet takes any bytes for a string
        return rejected(file, number, "undecodable", str(error))
    return row_record(source, file.name, number, values)
