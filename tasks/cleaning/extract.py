"""Extraction: the text of a document in the format it came in.

In: raw text and its format (html, markdown, plain). Out: text with prose, headings, lists, tables and code kept; or the
reason why there is none. Invariant: text inside one paragraph stays one line; code keeps its line breaks.

`documentation` walks the whole page and leaves out only what is navigation by its element, role, class or link density.
`article` is trafilatura, which scores blocks and keeps the likely article: better for news pages with much around them,
but it loses sidebars, headings and short sections of manuals.
"""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from lxml.html import HtmlElement  # type: ignore[import-untyped]

HtmlMode = Literal["documentation", "article"]

_PLAIN = frozenset({"plain", "text", "txt", "markdown", "md"})
_DROPPED = frozenset(
    {"script", "style", "noscript", "template", "iframe", "object", "embed", "svg", "canvas", "head", "title"}
) | {
    *("button", "select", "textarea", "input", "nav", "audio", "video", "map"),
}
_NAVIGATION_ROLES = frozenset({"navigation", "banner", "contentinfo", "search", "menu", "menubar", "directory"})
_NAVIGATION_NAMES = re.compile(
    r"(^|[\s_-])(nav|navbar|navigation|navheader|navfooter|docnav|breadcrumbs?|menu|toc|footer|banner|pagination|pager|related"
    r"|sphinxsidebar|skip-?link|cookie|copyright|linenos?)([\s_-]|$)",
    re.IGNORECASE,
)
_HEADINGS = {f"h{level}": "#" * level for level in range(1, 7)}
_WIDE = frozenset({"p", "div", "ul", "ol", "dl", "table", "blockquote", "section", "article"})
_BLOCKS = _WIDE | {
    *("address", "aside", "body", "caption", "center", "dd", "details", "dialog", "dt", "fieldset", "figcaption", "figure"),
    *("footer", "header", "hgroup", "hr", "html", "legend", "li", "main", "summary", "tbody", "td", "tfoot", "th", "thead", "tr"),
}
_CODE = frozenset({"code", "tt", "kbd", "samp"})
_PAGE_PARTS = ("pre", "table", "ul", "ol", "dl", *_HEADINGS)  # a cell that holds one lays a page out
_PARAGRAPHS = ("p", "div", "blockquote")
_MAX_LINK_DENSITY = 0.8
_MIN_LINKS = 2
_SPACE = re.compile(r"\s+")
_HOLDS_CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
_CONTROLS = {point: " " if chr(point).isspace() else None for point in (*range(9), 11, 12, *range(14, 32), 0xFFFE, 0xFFFF)}


class Unextractable(Exception):
    """A document has no text; its message is the reason that is counted."""


def extract(text: str, format: str, html: HtmlMode) -> str:
    """Returns the text of a document.

    Raises:
        Unextractable: The format is unknown, or nothing is left.
    """
    if format in _PLAIN:
        return text
    if format != "html":
        raise Unextractable("unsupported_format")
    try:
        extracted = _documentation(text) if html == "documentation" else _article(text)
    except (RecursionError, ValueError) as error:
        raise Unextractable("broken_html") from error
    if not extracted.strip():
        raise Unextractable("no_text_in_html")
    return extracted


def _documentation(text: str) -> str:
    body = _parse(text)
    for line_break in body.iter("br"):
        line_break.tail = "\n" + (line_break.tail or "")  # which code keeps, and elsewhere is a space
    _remove_navigation(body)
    writer = _Writer()
    writer.element(body)
    return writer.text()


def _article(text: str) -> str:
    import trafilatura

    body = _parse(text)
    for element in list(body.iter(*_CODE)):
        is_gone = element.getparent() is None  # with the code around it
        if not is_gone and not _inside(element, "pre"):  # else trafilatura puts each name of a command on a line of its own
            _mark_code(element)
    return trafilatura.extract(body, include_comments=False, deduplicate=False, favor_recall=True) or ""


def _parse(text: str) -> "HtmlElement":
    """Returns the tree; what the parser would cut off, nested in more than 256 elements, counts as broken."""
    from lxml import etree, html  # type: ignore[import-untyped]

    # Bytes, since lxml refuses a str with an encoding declaration; surrogates cannot be in a document.
    parser = html.HTMLParser(encoding="utf-8", remove_comments=True, remove_pis=True)
    try:
        body = html.document_fromstring(text.encode("utf-8"), parser=parser)
    except (etree.LxmlError, ValueError) as error:
        raise Unextractable("broken_html") from error
    if any("Excessive depth" in entry.message for entry in parser.error_log):
        raise Unextractable("broken_html")
    _remove_controls(body)
    return body


def _remove_controls(body: "HtmlElement") -> None:
    """Takes control characters out, which lxml reads but refuses where text is set or moved."""
    from ftfy.fixes import remove_terminal_escapes

    for element in body.iter():
        for place in ("text", "tail"):
            text = getattr(element, place)
            if text and _HOLDS_CONTROLS.search(text):
                setattr(element, place, remove_terminal_escapes(text).translate(_CONTROLS))


def _inside(element: "HtmlElement", tag: str) -> bool:
    return next(element.iterancestors(tag), None) is not None


