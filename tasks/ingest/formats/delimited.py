"""CSV and TSV: a document a row, columns named by the first row.

In: UTF-8, or what the source says, with a comma or a tab between fields, quoted as RFC 4180 says. Out: a record a row.
Invariants: a quote that is never closed costs no more than the source's bound; a row whose fields are not those of the head is
quarantined, never shifted.
"""

import csv
from collections.abc import Iterator
from functools import partial
from typing import Any

from tasks.core.delimited import read_delimited, row_error
from tasks.core.inputs import InputFile
from tasks.ingest.formats.text import Reader
from tasks.ingest.records import Record, rejected
from tasks.ingest.rows import row_record


def records(source: Any, file: InputFile, delimiter: str) -> Iterator[Record]:
    """Yields what each row holds; without the column of the text there is one record that names the columns there are."""
    max_bytes = max(1, source.max_document_bytes * 2)  # every character may be a doubled quote
    rows = read_delimited(file, delimiter, max_bytes, encoding=_encoding(source))
    head = next(rows, None)
    if head is None:
        return
    if isinstance(head, csv.Error) or source.text_column not in head:
        named = str(head) if isinstance(head, csv.Error) else f"no column {source.text_column!r} among {', '.join(head)}"
        yield rejected(file, 1, "no_text", named)
        return
    for number, row in enumerate(rows, 1):
        yield _record(source, file, number, head, row)


def _record(source: Any, file: InputFile, number: int, head: list[str], row: list[str] | csv.Error) -> Record:
    reason = row_error(row, len(head))
    if isinstance(row, csv.Error) or reason is not None:
        detail = str(row) if isinstance(row, csv.Error) else f"{len(row)} fields under {len(head)} columns"
        if reason == "undecodable":
            detail = f"not {_encoding(source)}; set `encoding` of the source"
        return rejected(file, number, str(reason), detail)
    return row_record(source, file.name, number, dict(zip(head, row, strict=True)))


def _encoding(source: Any) -> str:
    return "utf-8" if source.encoding == "auto" else str(source.encoding)


comma: Reader = partial(records, delimiter=",")
tab: Reader = partial(records, delimiter="\t")
