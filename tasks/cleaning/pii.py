"""Personal data: mail addresses, IP addresses, Chinese mobile and identity numbers are masked.

In: one text. Out: the text with each piece replaced by a mark of its kind, and how many of each. Invariants: what has a
checksum or a range is checked, so that versions, dates and serial numbers stay; masking twice changes nothing.
"""

import ipaddress
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from functools import partial

# Domains set apart for examples (RFC 2606, 6761) belong to nobody; manuals are full of them.
_EXAMPLE_DOMAINS = re.compile(r"(^|\.)(example(\.(com|net|org|edu))?|test|invalid|localhost|local)$", re.IGNORECASE)
# "version 2.6.32.5" is no address, though it looks like one.
_VERSION_BEFORE = re.compile(
    r"(?:\b(?:version|release|ver|kernel|rev)|\u7248\u672c|\u5185\u6838)[\s:=\uff1a\"'`(]*$", re.IGNORECASE
)
_VERSION_CHARS = 16
_LARGE, _MIDDLE = 100, 30
_ID_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_ID_CHECKS = "10X98765432"


@dataclass(frozen=True, slots=True)
class _Kind:
    name: str
    pattern: re.Pattern[str]
    holds: Callable[[re.Match[str]], bool]
    mark: str


def _is_mail(found: re.Match[str]) -> bool:
    return not _EXAMPLE_DOMAINS.search(found.group().rpartition("@")[2])


def _is_public_ip(found: re.Match[str]) -> bool:
    if _VERSION_BEFORE.search(found.string, max(0, found.start() - _VERSION_CHARS), found.start()):
        return False
    try:
        address = ipaddress.ip_address(found.group())
    except ValueError:
        return False
    if address.version == 4 and not _looks_like_address(address.packed):
        return False
    return address.is_global and not address.is_multicast


def _looks_like_address(numbers: bytes) -> bool:
    """Four small numbers are a section ("9.2.1.4") or a version more often than an address."""
    return max(numbers) >= _LARGE or sum(number >= _MIDDLE for number in numbers) >= 2


def _is_mobile(found: re.Match[str]) -> bool:
    return True


def _is_identity_number(found: re.Match[str]) -> bool:
    """Checks date of birth and checksum (GB 11643-1999)."""
    text = found.group()
    try:
        date(int(text[6:10]), int(text[10:12]), int(text[12:14]))
    except ValueError:
        return False
    total = sum(weight * int(digit) for weight, digit in zip(_ID_WEIGHTS, text, strict=False))
    return _ID_CHECKS[total % 11] == text[17].upper()


_KINDS = (
    _Kind(
        "mail",
        re.compile(
            r"(?<![\w.+-])[A-Za-z0-9][\w.+-]{0,63}@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z]{2,24}(?![\w-])",
            re.ASCII,
        ),
        _is_mail,
        "<email>",
    ),
    _Kind(
        "identity_number",
        re.compile(r"(?<![0-9A-Za-z])[1-8]\d{5}(?:19|20)\d{9}[\dXx](?![0-9A-Za-z])", re.ASCII),
        _is_identity_number,
        "<id-number>",
    ),
    _Kind(
        "mobile",
        re.compile(
            r"(?<![0-9A-Za-z.+_/-])(?:\+?86[ -]?)?1[3-9]\d(?:[ -]?)\d{4}(?:[ -]?)\d{4}(?![0-9A-Za-z._/-]*[0-9])", re.ASCII
        ),
        _is_mobile,
        "<phone>",
    ),
    _Kind(
        "ip",
        re.compile(r"(?<![\w.:-])(?:\d{1,3}\.){3}\d{1,3}(?![\w-]|\.\w)", re.ASCII),
        _is_public_ip,
        "<ip>",
    ),
    _Kind(
        "ip",
        re.compile(r"(?<![\w.:])(?:[0-9A-Fa-f]{1,4}:){2,7}:?(?:[0-9A-Fa-f]{1,4}:){0,5}[0-9A-Fa-f]{1,4}(?![\w:])", re.ASCII),
        _is_public_ip,
        "<ip>",
    ),
)
KINDS = ("mail", "ip", "mobile", "identity_number")


def mask(text: str) -> tuple[str, Counter[str]]:
    """Returns the text with personal data replaced by marks, and how many pieces of each kind there were."""
    counts: Counter[str] = Counter()

    def replace(kind: _Kind, found: re.Match[str]) -> str:
        if not kind.holds(found):
            return found.group()
        counts[kind.name] += 1
        return kind.mark

    for kind in _KINDS:
        text = kind.pattern.sub(partial(replace, kind), text)
    return text, counts
