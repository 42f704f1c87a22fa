"""Text files: plain text, Markdown and HTML, a document a file; plain text also cut into passages, or a document a line.

In: a file in any encoding, or lines of UTF-8. Out: one record, one a passage, or one a line that is not blank. Invariant: no
more than the source's bound is held.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from io import StringIO
from typing import Any

from tasks.core.inputs import InputFile, read_lines, read_whole
from tasks.ingest.records import Record, of_bytes, rejected

Reader = Callable[[Any, InputFile], Iterator[Record]]


def whole(source: Any, file: InputFile) -> bytes | Record:
    """Returns all bytes of a file, or the record that says they are too many."""
    data = read_whole(file, source.max_document_bytes)
    if data is None:
        return rejected(file, 1, "too_large", f"more than {source.max_document_bytes} bytes")
    return data


def records(source: Any, file: InputFile, format: str) -> Iterator[Record]:
    """Yields the one document of a text file."""
    data = whole(source, file)
    yield data if isinstance(data, Record) else of_bytes(file, 1, data, encoding=source.encoding, id=file.name, format=format)


def plain(source: Any, file: InputFile) -> Iterator[Record]:
    """Yields the one document of a file of plain text, or its passages."""
    for record in records(source, file, format="plain"):
        if record.reason or not source.passage_chars:
            yield record
            continue
        for number, text in enumerate(passages(record.text, source.passage_chars), 1):
            yield replace(record, number=number, text=text, id=None)


def passages(text: str, num_chars: int) -> Iterator[str]:
    """Yields stretches of whole lines, which together are the text.

    A stretch goes on to the first blank line after `num_chars` characters, but no further than the line that makes it twice as
    long.
    """
    held: list[str] = []
    size = 0
    for line in StringIO(text, newline="\n"):
        is_full = size >= 2 * num_chars or (size >= num_chars and not held[-1].strip())
        if is_full and line.strip():
            yield "".join(held)
            held, size = [], 0
        held.append(line)
        size += len(line)
    yield "".join(held)


def lines(source: Any, file: InputFile) -> Iterator[Record]:
    """Yields each line as a document."""
    for line in read_lines(file, source.max_document_bytes):
        if line.data is None:
            yield rejected(file, line.number, "too_large", f"a line of more than {source.max_document_bytes} bytes")
        elif line.data.strip():
            yield of_bytes(file, line.number, line.data.removesuffix(b"\r"), encoding=source.encoding)


markdown: Reader = partial(records, format="markdown")
html: Reader = partial(records, format="html")
roff: Reader = partial(records, format="roff")
