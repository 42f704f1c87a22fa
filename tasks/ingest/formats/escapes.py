"""Escapes of roff: what stands behind a backslash becomes the character it means.

In: a line of roff and the strings that were defined so far. Out: plain text. Invariant: linear in the length of the line;
a defined string is short, so that no page grows beyond a small multiple of its source.
"""

import re


def _pairs(table: str) -> dict[str, str]:
    words = table.split()
    return dict(zip(words[::2], words[1::2], strict=True))


_MAX_STRING_CHARS = 40
_ESCAPE = re.compile(
    r"\\(?:"
    r"\*(?:\[(?P<name>[^\]\n]{0,100})\]|\((?P<pair>..)|(?P<one>.))"
    r"|\[(?P<long>[^\]\n]{0,100})\]|\((?P<short>..)"
    r"|(?:[fFmMngkVY]|n\+|n-)(?:\[[^\]\n]{0,100}\]|\(..|.)"
    r"|s(?:[-+]?\d{1,2}|\([-+]?\d\d|\[[^\]\n]{0,100}\]|[-+]?'[^'\n]*')"
    r"|[hvwlLDboxXZACNRSBH]'[^'\n]*'"
    r"|\$(?:\[[^\]\n]{0,100}\]|\(..|.)"
    r"|(?P<char>.)|$)"
)
_COMMENT = re.compile(r"(?<!\\)((?:\\\\)*)(?:(?<![ \t])|(?<=\\[ \t]))[ \t]*\\[\"#].*")
_CHARS = {"-": "-", "e": "\\", "\\": "\\", "E": "\\", " ": " ", "0": " ", "~": " ", "t": "\t", "'": "'", "`": "`", ".": "."}
_SPECIAL = _pairs(
    r"""
    em —  en –  hy -  mi -  - -  bu •  aq '  oq ‘  cq ’  dq "  lq “  rq ”  co ©  rg ®  tm ™  de °  ti ~  ha ^
    ga `  rs \  sl /  bv |  or |  ba |  ul _  ru _  br |  sq □  ci ○  at @  +- ±  mu ×  di ÷  <= ≤  >= ≥
    != ≠  == ≡  ~= ≈  -> →  <- ←  sc §  ps ¶  dg †  dd ‡  Fo «  Fc »  fo ‹  fc ›  la ⟨  ra ⟩  lB [  rB ]
    lC {  rC }  sh #  Do $  Eu €  ct ¢  14 ¼  12 ½  *a α  *b β  *g γ  *d δ  *e ε  *l λ  *m μ  *p π  *s σ
    *W Ω  if ∞  ae æ  AE Æ  ss ß  :a ä  :o ö  :u ü  'e é  `e è  ^e ê  ** *  pl +  eq =  S2 ²  pd ∂  Of ª
    Om º  dA ⇓  ua ↑  da ↓
    """
)
PREDEFINED = {"R": "®", "S": "", "Tm": "™", "lq": "“", "rq": "”", "Aq": "'", 'L"': "“", 'R"': "”", "Lq": "“", "Rq": "”"}


def without_comment(line: str) -> str:
    """Returns a line up to its comment."""
    return _COMMENT.sub(r"\1", line) if "\\" in line else line


def plain(line: str, strings: dict[str, str]) -> str:
    """Returns the text of a line."""
    if "\\" not in line:
        return line
    return _ESCAPE.sub(lambda match: _meaning(match, strings), line)


def defined(value: str, strings: dict[str, str]) -> str:
    """Returns what a string stands for, as `plain` puts it in."""
    return plain(value.removeprefix('"'), strings)[:_MAX_STRING_CHARS]


def _meaning(match: re.Match[str], strings: dict[str, str]) -> str:
    name = match["name"] or match["pair"] or match["one"]
    if name is not None:
        return strings.get(name, "")
    special = match["long"] or match["short"]
    if special is not None:
        return _SPECIAL.get(special) or _by_number(special)
    return _CHARS.get(match["char"] or "", "")


def _by_number(name: str) -> str:
    number = re.fullmatch(r"u([0-9A-F]{4,6})", name)
    value = int(number[1], 16) if number else 0
    return chr(value) if 0 < value < 0x110000 and not 0xD800 <= value < 0xE000 else ""
