"""WARC: a document a captured page.

In: a web archive, plain or gzip, with responses, resources or extracted text (WET). Out: a record for each of them; what a
crawler notes besides (requests, metadata, its own settings) is no record. Invariant: a page is unpacked up to the source's
bound and decoded by the charset its server named.
"""

from collections.abc import Iterator
from email.message import Message
from typing import Any

from tasks.core.inputs import ChunkStream, InputFile, read_chunks
from tasks.ingest.records import Record, of_bytes, rejected

_PAGES = ("response", "resource", "conversion")
_FORMATS = {"text/html": "html", "application/xhtml+xml": "html", "text/plain": "plain"}


def records(source: Any, file: InputFile) -> Iterator[Record]:
    """Yields the captures of an archive."""
    from warcio.archiveiterator import ArchiveIterator
    from warcio.exceptions import ArchiveLoadFailed

    number = 0
    try:
        for entry in ArchiveIterator(ChunkStream(read_chunks(file)), ensure_http_headers=False):
            if entry.rec_type in _PAGES:
                number += 1
                yield _record(source, file, number, entry)
    except (ArchiveLoadFailed, ValueError, AttributeError) as error:
        yield rejected(file, number + 1, "unreadable", f"{type(error).__name__}: {error}")


def _record(source: Any, file: InputFile, number: int, entry: Any) -> Record:
    status, (kind, charset) = _status(entry), _content_type(entry)
    if status not in ("200", ""):
        return rejected(file, number, "http_status", status)
    if kind not in _FORMATS:
        return rejected(file, number, "not_text", kind)
    data = entry.content_stream().read(source.max_document_bytes + 1)
    if len(data) > source.max_document_bytes:
        return rejected(file, number, "too_large", f"more than {source.max_document_bytes} bytes")
    name = (entry.rec_headers.get_header("WARC-Record-ID") or "").strip("<>") or None
    return of_bytes(file, number, data, charset, id=name, format=_FORMATS[kind])


def _status(entry: Any) -> str:
    return entry.http_headers.get_statuscode() if entry.http_headers is not None else ""


def _content_type(entry: Any) -> tuple[str, str | None]:
    headers = entry.http_headers if entry.http_headers is not None else entry.rec_headers
    message = Message()
    message["Content-Type"] = (headers.get_header("Content-Type") or "").replace("\n", " ")
    return message.get_content_type() if message["Content-Type"] else "", message.get_content_charset()
