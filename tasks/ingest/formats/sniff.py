"""Format of a file: by its suffix, and by its first bytes where a suffix says nothing.

In: a file. Out: the name of a format, none where neither is sure. Invariant: only what has a mark of its own is
recognised by content; text without one stays unknown, since half of a disk is text.
"""

import json
import re

from tasks.core.inputs import InputFile, read_head

_HEAD_BYTES = 16_384
_UTF8_MARK = b"\xef\xbb\xbf"
_OPENS_OBJECT = re.compile(rb'\s*\{\s*"')  # all that can be asked of a line longer than the head
_MARKS: tuple[tuple[str, re.Pattern[bytes]], ...] = (
    ("parquet", re.compile(rb"PAR1")),
    ("epub", re.compile(rb"PK\x03\x04.{26}mimetypeapplication/epub\+zip", re.DOTALL)),
    ("warc", re.compile(rb"WARC/\d")),
    ("mediawiki", re.compile(rb"\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)?<mediawiki[\s>]", re.DOTALL)),
    ("html", re.compile(rb"\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)?<(!doctype html|html)[\s>]", re.DOTALL | re.IGNORECASE)),
    ("mbox", re.compile(rb"From \S[^\n]*\d{4}\s*\n[!-9;-~]+:")),
    (
        "mail",
        re.compile(rb"(Return-Path|Received|Delivered-To|Message-ID|MIME-Version|From|Date): [^\n]*\n([!-9;-~]+:|\s)", re.I),
    ),
    ("man", re.compile(rb"(?:[ \t]*\n|[.'](?!(?:TH|Dd|so)[ \t])[^\n]*\n)*[.'](?:TH|Dd|so)[ \t]")),
)


def kind_by_content(file: InputFile) -> str | None:
    """Returns the format that the first bytes of a file show, none where they show none.

    Raises:
        OSError: The file cannot be read.
    """
    head = read_head(file, _HEAD_BYTES).removeprefix(_UTF8_MARK)
    for kind, mark in _MARKS:
        if mark.match(head):
            return kind
    line, end, _ = head.partition(b"\n")
    is_cut = not end and len(head) >= _HEAD_BYTES - len(_UTF8_MARK)
    return "jsonl" if _is_object(line) or (is_cut and _OPENS_OBJECT.match(line)) else None


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False
