"""Text that is safe to hand to a log, a server, a tracker or a report.

In: any `str`, also one with lone surrogates or control characters. Out: a `str` that encodes to UTF-8, holds no control
or bidirectional override character, and is no longer than asked. Invariant: what comes out can be stored by every
service Textmill talks to (one lone surrogate makes a Prefect listing fail, one NUL breaks PostgreSQL).
"""

import re
import unicodedata

# Control characters except tab and newline, bidirectional overrides and isolates, lone surrogates.
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_ELLIPSIS = "..."


def text_safe(text: str, max_chars: int = 100_000) -> str:
    """Returns `text` with unsafe characters replaced by U+FFFD and cut to `max_chars` characters."""
    if len(text) > max_chars:
        text = text[: max(0, max_chars - len(_ELLIPSIS))] + _ELLIPSIS
    return _UNSAFE.sub("\ufffd", text)


def one_line(text: str, max_chars: int = 200) -> str:
    """Returns `text` on one line, for a table cell or a log line."""
    return text_safe(" ".join(text.split()), max_chars)


def normalized(text: str) -> str:
    """Returns `text` in NFKC, case folded, white space collapsed: the form in which texts are compared."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())
