"""Mail: a message (RFC 822, MIME) becomes its body under the headers that were chosen.

In: one message a file (eml), many (mbox), or the text of a row whose format is `rfc822`. Out: plain text, or HTML where a
message has no other text. Invariants: bytes are decoded by the transfer encoding and charset of their part; what becomes
of quoted text is said by the recipe.
"""

import re
from collections.abc import Iterator
from email import message_from_bytes
from email.errors import HeaderParseError
from email.header import Header, decode_header
from email.message import Message
from html import escape
from typing import Any

from tasks.core.inputs import InputFile, read_lines
from tasks.ingest.formats.text import whole
from tasks.ingest.records import Record, decode, rejected

_ENVELOPE = re.compile(rb"From \S.*\d{4}\s*$")
_ESCAPED = re.compile(rb">+From ")  # how an mbox writes a line of a message that looks like an envelope
_QUOTED = re.compile(r"\s*([A-Za-z]{1,4})?>")
_ATTRIBUTION = re.compile(r".*(wrote|writes|said|schrieb|写道|寫道)\s*[:：]\s*$", re.IGNORECASE)
_FORWARDED = re.compile(r"\s*-{2,}\s*(original message|forwarded message|原始邮件|原始郵件)\s*-{2,}\s*$", re.IGNORECASE)


def records(source: Any, file: InputFile) -> Iterator[Record]:
    """Yields the message of a file."""
    data = whole(source, file)
    yield data if isinstance(data, Record) else _record(source, Record(file.name, 1, id=file.name), data)


def mailbox(source: Any, file: InputFile) -> Iterator[Record]:
    """Yields the messages of an mbox file: each starts at a `From ` line after a blank one."""
    for number, data in enumerate(_messages(file, source.max_document_bytes), 1):
        if data is None:
            yield rejected(file, number, "too_large", f"more than {source.max_document_bytes} bytes")
        else:
            yield _record(source, Record(file.name, number), data)


def inner(source: Any, record: Record) -> Record:
    """Returns the document of a message that stood in a row."""
    try:
        data = record.text.encode(record.decoded_as or "utf-8")
    except (LookupError, ValueError):
        data = record.text.encode("utf-8", "replace")
    return _record(source, record, data)


def _messages(file: InputFile, max_bytes: int) -> Iterator[bytes | None]:
    lines: list[bytes] = []
    length, blank = 0, True
    for line in read_lines(file, max_bytes):
        data = b"" if line.data is None else line.data
        if blank and _ENVELOPE.match(data) and length:
            yield b"\n".join(lines) if length <= max_bytes else None
            lines, length = [], 0
        blank = not data.strip() and line.data is not None
        length += max_bytes + 1 if line.data is None else len(data) + 1
        if length <= max_bytes:
            lines.append(data[1:] if _ESCAPED.match(data) else data)
        else:
            lines = []
    if length:
        yield b"\n".join(lines) if length <= max_bytes else None


def _record(source: Any, record: Record, data: bytes) -> Record:
    if source.mail is None:
        return _lost(record, "mail_not_configured", "set `mail.quoting` of the source to keep or drop")
    message = message_from_bytes(data)
    body = _body(message)
    if body is None:
        return _lost(record, "no_text", "no part of the message is text")
    text, format = body
    if text is None:
        return _lost(record, "undecodable", "the charset of the message is wrong or unknown")
    if format == "plain" and source.mail.quoting == "drop":
        text = unquoted(text)
    heads = [f"{name.capitalize()}: {value}" for name in source.mail.headers if (value := _header(message, name))]
    if format == "html":
        text = "".join(f"<p>{escape(head)}</p>\n" for head in heads) + text
    elif text.strip():
        text = "\n".join([*heads, "", text] if heads else [text])
    return Record(record.file, record.number, text, record.id, record.lang, record.licence, format)


def _lost(record: Record, reason: str, detail: str) -> Record:
    return Record(record.file, record.number, id=record.id, reason=reason, detail=detail)


def _body(message: Message) -> tuple[str | None, str] | None:
    """Returns text and format: all plain parts, else the first HTML part; none where there is neither."""
    parts = list(_shown(message))
    plain = [_text(part) for part in parts if part.get_content_type() == "text/plain"]
    if None in plain:
        return None, "plain"
    texts = [text for text in plain if text and text.strip()]
    if texts:
        return "\n\n".join(texts), "plain"
    html = next((part for part in parts if part.get_content_type() == "text/html"), None)
    if html is not None:
        return _text(html), "html"
    return ("", "plain") if plain else None


def _shown(part: Message) -> Iterator[Message]:
    """Yields the parts that a reader sees: what lies in an attached message is attached too."""
    if part.get_content_disposition() == "attachment":
        return
    payload: Any = part.get_payload()
    if not isinstance(payload, list):
        yield part
        return
    for inside in payload:
        yield from _shown(inside)


def _text(part: Message) -> str | None:
    payload = part.get_payload(decode=True)
    data = payload if isinstance(payload, bytes) else b""
    text = decode(data, part.get_content_charset())
    return None if text is None else text.replace("\r\n", "\n")


def _header(message: Message, name: str) -> str:
    value = message.get(name, "")
    if isinstance(value, Header):  # bytes beyond ASCII: no standard allows them, and mail is full of them
        raw = next(raw for field, raw in message.raw_items() if field.lower() == name.lower())
        data = raw.encode("ascii", "surrogateescape")
        value = decode(data, declared=message.get_content_charset()) or str(value)
    return " ".join(_words(str(value)).encode("utf-8", "replace").decode().split())


def _words(value: str) -> str:
    """Returns the value of a header with its encoded words (RFC 2047) read as a body of their charset is, or as it came."""
    try:
        parts = decode_header(value)
    except HeaderParseError:
        return value
    read = [part if isinstance(part, str) else decode(part, charset) for part, charset in parts]
    return value if None in read else "".join(filter(None, read))


def unquoted(text: str) -> str:
    """Returns a message's text without the lines it quotes, the lines that announce them, and a forwarded copy."""
    kept: list[str] = []
    for line in text.split("\n"):
        if _FORWARDED.match(line):
            break
        if not _QUOTED.match(line):
            kept.append(line)
            continue
        while kept and not kept[-1].strip():
            kept.pop()
        if kept and _ATTRIBUTION.match(kept[-1]):
            kept.pop()
        kept.append("")
    return "\n".join(kept).strip("\n")
