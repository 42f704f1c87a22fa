"""Man pages: roff with the macros man or mdoc becomes text with Markdown's headings.

In: the source of a page, as a file or the text of a row whose format is `roff`. Out: its prose, lists, examples and tables
in their order. Invariants: nothing that a page says is executed or included, and the result depends on the page alone
(groff's depends on its version, and on whether the machine has it). Layout is dropped: this is no typesetter.
"""

import re
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from tasks.ingest.formats.escapes import PREDEFINED, defined, plain, without_comment
from tasks.ingest.formats.mdoc import INLINE, inline
from tasks.ingest.records import Record

_REQUEST = re.compile(r"[.'][ \t]*([^\s\\]*)[ \t]*(.*)$", re.DOTALL)
_ARGUMENT = re.compile(r'"((?:[^"]|"")*)"?|((?:\\.|[^ \t])+)')
_ALIAS = re.compile(r"(?:[.']\\[\"#].*\n)*[.']so[ \t]+(\S+)\s*$")
_CONDITION = re.compile(r"(!?)[ \t]*(\w'[^']*'|\S+?)(?=\\\{|[ \t]|$)[ \t]*(.*)$", re.DOTALL)
_SPACES = re.compile(r" {2,}")
_GAPS = re.compile(r"\n{3,}")
_BULLETS = frozenset("•o*-·")
_FIRST_WIDE = "\u2e80"
_MAX_CONDITIONS = 100

_BREAKS = frozenset({"PP", "P", "LP", "Pp", "sp", "HP", "RS", "RE", "bp", "YS", "El", "ce"})
_LINES = frozenset({"br", "ti", "in"})
_NO_FILL = frozenset({"nf", "EX", "Vb", "CS", "DS", "Bd"})
_FILL = frozenset({"fi", "EE", "Ve", "CE", "DE", "Ed"})
_SPACED = frozenset({"B", "I", "SM", "SB", "R", "UR", "MT", "URL", "MTO", "Dl", "D1"})
_LINK_ENDS = frozenset({"UE", "ME"})
_JOINED = frozenset({"BR", "BI", "IB", "IR", "RB", "RI"})
_HEADINGS = {"SH": "## ", "Sh": "## ", "SS": "### ", "Ss": "### "}


class BrokenRoffError(ValueError):
    """A page nests deeper than any that people write."""


def inner(source: Any, record: Record) -> Record:
    """Returns the document of a page; a page that only names another one, or nests without end, is quarantined."""
    if alias := _ALIAS.match(record.text):
        return Record(record.file, record.number, id=record.id, reason="alias", detail=alias[1])
    try:
        text = page_text(record.text)
    except BrokenRoffError as error:
        return Record(record.file, record.number, id=record.id, reason="broken_roff", detail=str(error))
    return Record(record.file, record.number, text, record.id, record.lang, record.licence, "markdown")


def page_text(source: str) -> str:
    """Returns the text of a man page.

    Raises:
        BrokenRoffError: A line holds too many conditions, one inside the other.
    """
    page = _Page()
    for line in source.replace("\r\n", "\n").replace("\\\n", "").split("\n"):
        page.line(line)
    return page.text()


def arguments(rest: str) -> list[str]:
    """Returns the arguments of a macro: split at spaces, or quoted."""
    return [match[2] or (match[1] or "").replace('""', '"') for match in _ARGUMENT.finditer(rest)]


