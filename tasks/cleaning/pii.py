"""Personal data: mail and IP addresses, phone, identity and card numbers, keys and tokens are masked.

In: one text. Out: the text with each piece of the kinds asked for replaced by its mark, and how many of each. Invariants:
what has a checksum or a range is checked, so that versions, dates and serial numbers stay; masking twice changes nothing; what is
not masked keeps its width.
"""

import ipaddress
import re
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Literal, get_args

from tasks.cleaning.secrets import SECRETS, is_secret

PersonalData = Literal["mail", "ip", "mobile", "identity_number", "card", "phone", "secret"]

# Domains set apart for examples (RFC 2606, 6761) belong to nobody; manuals are full of them.
_EXAMPLE_DOMAINS = re.compile(r"(^|\.)(example(\.(com|net|org|edu))?|test|invalid|localhost|local)$", re.IGNORECASE)
# "version 2.6.32.5" is no address, though it looks like one.
_VERSION_BEFORE = re.compile(
    r"(?:\b(?:version|release|ver|kernel|rev)|\u7248\u672c|\u5185\u6838)[\s:=\uff1a\"'`(]*$", re.IGNORECASE
)
_VERSION_CHARS = 16
_LARGE, _MIDDLE = 100, 30
_COUNTRY = (  # country codes of ITU-T E.164
    r"(?:1|7|2[07]|3[0-469]|4[013-9]|5[1-8]|6[0-6]|8[1246]|9[0-58]|(?:2[1-689]|3[578]|42|5[09]|6[789]|8[0578]|9[679])\d)"
)
_MOBILE, _ALONE = r"1[3-9]\d{9}", "(?<![0-9A-Za-z.+_/-])"
_LABELLED = r"(?<=(?<![A-Za-z0-9_])[Tt][Ee][Ll])|(?<=(?<![A-Za-z0-9_])[Tt][Ee][Ll]\.)"
_LANDLINE = r"0\d{2,3}-\d{7,8}"
_HEX, _GLOBAL = "[0-9A-Fa-f]{1,4}", "[23][0-9A-Fa-f]{3}"  # with one group before `::`, or none behind it, only what is routed
_TIME = r"(?::\d\d)+"  # 2024:10:11:: is a time
_ISSUERS = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})|5[1-5]\d{14}|(?:222[1-9]|22[3-9]\d|2[3-6]\d\d|27[01]\d|2720)\d{12}"  # Visa, Mastercard
    r"|3[47]\d{13}|62\d{14,17}|(?:6011|65\d\d)\d{12}|35(?:2[89]|[3-8]\d)\d{12}"  # Amex, UnionPay, Discover, JCB
)
# Full-width letters, digits, plus signs; at signs, full stops, hyphens, underscores and dashes only inside of a word or number.
_WIDTH, _DASHES = 0xFEE0, "\u2013\u2014"
_DIGIT, _LETTER = r"0-9\uff10-\uff19", r"A-Za-z\uff21-\uff3a\uff41-\uff5a"
_WIDE = re.compile(  # the characters first: a search for one of a set is fast
    rf"[\uff10-\uff19\uff21-\uff3a\uff41-\uff5a\uff0b\uff20\uff0e\uff0d\uff3f{_DASHES}](?:"
    rf"(?<=[{_DIGIT}{_LETTER}])|(?<=\uff0b)(?=[{_DIGIT}])|(?<=[{_DIGIT}][{_DASHES}])(?=[{_DIGIT}])"
    rf"|(?<=[{_DIGIT}{_LETTER}][\uff20\uff0e\uff0d\uff3f])(?=[{_DIGIT}{_LETTER}]))"
)
_ID_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_ID_CHECKS = "10X98765432"


@dataclass(frozen=True, slots=True)
class _Kind:
    """How one kind is found; a group named `before` in the pattern stays in the text."""

    name: PersonalData
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


def _is_phone(found: re.Match[str]) -> bool:
    """Checks the length (ITU-T E.164 allows 15 digits); shorter than 9 it is a number like any other."""
    return 9 <= sum(map(str.isdigit, found.group())) <= 15


