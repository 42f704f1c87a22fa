"""CSV and TSV: a document a row, columns named by the first row.

In: UTF-8 with a comma or a tab between fields, quoted as RFC 4180 says. Out: a record a row. Invariants: a quote that is
never closed costs no more than the source's bound; a row whose fields are not those of the head is quarantined, never
shifted.
"""

import csv
from collections.abc import Iterator
from functools import partial
from typing import Any

from tasks.core.inputs import InputFile, read_lines
from tasks.ingest.formats.text import Reader
from tasks.ingest.records import Record, rejected
from tasks.ingest.rows import row_record


class _Lines:
    """Feeds the parser with lines; refuses to feed one row more than the bound."""

    def __init__(self, file: InputFile, max_bytes: int) -> None:
        self._lines = read_lines(file, max_bytes)
        self._max_bytes = max_bytes
        self.fed_bytes = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self.fed_bytes += self._max_bytes + 1 if line.data is None else len(line.data)
        if line.data is None or self.fed_bytes > self._max_bytes:
            raise csv.Error(f"a row of more than {self._max_bytes} bytes")
        data = line.data.removeprefix(b"\xef\xbb\xbf") if line.number == 1 else line.data
        return data.decode("utf-8", "surrogateescape") + "\n"


def records(source: Any, file: InputFile, delimiter: str) -> Iterator[Record]:
    """Yields what each row holds; without the column of the text there is one record that names the columns there are."""
    lines = _Lines(file, source.max_document_bytes * 2)  # every character may be a doubled quote
    csv.field_size_limit(max(1, source.max_document_bytes * 2))
    rows = _rows(csv.reader(lines, delimiter=delimiter, strict=True), lines)
    head = next(rows, None)
    if head is None:
        return
    if isinstance(head, csv.Error) or source.text_column not in head:
        named = str(head) if isinstance(head, csv.Error) else f"no column {source.text_column!r} among {', '.join(head)}"
        yield rejected(file, 1, "no_text", named)
        return
    for number, row in enumerate(rows, 1):
        yield _record(source, file, number, head, row)


def _rows(reader: Any, lines: _Lines) -> Iterator[list[str] | csv.Error]:
    """Yields rows, and errors in their place; blank lines are no rows."""
    while True:
        lines.fed_bytes = 0
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield error
        else:
            if row:
                yield row


def _record(source: Any, file: InputFile, number: int, head: list[str], row: list[str] | csv.Error) -> Record:
    if isinstance(row, csv.Error):
        reason = "too_large" if "bytes" in str(row) or "limit" in str(row) else "broken_csv"
        return rejected(file, number, reason, str(row))
    if len(row) != len(head):
        return rejected(file, number, "broken_csv", f"{len(row)} fields under {len(head)} columns")
    try:
        "".join(row).encode("utf-8")
    except UnicodeEncodeError:
        return rejected(file, number, "undecodable", "not UTF-8")
    return row_record(source, file.name, number, dict(zip(head, row, strict=True)))


comma: Reader = partial(records, delimiter=",")
tab: Reader = partial(records, delimiter="\t")
