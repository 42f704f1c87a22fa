"""JSON Lines: a document an object, an object a line.

In: a file of lines. Out: a record a line that is not blank. Invariants: a line is never held that is longer than JSON may
make of a text of the source's bound; damage costs one line.
"""

import json
from collections.abc import Iterator
from typing import Any

from tasks.core.inputs import InputFile, read_lines
from tasks.ingest.records import Record, rejected
from tasks.ingest.rows import row_record

_ESCAPE_FACTOR = 6  # JSON may write a byte of text as \u0041


def records(source: Any, file: InputFile) -> Iterator[Record]:
    """Yields what each line holds."""
    max_bytes = source.max_document_bytes * _ESCAPE_FACTOR
    for line in read_lines(file, max_bytes):
        if line.data is None:
            yield rejected(file, line.number, "too_large", f"a line of more than {max_bytes} bytes")
        elif line.data.strip():
            yield _record(source, file, line.number, line.data)


def _record(source: Any, file: InputFile, number: int, data: bytes) -> Record:
    try:
        row = json.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        return rejected(file, number, "undecodable", str(error))
    except (ValueError, RecursionError) as error:
        return rejected(file, number, "broken_json", str(error))
    if not isinstance(row, dict):
        return rejected(file, number, "no_text", f"a {type(row).__name__} instead of an object")
    return row_record(source, file.name, number, row)