def _is_card(found: re.Match[str]) -> bool:
    """Checks the ranges of the issuers and the digit of Luhn (ISO/IEC 7812-1)."""
    number = re.sub("[ -]", "", found.group())
    if not _ISSUERS.fullmatch(number):
        return False
    doubled = [int(digit) * 2 for digit in number[-2::-2]]
    return (sum(map(int, number[-1::-2])) + sum(digit - 9 * (digit > 9) for digit in doubled)) % 10 == 0


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
    _Kind("secret", SECRETS, is_secret, "<secret>"),
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
        "card",
        re.compile(
            r"(?<![\w.-])(?:\d{4}([ -])(?:\d{4}\1){3}\d{3}|\d{4}([ -]?)\d{4}\2\d{4}\2\d{1,7}|\d{4}([ -]?)\d{6}\3\d{5})"
            r"(?![\w-]|\.\d)",
            re.ASCII,
        ),
        _is_card,
        "<card>",
    ),
    _Kind(
        "mobile",
        re.compile(  # not inside of an address or a longer number, but beside a second one or before an extension
            rf"(?:{_ALONE}|{_LABELLED}|(?<={_ALONE}{_MOBILE}/))(?:(?:\+|00)?86[ -]?)?1[3-9]\d(?:[ -]?)\d{{4}}(?:[ -]?)\d{{4}}"
            rf"(?:(?=/(?:{_MOBILE}|{_LANDLINE})(?!\d))|(?=-\d{{1,6}}(?![\w-]))|(?![0-9A-Za-z._/-]*[0-9]))",
            re.ASCII,
        ),
        _is_mobile,
        "<phone>",
    ),
    _Kind(
        "phone",
        re.compile(rf"(?<![\w+.])\+{_COUNTRY}(?:[ -]?\(?\d{{1,4}}\)?){{2,6}}(?![\w-]|\.\d)", re.ASCII),
        _is_phone,
        "<phone>",
    ),
    _Kind(
        "ip",
        re.compile(r"(?<![\w.-])(?<!\d:)(?:\d{1,3}\.){3}\d{1,3}(?![\w-]|\.\w)", re.ASCII),
        _is_public_ip,
        "<ip>",
    ),
    _Kind(
        "ip",
        re.compile(
            rf"(?<![\w.:])(?:(?:{_HEX}:){{2,7}}:?(?:{_HEX}:){{0,5}}{_HEX}"
            rf"|{_GLOBAL}(?::(?::{_HEX}){{2,6}}|(?!{_TIME}::)(?::{_HEX}){{1,6}}::))(?![\w:])",
            re.ASCII,
        ),
        _is_public_ip,
        "<ip>",
    ),
)
KINDS: tuple[PersonalData, ...] = get_args(PersonalData)
MARKS: dict[str, tuple[str, ...]] = {  # the kinds that each mark stands for
    one.mark: tuple(dict.fromkeys(kind.name for kind in _KINDS if kind.mark == one.mark)) for one in _KINDS
}


def mask(text: str, kinds: Collection[PersonalData] = KINDS) -> tuple[str, Counter[str]]:
    """Returns the text with personal data of these kinds replaced by marks, and how many pieces of each there were."""
    counts: Counter[str] = Counter()
    text = _masked(text, text, kinds, counts)
    narrow = _WIDE.sub(_narrowed, text)
    return (text if narrow == text else _masked(text, narrow, kinds, counts)), counts


def _masked(text: str, shadow: str, kinds: Collection[PersonalData], counts: Counter[str]) -> str:
    """Replaces in a text what is found in its shadow, which differs in the width of characters at most."""
    for kind in _KINDS:
        found = [one for one in kind.pattern.finditer(shadow) if kind.holds(one)] if kind.name in kinds else []
        if found:
            counts[kind.name] += len(found)
            text, shadow = _replaced(text, found, kind.mark), _replaced(shadow, found, kind.mark)
    return text


def _replaced(text: str, found: Sequence[re.Match[str]], mark: str) -> str:
    pieces, end = [], 0
    for one in found:
        start = one.end("before") if one.groupdict().get("before") else one.start()
        pieces += [text[end:start], mark]
        end = one.end()
    return "".join([*pieces, text[end:]])


def _narrowed(found: re.Match[str]) -> str:
    return "-" if found.group() in _DASHES else chr(ord(found.group()) - _WIDTH)
