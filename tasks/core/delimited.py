"""Delimited: rows of csv and tsv files, whatever state the files are in.

In: a file. Out: rows of fields, and an error in the place of each row that cannot be parsed. Invariants: a quote that is never
closed costs no more than the bound; a byte that is not of the encoding marks its row, and no other.
"""

import csv
from collections.abc import Iterator

from tasks.core.inputs import InputFile, read_lines


def read_delimited(
    file: InputFile, delimiter: str, max_bytes: int, *, has_quotes: bool = True, encoding: str = "utf-8"
) -> Iterator[list[str] | csv.Error]:
    """Yields the rows of a table, and errors in their place; blank lines are no rows.

    Bytes that are not of the encoding come as lone surrogates. A quote that is never closed costs no more than the bound.

    Args:
        max_bytes: Longest row.
    """
    lines = _Lines(file, max_bytes, encoding)
    csv.field_size_limit(max_bytes)
    reader = csv.reader(lines, delimiter=delimiter, strict=True, quoting=csv.QUOTE_MINIMAL if has_quotes else csv.QUOTE_NONE)
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


class _Lines:
    """Feeds the parser with lines; refuses to feed one row more than the bound."""

    def __init__(self, file: InputFile, max_bytes: int, encoding: str) -> None:
        self._lines = read_lines(file, max_bytes)
        self._max_bytes = max_bytes
        self._encoding = encoding
        self.fed_bytes = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self.fed_bytes += self._max_bytes + 1 if line.data is None else len(line.data)
        if line.data is None or self.fed_bytes > self._max_bytes:
            raise csv.Error(f"a row of more than {self._max_bytes} bytes")
        data = line.data.removeprefix(b"\xef\xbb\xbf") if line.number == 1 else line.data
        return data.decode(self._encoding, "surrogateescape") + "\n"


def row_error(row: list[str] | csv.Error, num_columns: int) -> str | None:
    """Returns why a row of `read_delimited` cannot be taken: `too_large`, `broken_csv` or `undecodable`, none where it can."""
    if isinstance(row, csv.Error):
        return "too_large" if "bytes" in str(row) or "limit" in str(row) else "broken_csv"
    if len(row) != num_columns:
        return "broken_csv"
    try:
        "".join(row).encode("utf-8")
    except UnicodeEncodeError:
        return "undecodable"
    return None
