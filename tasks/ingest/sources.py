"""Sources: what the recipe says of raw text, pinned to content or to a commit.

In: names, paths, hub names. Out: specs whose identity holds contents and names, never where files lie. Invariant: a
data set of the hub without a commit is refused.
"""

from collections import Counter
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from tasks.core.artifact import AS_JSON, Spec
from tasks.core.hub import HubRows
from tasks.core.inputs import InputFile, find_files, pin
from tasks.core.site import Site

Format = Literal[
    "auto", "txt", "lines", "md", "html", "jsonl", "parquet", "csv", "tsv", "epub", "warc", "mediawiki", "mail", "mbox", "man"
]
_ENCODED = ("txt", "lines", "md", "html", "man", "csv", "tsv")
Header = Literal["subject", "from", "to", "date"]


class MailSpec(Spec):
    """How messages become text."""

    quoting: Annotated[
        Literal["keep", "drop"], Field(description="Whether lines quoted from other messages stay; lossy, so it must be said.")
    ]
    headers: Annotated[
        tuple[Header, ...], Field(description="Headers put before the text, in this order; the rest is left out.")
    ] = ("subject",)


class _Source(Spec):
    """What all sources have in common."""

    name: Annotated[
        str, Field(description="Name of the source; starts the ids of its documents.", pattern=r"^[A-Za-z0-9][\w.-]{0,63}$")
    ]
    licence: Annotated[str, Field(min_length=1, description="Licence of the source; a record's own `licence` goes before it.")]
    lang: Annotated[str | None, Field(description="Language hint for records that state none.")] = None
    text_column: Annotated[str, Field(min_length=1, description="Column or key that holds the text of a record.")] = "text"
    max_document_bytes: Annotated[
        int, Field(ge=1, le=2_000_000_000, description="Longest record in bytes; longer ones are quarantined.")
    ] = 10_000_000
    restore_breaks: Annotated[
        bool, Field(description="Put back line breaks that a converter lost (socialism.Humans lived); not for code or manuals.")
    ] = False
    mail: Annotated[
        MailSpec | None, Field(description="How messages are read (mail, mbox, rfc822 rows); none: they are quarantined.")
    ] = None
    digest: Annotated[str | None, Field(description="Filled in by the pipeline: what the files' bytes are.")] = None


class FilesSource(_Source):
    """Files of any known format under paths, folders, globs and URLs of stores."""

    kind: Literal["files"]
    paths: Annotated[tuple[str, ...], Field(min_length=1, description="Files, folders, globs, URLs (s3://, hf://, ...).")]
    format: Annotated[Format, Field(description="Format of the files; auto: by suffix, else by content.")] = "auto"
    encoding: Annotated[
        Literal["auto", "gb18030", "big5", "cp1252"],
        Field(
            description="Encoding of text files that are not UTF-8 (txt, lines, md, html, man), and of csv and tsv; gb18030: "
            "also GBK and GB 2312; auto: text is read as what it surely is, csv and tsv as UTF-8."
        ),
    ] = "auto"
    passage_chars: Annotated[
        int | None, Field(ge=100, description="Text files, such as books, are cut at blank lines into documents this long.")
    ] = None

    @model_validator(mode="after")
    def _says_how_mail_is_read(self) -> Self:
        if self.format in ("mail", "mbox") and self.mail is None:
            raise ValueError('format is mail: set mail = {quoting = "keep"} or "drop"')
        return self

    @model_validator(mode="after")
    def _decodes_only_text(self) -> Self:
        if self.encoding != "auto" and self.format not in ("auto", *_ENCODED):
            raise ValueError(f"encoding is of {', '.join(_ENCODED)} files, and format is {self.format}; remove one")
        return self

    @model_validator(mode="after")
    def _cuts_only_text_files(self) -> Self:
        if self.passage_chars is not None and self.format not in ("auto", "txt"):
            raise ValueError(f"passage_chars = {self.passage_chars} cuts txt files only, and format is {self.format}; remove one")
        return self


class SavedSource(_Source):
    """A Hugging Face data set saved to a local folder with `save_to_disk`."""

    kind: Literal["saved"]
    path: Annotated[str, Field(description="Folder that `Dataset.save_to_disk` wrote.")]
    split: Annotated[str, Field(description="Split to read, where the folder holds several.")] = "train"


class HubSource(_Source, HubRows):
    """A data set of the Hugging Face hub, pinned to a commit."""

    kind: Literal["hub"]


SourceSpec = Annotated[FilesSource | SavedSource | HubSource, Field(discriminator="kind")]


class IngestSpec(Spec):
    """The sources of raw text."""

    sources: Annotated[
        tuple[Annotated[SourceSpec, AS_JSON], ...], Field(min_length=1, description="Sources, read in this order.")
    ]

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        twice = [name for name, count in Counter(source.name for source in self.sources).items() if count > 1]
        if twice:
            raise ValueError(f"two sources are called {twice[0]!r}; give each its own name")
        return self

    def pinned(self, site: Site) -> Self:
        """Fills in what the files' bytes are, and insists on a commit for a data set of the hub."""
        return self.model_copy(update={"sources": tuple(_pin(source, site) for source in self.sources)})

    def identity(self) -> dict[str, Any]:
        """Returns contents, names and settings; never where files lie."""
        return {"sources": [source.model_dump(mode="json", exclude={"path", "paths"}) for source in self.sources]}


def _pin(source: Any, site: Site) -> Any:
    if isinstance(source, HubSource):
        return source.pinned(site)
    return source.model_copy(update={"digest": pin(source_files(source), site)}) if source.digest is None else source


def source_files(source: FilesSource | SavedSource) -> list[InputFile]:
    """Returns the files of a source.

    Raises:
        RecipeError: A path matches nothing.
    """
    return find_files(source.paths if isinstance(source, FilesSource) else [source.path])