class _Page:
    """Reads line after line; what is written waits in a paragraph until it ends."""

    def __init__(self) -> None:
        self._done: list[str] = []
        self._paragraph: list[str] = []
        self._strings = dict(PREDEFINED)
        self._macros: set[str] = set()
        self._name = ""
        self._fill = True
        self._skipped_until: str | None = None
        self._skipped_depth = 0
        self._taken = False
        self._conditions = 0  # that the line being read is the branch of
        self._table: list[str] | None = None
        self._next: Callable[[str], None] | None = None  # what becomes of the next line: a heading, the tag of an item

    def text(self) -> str:
        """Returns what was written."""
        self._break()
        return _GAPS.sub("\n\n", "\n".join(self._done)).strip("\n")

    def line(self, line: str) -> None:
        """Reads a line."""
        if self._skipped_depth:
            self._skipped_depth = max(0, self._skipped_depth + line.count("\\{") - line.count("\\}"))
        elif self._skipped_until is not None:
            if re.fullmatch(rf"[.'][ \t]*{re.escape(self._skipped_until)}\s*", line):
                self._skipped_until = None
        elif match := _REQUEST.match(line := without_comment(line).replace("\\}", "")):
            self._request(match[1], match[2].strip())
        elif self._table is not None:
            self._table.append(plain(line, self._strings))
        else:
            self._write(plain(line, self._strings))

    def _request(self, name: str, rest: str) -> None:
        if name in ("de", "de1", "am", "ig"):
            names = rest.split()
            self._macros.update(names[:1] if name != "ig" else ())
            self._skipped_until = (names[1:] if name != "ig" else names)[0] if len(names) > (name != "ig") else "."
        elif name == "ds":
            key, _, value = rest.partition(" ")
            self._strings[key] = defined(value.lstrip(), self._strings)
        elif name in ("if", "ie", "el"):
            self._condition(name, rest)
        elif name == "TS":
            self._break()
            self._table = []
        elif name == "TE":
            self._rows()
        elif name == "EQ":
            self._skipped_until = "EN"
        elif self._table is None:
            self._macro(name, rest)

    def _condition(self, name: str, rest: str) -> None:
        """Takes the branch of a terminal (`n`); what else a page asks for is not so."""
        if name == "el":
            taken, rest = not self._taken, rest
        else:
            match = _CONDITION.match(rest)
            taken = match is not None and (match[1], match[2]) in (("", "n"), ("!", "t"))
            self._taken, rest = taken, match[3] if match else ""
        if not taken:
            self._skipped_depth = max(0, rest.count("\\{") - rest.count("\\}"))
        elif content := rest.replace("\\{", "").strip().removesuffix("\\"):
            self._branch(content)

    def _branch(self, line: str) -> None:
        self._conditions += 1
        if self._conditions > _MAX_CONDITIONS:
            raise BrokenRoffError(f"more than {_MAX_CONDITIONS} conditions in one line")
        self.line(line)
        self._conditions -= 1

    def _macro(self, name: str, rest: str) -> None:
        words = [plain(word, self._strings) for word in arguments(rest)]
        if name in ("TH", "Dt"):
            self._title(words)
        elif name in _HEADINGS:
            self._expect(words, lambda text: self._heading(_HEADINGS[name] + text))
        elif name in ("TP", "TQ"):
            self._break()
            self._next = self._tag
        elif name in ("IP", "It"):
            self._break()
            self._tag(inline(words, self._name) if name == "It" else "".join(words[:1]))
        elif name in _BREAKS or name in _NO_FILL or name in _FILL:
            self._break(apart=name in _BREAKS)
            self._fill = name in _FILL or (name in _BREAKS and self._fill)
        elif name in _LINES:
            self._break(apart=False)
        else:
            self._words(name, words)

    def _words(self, name: str, words: list[str]) -> None:
        if name == "Nm" and words and not self._name:
            self._name = words[0]
        if name in INLINE:
            self._write(inline([name, *words], self._name))
        elif name in _JOINED:
            self._write("".join(words))
        elif name == "OP":
            self._write(f"[{' '.join(words)}]")
        elif name == "SY":
            self._break()
            self._write(" ".join(words))
        elif name == "MR" and words:
            self._write("".join([words[0], *(f"({section})" for section in words[1:2]), *words[2:]]))
        elif name in _LINK_ENDS and words:
            self._behind("".join(words))
        elif (name in _SPACED or name in self._macros) and words:
            self._write(" ".join(words))

    def _expect(self, words: list[str], then: Callable[[str], None]) -> None:
        if words:
            then(" ".join(words))
        else:
            self._next = then

    def _title(self, words: list[str]) -> None:
        if words and not self._done:
            self._heading(f"# {words[0].lower()}({words[1]})" if len(words) > 1 else f"# {words[0].lower()}")

    def _heading(self, text: str) -> None:
        self._break()
        self._fill = True
        if text.strip(" #"):
            self._done += [text.rstrip(), ""]

    def _tag(self, text: str) -> None:
        if text.strip() in _BULLETS:
            self._paragraph.append("-")
        elif text.strip():
            self._done.append(text.strip())

    def _write(self, text: str) -> None:
        if then := self._next:
            self._next = None
            then(text)
        elif not text.strip():
            self._break()
        elif self._fill and not text.startswith(" "):
            self._paragraph.append(_SPACES.sub(" ", text.strip()))
        else:
            self._break(apart=False)
            self._done.append(text.rstrip())

    def _behind(self, text: str) -> None:
        """Writes punctuation, with no space before it."""
        if self._paragraph:
            self._paragraph[-1] += text
        else:
            self._write(text)

    def _break(self, apart: bool = True) -> None:
        self._next = None
        if self._paragraph:
            self._done.append(_filled(self._paragraph))
            self._paragraph = []
        if apart and self._done and self._done[-1]:
            self._done.append("")

    def _rows(self) -> None:
        """Writes a table: the lines after its format, which ends with a full stop."""
        lines, self._table = self._table or [], None
        formats = next((number for number, line in enumerate(lines, 1) if line.rstrip().endswith(".")), 0)
        for line in lines[formats:]:
            cells = [cell.strip() for cell in line.replace("T{", "").replace("T}", "").split("\t")]
            if row := " | ".join(cell for cell in cells if cell.strip("_=")):
                self._done.append(row)
        self._break()


def _filled(lines: list[str]) -> str:
    """Returns lines as one paragraph; between two wide characters there is no space."""
    parts = [lines[0]]
    for before, line in pairwise(lines):
        wide = before[-1:] >= _FIRST_WIDE and line[:1] >= _FIRST_WIDE
        parts.append(line if wide else f" {line}")
    return "".join(parts)
