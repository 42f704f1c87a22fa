"""A record: what a reader makes of a piece of a file, readable or not.

In: bytes and text as they came. Out: records; text of bytes in whatever encoding they are. Invariant: what cannot be read
is a record too, with its reason: a reader never passes over anything in silence.
"""

import codecs
import re
from dataclasses import dataclass
from typing import Any

from tasks.core.inputs import InputFile

_ENCODINGS = ["gb18030", "big5", "cp1252"]
# What is written under these names is often of their larger kin (https://encoding.spec.whatwg.org/#names-and-labels).
_LARGER = {"gb2312": "gb18030", "gbk": "gb18030", "big5": "big5hkscs", "shift_jis": "cp932", "euc_kr": "cp949"}
_DECLARED = re.compile(
    rb"""<meta[^>]{0,200}?charset\s*=\s*["']?\s*([\w.:-]+)|^\s*<\?xml[^>]{0,100}?encoding\s*=\s*["']([\w.:-]+)""", re.IGNORECASE
)
_DECLARED_BYTES = 2_048
_OFTEN_DEFAULTS = frozenset({"iso8859-1", "iso8859-15", "cp1252"})  # a template's, whatever the text is in


@dataclass(frozen=True, slots=True)
class Record:
    """A record as read: a document, or what is wrong with it (`reason` set).

    Attributes:
        file: Name of the file, stable whatever folder it lies in.
        number: Position in the file, from 1.
        id: Id the record gives itself; else file and number are its id.
        format: What the text is: plain, markdown, html, or one of `INNER` that is still to be read.
        decoded_as: Encoding by which the bytes were made text, where the record names one.
    """

    file: str
    number: int
    text: str = ""
    id: str | None = None
    lang: str | None = None
    licence: str | None = None
    format: str = "plain"
    reason: str | None = None
    detail: str = ""
    decoded_as: str | None = None


def rejected(file: InputFile, number: int, reason: str, detail: str = "") -> Record:
    """Returns the record of something that cannot be read."""
    return Record(file.name, number, reason=reason, detail=detail)


def is_too_large(source: Any, record: Record) -> bool:
    """Says whether a text has more bytes than its source allows."""
    return bool(len(record.text.encode("utf-8", "surrogatepass")) > source.max_document_bytes)


def of_bytes(
    file: InputFile, number: int, data: bytes, charset: str | None = None, encoding: str = "auto", **facts: Any
) -> Record:
    """Returns the record of bytes, quarantined where their encoding is not known.

    Args:
        file: Where they come from.
        number: Position in the file, from 1.
        data: The bytes.
        charset: What who sent them claims.
        encoding: What the recipe says of bytes that are not UTF-8; auto: nothing.
        facts: What else is known of the record.
    """
    stated = None if encoding == "auto" else encoding
    text = decode(data, charset, declared=stated or (_declared(data) if facts.get("format") == "html" else None))
    if text is None:
        detail = "neither UTF-8 nor surely another encoding; of text files, `encoding` of the source can say which"
        return rejected(file, number, "undecodable", detail)
    return Record(file.name, number, text=text, **facts)


def decode(data: bytes, charset: str | None = None, declared: str | None = None) -> str | None:
    """Returns the text of bytes.

    Args:
        data: The bytes.
        charset: What who sent them claims; it or its larger kin comes first, then UTF-8 or UTF-16 by its mark.
        declared: What they say themselves, which is more often wrong: it comes after UTF-8, and before what can be detected.

    Returns:
        None where no encoding is sure.
    """
    mark = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    for encoding in (charset, _larger(charset), mark, declared, _larger(declared)):
        try:
            if encoding:
                return data.decode(encoding)
        except (LookupError, ValueError):  # a claim is often wrong, or names nothing
            continue
    return _detected(data)


def _larger(charset: str | None) -> str | None:
    return _LARGER.get((charset or "").lower().replace("-", "_"))


def _declared(page: bytes) -> str | None:
    """Returns the charset that a page of HTML surely names; one that can be read as ASCII is in no form of UTF-16."""
    found = _DECLARED.search(page[:_DECLARED_BYTES])
    charset = (found[1] or found[2]).decode("ascii") if found else ""
    try:
        name = codecs.lookup(charset).name
    except LookupError:
        return None
    return None if name in _OFTEN_DEFAULTS or name.startswith("utf-16") else charset


def _detected(data: bytes) -> str | None:
    from charset_normalizer import from_bytes

    best = from_bytes(data, cp_isolation=_ENCODINGS, threshold=0.1).best()
    return str(best) if best is not None and best.percent_coherence >= 20 else None
