"""EPUB: a document a chapter, in reading order.

In: a zip with a package file that lists its parts (OPF). Out: an HTML record for each part of the spine. Invariant: no
part is unpacked beyond the source's bound, and no entity or address in it is followed.
"""

import posixpath
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

from tasks.core.inputs import InputFile, open_binary
from tasks.ingest.records import Record, of_bytes, rejected

_CONTAINER = "META-INF/container.xml"
_ENCRYPTION = "META-INF/encryption.xml"


class _Broken(Exception):
    """The book cannot be read; its message says why."""


def records(source: Any, file: InputFile) -> Iterator[Record]:
    """Yields the chapters of a book."""
    with open_binary(file) as stream, zipfile.ZipFile(stream) as book:
        try:
            root, parts, lang = _contents(book, source.max_document_bytes)
        except _Broken as error:
            yield rejected(file, 1, "broken_epub", str(error))
            return
        for number, part in enumerate(parts, 1):
            yield _chapter(source, file, number, book, posixpath.normpath(posixpath.join(root, unquote(part))), lang)


def _chapter(source: Any, file: InputFile, number: int, book: zipfile.ZipFile, name: str, lang: str | None) -> Record:
    try:
        data = _part(book, name, source.max_document_bytes)
    except _Broken as error:
        return rejected(file, number, "broken_epub", str(error))
    if data is None:
        return rejected(file, number, "too_large", f"{name} has more than {source.max_document_bytes} bytes")
    if _ENCRYPTION in book.namelist() and not data.lstrip(b"\xef\xbb\xbf\xff\xfe \r\n\t").startswith(b"<"):
        return rejected(file, number, "encrypted", name)
    return of_bytes(file, number, data, id=f"{file.name}#{name}", format="html", lang=lang)


def _contents(book: zipfile.ZipFile, max_bytes: int) -> tuple[str, list[str], str | None]:
    """Returns folder of the package file, the parts of its spine, and the language it states."""
    container = _xml(book, _CONTAINER, max_bytes)
    opf = next((one.get("full-path") for one in container.iter("{*}rootfile")), None)
    if opf is None:
        raise _Broken("no package file is named")
    package = _xml(book, opf, max_bytes)
    hrefs = {item.get("id"): item.get("href", "") for item in package.iter("{*}item")}
    parts = [hrefs.get(one.get("idref"), f"(no item {one.get('idref')})") for one in package.iter("{*}itemref")]
    if not parts:
        raise _Broken("its spine is empty")
    stated = next((one.text for one in package.iter("{http://purl.org/dc/elements/1.1/}language") if one.text), None)
    return posixpath.dirname(opf), parts, stated.strip().split("-")[0].lower()[:16] if stated else None


def _xml(book: zipfile.ZipFile, name: str, max_bytes: int) -> Any:
    from lxml import etree  # type: ignore[import-untyped]

    data = _part(book, name, max_bytes)
    if data is None:
        raise _Broken(f"{name} has more than {max_bytes} bytes")
    try:
        return etree.fromstring(data, etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False))
    except (etree.LxmlError, ValueError) as error:
        raise _Broken(f"{name}: {error}") from error


def _part(book: zipfile.ZipFile, name: str, max_bytes: int) -> bytes | None:
    """Returns a part's bytes, None where there are more than the bound.

    Raises:
        _Broken: There is no such part, or it is damaged.
    """
    try:
        with book.open(name) as part:
            data = part.read(max_bytes + 1)
    except (KeyError, ValueError, RuntimeError, NotImplementedError, zipfile.BadZipFile, OSError, EOFError, zlib.error) as error:
        raise _Broken(f"{name}: {error}") from error
    return data if len(data) <= max_bytes else None
