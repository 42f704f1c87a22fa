"""Formats: one file each under this folder, one line each below.

In: a source and a file. Out: `records(source, file)`, a stream of records in the order of the file. Invariant: a reader
holds one record at a time, and what it cannot read is a record with a reason.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from tasks.ingest.formats import delimited, epub, jsonlines, mail, man, mediawiki, parquet, text, warc
from tasks.ingest.formats.text import Reader
from tasks.ingest.records import Record


class Format(NamedTuple):
    """How a format is read, and the suffixes that show it; one without suffixes is known by its content."""

    records: Reader
    suffixes: tuple[str, ...] = ()


FORMATS: dict[str, Format] = {
    "txt": Format(text.plain, ("txt", "text")),
    "lines": Format(text.lines),
    "md": Format(text.markdown, ("md", "markdown")),
    "html": Format(text.html, ("html", "htm", "xhtml")),
    "jsonl": Format(jsonlines.records, ("jsonl", "ndjson")),
    "parquet": Format(parquet.records, ("parquet",)),
    "csv": Format(delimited.comma, ("csv",)),
    "tsv": Format(delimited.tab, ("tsv",)),
    "epub": Format(epub.records, ("epub",)),
    "warc": Format(warc.records, ("warc", "wet")),
    "mediawiki": Format(mediawiki.records),
    "mail": Format(mail.records, ("eml",)),
    "mbox": Format(mail.mailbox, ("mbox",)),
    "man": Format(text.roff, ("man", "roff", "mdoc")),
}
SUFFIXES = {suffix: name for name, format in FORMATS.items() for suffix in format.suffixes}

# What the text of a record may be, besides what cleaning takes out itself (plain, markdown, html).
INNER: dict[str, Callable[[Any, Record], Record]] = {
    "rfc822": mail.inner,
    "roff": man.inner,
    "wikitext": mediawiki.inner,
}
