"""MediaWiki: a document an article of an XML dump, or the wikitext of a row.

In: an export of any version, read as a stream. Out: a record a page; redirects and pages of other namespaces are
quarantined with their reason. Invariants: no page is held beyond the source's bound, and no entity is followed.
"""

import re
from collections.abc import Iterator
from typing import Any
from xml.parsers import expat

from tasks.core.inputs import InputFile, read_chunks
from tasks.ingest.records import Record, rejected

_KEPT = ("title", "ns", "id", "text")
_WIKITEXT = ("", "wikitext")
_MEDIA = re.compile(r"\s*:?\s*(file|image|media|category|文件|檔案|档案|图像|圖像|分类|分類)\s*:", re.IGNORECASE)
_REDIRECT = re.compile(r"\s*#\s*(redirect|重定向)", re.IGNORECASE)
_DROPPED = frozenset({"ref", "references", "table", "gallery", "timeline", "imagemap", "math", "score", "templatestyles"})
_OPENING = re.compile(r"<(?!br|hr)[a-z]", re.IGNORECASE)
_CLOSING = re.compile(r"<(?!/?(?:br|hr))(?:/[a-z]|[a-z][^<>]*/>)", re.IGNORECASE)
_LINK = re.compile(r"\[(?:[a-z]{2,9}:|//)", re.IGNORECASE)
_MAX_UNCLOSED = 100  # the parser tries each of them to the end of the page
_VERBATIM = frozenset({"nowiki", "pre", "syntaxhighlight", "source"})
_EMPHASIS = re.compile(r"'{2,5}")
# What wikis with variants write to show each reader other words: `-{zh-hans:计算机;zh-hant:電腦}-`, `-{H|hidden}-`.
_CONVERSION = re.compile(r"-\{(?:([^|{}]*)\|)?([^{}]*)\}-")
_BRACE, _APART = re.compile("[{}]"), "\0"  # which no XML holds: what is verbatim opens and closes no conversion
_VARIANT = re.compile(r"(zh(?:-[a-z]+)?)\s*:\s*([^;]*)", re.IGNORECASE)
_VARIANTS = ("zh-cn", "zh-hans", "zh-sg", "zh-my", "zh", "zh-hant", "zh-tw", "zh-hk", "zh-mo")
_HIDDEN = frozenset("HT-")
_ITEM = re.compile(r"^- +", re.MULTILINE)
_GAPS = re.compile(r"\n{3,}")


class _Pages:
    """Collects pages from the events of the parser."""

    def __init__(self, max_bytes: int) -> None:
        self.done: list[dict[str, str]] = []
        self._max_chars = max_bytes
        self._page: dict[str, str] | None = None
        self._field: str | None = None
        self._parts: list[str] = []
        self._num_chars = 0

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        if tag == "page":
            self._page = {}
        elif tag == "redirect" and self._page is not None:
            self._page["redirect"] = attributes.get("title", "")
        elif self._page is not None and tag in (*_KEPT, "model") and (tag == "text" or tag not in self._page):
            self._field, self._parts, self._num_chars = tag, [], 0

    def data(self, text: str) -> None:
        if self._field is not None:
            self._num_chars += len(text)
            if self._num_chars <= self._max_chars:
                self._parts.append(text)

    def end(self, tag: str) -> None:
        if tag == "page" and self._page is not None:
            self.done.append(self._page)
            self._page = None
        elif tag == self._field and self._page is not None:
            self._page[tag] = "".join(self._parts)
            if self._num_chars > self._max_chars:
                self._page["too_large"] = f"{tag} has {self._num_chars} characters"
            self._field, self._parts = None, []


def records(source: Any, file: InputFile) -> Iterator[Record]:
    """Yields the pages of a dump; the last revision where there are several."""
    pages, number = _Pages(source.max_document_bytes), 0
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = pages.start, pages.end, pages.data
    try:
        for chunk in read_chunks(file):
            parser.Parse(chunk, False)
            for page in pages.done:
                number += 1
                yield _record(file, number, page)
            pages.done.clear()
        parser.Parse(b"", True)
    except expat.ExpatError as error:
        for page in pages.done:
            number += 1
            yield _record(file, number, page)
        yield rejected(file, number + 1, "broken_xml", str(error))