def _mark_code(element: "HtmlElement") -> None:
    content = _SPACE.sub(" ", element.text_content())
    tail = element.tail
    element.clear()
    element.text, element.tail = f"`{content.strip()}`" if content.strip() else "", tail
    element.drop_tag()


def _remove_navigation(body: "HtmlElement") -> None:
    num_chars = len(body.text_content())
    waiting = list(reversed(body))
    while waiting:
        element = waiting.pop()
        if _is_navigation(element, num_chars):
            num_chars -= len(element.text_content())
            element.drop_tree()
        else:
            waiting.extend(reversed(element))


def _is_navigation(element: "HtmlElement", page_chars: int) -> bool:
    if element.tag in _DROPPED or element.get("role") in _NAVIGATION_ROLES:
        return True
    if element.tag in ("html", "body", "main", "article"):
        return False
    if element.tag in ("header", "footer") and not (_inside(element, "article") or _inside(element, "main")):
        return True
    names = f"{element.get('class', '')} {element.get('id', '')}"
    if (element.tag == "form" or _NAVIGATION_NAMES.search(names)) and not _is_most_of_page(element, page_chars):
        return True
    return element.tag in ("ul", "ol", "p", "table", "div") and _is_link_list(element)


def _is_most_of_page(element: "HtmlElement", page_chars: int) -> bool:
    """A page whose wrapper happens to be called `...-menu`, or is a form as in ASP.NET, must not be emptied."""
    return len(element.text_content()) * 2 > page_chars


def _is_link_list(element: "HtmlElement") -> bool:
    links = list(element.iter("a"))
    linked = sum(len(_SPACE.sub("", link.text_content())) for link in links if link.get("href"))
    total = len(_SPACE.sub("", element.text_content()))
    return len(links) >= _MIN_LINKS and linked > _MAX_LINK_DENSITY * total


class _Writer:
    """Turns a tree into blocks of text, in the manner of Markdown."""

    def __init__(self) -> None:
        self._blocks: list[str] = []
        self._line: list[str] = []
        self._prefix = ""
        self._depth = 0

    def text(self) -> str:
        """Returns what was written."""
        self._flush()
        return "\n".join(self._blocks).strip("\n") + "\n"

    def element(self, element: "HtmlElement") -> None:
        """Writes an element with all it holds, and the text after it."""
        tag = element.tag if isinstance(element.tag, str) else ""
        if tag in _HEADINGS:
            self._block(_HEADINGS[tag] + " " + _flat(element), apart=True)
        elif tag == "pre":
            self._pre(element)
        elif tag == "br":
            self._flush()
        elif tag == "tr" and not any(map(_holds_blocks, element)):
            self._block(" | ".join(cell for cell in map(_flat, element.iterchildren("td", "th")) if cell))
        elif tag == "li":
            self._item(element)
        elif tag in _CODE and (content := _flat(element)):
            self._line.append(f"`{content}`")
        elif tag in _BLOCKS:
            self._apart(element, wide=tag in _WIDE)
        else:
            self._children(element)
        if element.tail:
            self._line.append(element.tail)

    def _children(self, element: "HtmlElement") -> None:
        if element.text:
            self._line.append(element.text)
        for child in element:
            self.element(child)

    def _apart(self, element: "HtmlElement", wide: bool) -> None:
        self._flush()
        self._gap(wide)
        self._children(element)
        self._flush()
        self._gap(wide)

    def _item(self, element: "HtmlElement") -> None:
        self._flush()
        self._depth += 1
        self._prefix = "  " * (self._depth - 1) + "- "
        self._children(element)
        self._flush()
        self._prefix = ""
        self._depth -= 1

    def _pre(self, element: "HtmlElement") -> None:
        self._flush()
        content = element.text_content().strip("\n").rstrip()
        if content:
            self._block("```\n" + content + "\n```", apart=True)

    def _block(self, content: str, apart: bool = False) -> None:
        self._flush()
        if content.strip(" #|"):
            self._gap(apart)
            self._blocks.append(content)
            self._gap(apart)

    def _flush(self) -> None:
        line = _SPACE.sub(" ", "".join(self._line)).strip()
        self._line = []
        if line:
            self._blocks.append(self._prefix + line)
            self._prefix = "  " * self._depth

    def _gap(self, wanted: bool) -> None:
        if wanted and not self._depth and self._blocks and self._blocks[-1]:
            self._blocks.append("")


def _holds_blocks(cell: "HtmlElement") -> bool:
    """Says whether a cell holds more than a line; a single paragraph is how some tools write each cell."""
    if next(cell.iter(*_PAGE_PARTS), None) is not None:
        return True
    return sum(next(part.iterdescendants(*_PARAGRAPHS), None) is None for part in cell.iter(*_PARAGRAPHS)) > 1


def _flat(element: "HtmlElement") -> str:
    """Returns the text of an element on one line, with code marked."""
    return _SPACE.sub(" ", "".join(_pieces(element))).strip()


def _pieces(element: Any) -> Iterator[str]:
    if element.text:
        yield element.text
    for child in element:
        if child.tag in _CODE:
            yield f"`{_SPACE.sub(' ', child.text_content()).strip()}`"
        else:
            apart = " " if child.tag in _BLOCKS else ""
            yield from (apart, *_pieces(child), apart)
        if child.tail:
            yield child.tail