def _record(file: InputFile, number: int, page: dict[str, str]) -> Record:
    title, text = page.get("title", ""), page.get("text", "")
    if page.get("ns", "0") != "0":
        return rejected(file, number, "other_namespace", f"{page['ns']}: {title}")
    if "redirect" in page or _REDIRECT.match(text):
        return rejected(file, number, "redirect", f"{title} to {page.get('redirect', '')}")
    if "too_large" in page:
        return rejected(file, number, "too_large", page["too_large"])
    if page.get("model", "") not in _WIKITEXT:
        return rejected(file, number, "not_text", page["model"])
    record = Record(file.name, number, text, id=f"{file.name}#{page['id']}" if page.get("id") else None, format="wikitext")
    return _read(record, title)


def inner(source: Any, record: Record) -> Record:
    """Returns the document of a row that holds wikitext."""
    return _read(record, "")


def _read(record: Record, title: str) -> Record:
    from mwparserfromhell.parser import ParserError

    if (unclosed := _unclosed(record.text)) > _MAX_UNCLOSED:
        detail = f"{unclosed} tags or links are never closed"
        return Record(record.file, record.number, id=record.id, reason="broken_wikitext", detail=detail)
    try:
        text = stripped(record.text)
    except (ParserError, RecursionError) as error:
        return Record(record.file, record.number, id=record.id, reason="broken_wikitext", detail=str(error))
    text = f"# {title}\n\n{text}" if title and text.strip() else text
    return Record(record.file, record.number, text, record.id, record.lang, record.licence, "markdown")


def _unclosed(text: str) -> int:
    tags = len(_OPENING.findall(text)) - len(_CLOSING.findall(text))
    return max(tags, len(_LINK.findall(text)) - text.count("]"))


def stripped(wikitext: str) -> str:
    """Returns the prose of wikitext: templates, tables, references, media and categories go, headings become Markdown's."""
    import mwparserfromhell

    text = "".join(_pieces(mwparserfromhell.parse(wikitext, skip_style_tags=True)))
    text = _CONVERSION.sub(_converted, text).replace(_APART, "")
    return _GAPS.sub("\n\n", _ITEM.sub("- ", text)).strip()


def _pieces(code: Any, verbatim: bool = False) -> Iterator[str]:
    """Yields the visible text of nodes in their order (`strip_code` of the library keeps references and captions)."""
    from mwparserfromhell import nodes

    for node in code.nodes:
        match node:
            case nodes.Text():
                text = str(node.value)
                yield _BRACE.sub(rf"{_APART}\g<0>{_APART}", text) if verbatim else _EMPHASIS.sub("", text)
            case nodes.HTMLEntity():
                yield node.normalize()
            case nodes.Heading():
                yield f"{'#' * node.level} {''.join(_pieces(node.title)).strip()}"
            case nodes.Wikilink() if not _MEDIA.match(str(node.title)):
                yield from _pieces(node.text if node.text is not None else node.title)
            case nodes.ExternalLink():
                yield from _pieces(node.title) if node.title is not None else [] if node.brackets else [str(node.url)]
            case nodes.Tag() if (tag := str(node.tag).strip().lower()) not in _DROPPED:
                yield "- " if node.wiki_markup == "*" else ""
                yield from _pieces(node.contents, tag in _VERBATIM) if node.contents is not None else []


def _converted(found: re.Match[str]) -> str:
    """Returns what a reader of simplified Chinese sees, or of what there is else."""
    if _HIDDEN & {flag.strip() for flag in (found[1] or "").split(";")}:
        return ""
    variants = {name.lower(): text.strip() for name, text in _VARIANT.findall(found[2])}
    return next((variants[name] for name in _VARIANTS if name in variants), found[2])
