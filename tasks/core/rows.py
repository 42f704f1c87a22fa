"""Rows: the JSON values and table rows of a file, one at a time, whatever state the file is in.

In: a file and how it is written. Out: JSON values, or rows as dicts. Invariants: what cannot be read stands in its place as a
`Refused` whose text is the reason; damage costs only what comes after it; no line is held that is longer than the bound.
"""

import csv
import itertools
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from tasks.core.artifact import Spec
from tasks.core.delimited import read_delimited, row_error
from tasks.core.errors import ContractError
from tasks.core.hub import HubRows, hub_rows
from tasks.core.inputs import InputFile, Line, check_unchanged, find_files, open_binary, pin, read_lines, read_whole
from tasks.core.site import Site
from tasks.core.text import text_safe

Encoding = Literal["utf-8", "gb18030", "big5", "cp1252"]
RowFormat = Literal["auto", "csv", "tsv", "jsonl", "json", "parquet", "conll", "saved"]

_SUFFIXES = {
    "csv": "csv",
    "tsv": "tsv",
    "jsonl": "jsonl",
    "ndjson": "jsonl",
    "json": "json",
    "parquet": "parquet",
    "conll": "conll",
}
_MAX_FILE_BYTES = 2_000_000_000
_MAX_LINE_BYTES = 20_000_000
_BATCH_ROWS = 100
_BETWEEN_DOCUMENTS = b"-DOCSTART-"


class Refused(Exception):
    """A row or item is not taken; its text is the reason that is counted."""


def object_of(row: Any, otherwise: str) -> dict[str, Any]:
    """Returns a row that is a JSON object.

    Raises:
        Refused: It was refused when it was read, or is none: for the reason `otherwise`.
    """
    if isinstance(row, Refused):
        raise row
    if not isinstance(row, dict):
        raise Refused(otherwise)
    return row


class RowSet(Spec):
    """Rows under one name: files and how they are written, or a split of a data set of the hub."""

    name: Annotated[str, Field(description="Name of the set; starts the ids of its items.", pattern=r"^[A-Za-z0-9][\w.-]{0,63}$")]
    paths: Annotated[tuple[str, ...], Field(description="Files, folders and globs, also .gz or .zst; saved: one folder.")] = ()
    hub: Annotated[HubRows | None, Field(description="Data set of the hub, in the place of paths; none: local files.")] = None
    licence: Annotated[str, Field(min_length=1, description="Licence of the set.")]
    format: Annotated[
        RowFormat,
        Field(
            description="Format of the files; auto: by suffix; conll: a word and its tags a line, columns called 1, 2, 3, blank "
            "lines between sentences; saved: a folder that `Dataset.save_to_disk` wrote."
        ),
    ] = "auto"
    has_header: Annotated[
        bool, Field(description="csv, tsv: the first row names the columns; off: they are called by their place, 1, 2, 3.")
    ] = True
    has_quotes: Annotated[
        bool, Field(description="csv, tsv: fields may be quoted (RFC 4180); off: quotation marks are text like any other.")
    ] = True
    encoding: Annotated[Encoding, Field(description="csv, tsv, conll: encoding of the text.")] = "utf-8"
    saved_split: Annotated[str, Field(description="saved: split to read, where the folder holds several.")] = "train"
    digest: Annotated[str | None, Field(description="Filled in by the pipeline: what the files' bytes are.")] = None

    @model_validator(mode="after")
    def _lies_somewhere(self) -> Self:
        if bool(self.paths) == (self.hub is not None):
            raise ValueError("name files (paths), or a data set of the hub (hub): one of the two")
        return self

    @model_validator(mode="after")
    def _saved_is_one_folder(self) -> Self:
        if self.format == "saved" and len(self.paths) != 1:
            raise ValueError(f"a saved data set is one folder, not {len(self.paths)} paths; make each one a set of its own")
        return self

    @property
    def place(self) -> str:
        """Where it lies, in words."""
        return ", ".join(self.paths) if self.hub is None else f"{self.hub.dataset} of the hub"

    def pinned(self, site: Site) -> Self:
        """Fills in what the files' bytes are; a commit pins a data set of the hub."""
        if self.hub is not None:
            self.hub.pinned(site)
            return self
        if self.digest is not None:
            return self
        return self.model_copy(update={"digest": pin(find_files(self.paths), site)})

    def require_unchanged(self, site: Site) -> None:
        """Raises ContractError where the files are not those that were pinned."""
        if self.hub is None:
            check_unchanged(f"set {self.name}", self.digest, find_files(self.paths), site)


class OfSets(Spec):
    """Sets of rows in several parts, each under a name of its own."""

    parts: ClassVar[tuple[str, ...]]  # fields that hold sets

    @property
    def every_set(self) -> list[Any]:
        """The sets of all parts."""
        return [one for part in self.parts for one in getattr(self, part)]

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        twice = [name for name, count in Counter(one.name for one in self.every_set).items() if count > 1]
        if twice:
            raise ValueError(f"two sets are called {twice[0]!r}; give each its own name")
        return self

    def pinned(self, site: Site) -> Self:
        """Fills in what the files' bytes are."""
        return self.model_copy(update={part: tuple(one.pinned(site) for one in getattr(self, part)) for part in self.parts})

    def identity(self) -> dict[str, Any]:
        """Returns contents, names and settings; never where files lie."""
        return self.model_dump(mode="json", exclude={part: {"__all__": {"paths"}} for part in self.parts})

    def require_unchanged(self, site: Site) -> None:
        """Raises ContractError where files are not those that were pinned."""
        for one in self.every_set:
            one.require_unchanged(site)


def read_set(rows: RowSet, needed: Sequence[str]) -> Iterator[Any]:
    """Yields the rows of a set, files in the order of their names.

    Args and errors: those of `read_placed`.
    """
    return (value for _, value in read_placed(rows, needed))


def read_placed(rows: RowSet, needed: Sequence[str]) -> Iterator[tuple[str, Any]]:
    """Yields the rows of a set, each with where it stands: its number, after the file's name where there are files.

    Args:
        needed: Columns of tables that are read, none: all of them; JSON values come whole.

    Raises:
        ContractError: A table lacks a column that is needed, or a saved data set cannot be opened.
        RecipeError, TransientError: The hub has no such split, or cannot be asked.
    """
    if rows.hub is not None:
        yield from _numbered("", hub_rows(rows.hub, partial(require_columns, rows.hub.dataset, needed)))
    elif rows.format == "saved":
        yield from _numbered("", _saved(rows, needed))
    else:
        for file in find_files(rows.paths):
            yield from _numbered(f"{file.name}:", _file(file, rows, needed))


def _numbered(before: str, values: Iterator[Any]) -> Iterator[tuple[str, Any]]:
    return ((f"{before}{number}", value) for number, value in enumerate(values, 1))


def _file(file: InputFile, rows: RowSet, needed: Sequence[str]) -> Iterator[Any]:
    import pyarrow as pa

    try:
        match _SUFFIXES.get(file.format) if rows.format == "auto" else rows.format:
            case "csv":
                yield from _delimited(file, rows, ",", needed)
            case "tsv":
                yield from _delimited(file, rows, "\t", needed)
            case "conll":
                yield from _conll(file, rows, needed)
            case "parquet":
                yield from _parquet(file, needed)
            case "json" | "jsonl" as kind:
                has_lines = kind == "jsonl" or (rows.format == "auto" and _begins_with_object(file))
                yield from read_objects(file, is_array=not has_lines)
            case _:
                yield Refused("unknown_format")
    except (OSError, EOFError, pa.ArrowException):
        yield Refused("unreadable")


def read_objects(file: InputFile, *, is_array: bool) -> Iterator[Any]:
    """Yields the values of a JSON array, or of the lines of a file."""
    try:
        if is_array:
            data = read_whole(file, _MAX_FILE_BYTES)
            yield from _array(data) if data is not None else [Refused("too_large")]
        else:
            for line in read_lines(file, _MAX_LINE_BYTES):
                if line.data is None:
                    yield Refused("too_large")
                elif line.data.strip():
                    yield _parsed(line.data)
    except OSError:
        yield Refused("unreadable")


def _begins_with_object(file: InputFile) -> bool:
    """Says whether the first line is an object by itself: one value or JSON Lines, by whatever suffix, and no array."""
    lines = (line.data for line in read_lines(file, _MAX_LINE_BYTES))
    first = next((data for data in lines if data is None or data.strip()), None)
    return first is not None and isinstance(_parsed(first), dict)


def _array(data: bytes) -> list[Any]:
    value = _parsed(data)
    return value if isinstance(value, list) else [value]


def _parsed(data: bytes) -> Any:
    try:
        return json.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError:
        return Refused("undecodable")
    except (ValueError, RecursionError):
        return Refused("broken_json")


def _delimited(file: InputFile, of: RowSet, delimiter: str, needed: Sequence[str]) -> Iterator[Any]:
    rows = read_delimited(file, delimiter, _MAX_LINE_BYTES, has_quotes=of.has_quotes, encoding=of.encoding)
    first = next(rows, None)
    if first is None:
        return
    if isinstance(first, csv.Error):
        yield Refused(row_error(first, 0) or "broken_csv")
        return
    is_readable = row_error(first, len(first)) != "undecodable" or (bool(needed) and set(needed) <= set(first))
    if of.has_header and not is_readable:
        raise ContractError(
            f"the header of {text_safe(file.name)} is not {of.encoding}; set the encoding of {of.name} (gb18030, big5, cp1252), "
            "or save the file as UTF-8"
        )
    names = first if of.has_header else [str(place) for place in range(1, len(first) + 1)]
    require_columns(file.name, needed, names)
    for row in rows if of.has_header else itertools.chain([first], rows):
        reason = row_error(row, len(names))
        yield Refused(str(reason)) if reason or isinstance(row, csv.Error) else dict(zip(names, row, strict=True))


def _conll(file: InputFile, of: RowSet, needed: Sequence[str]) -> Iterator[Any]:
    """Yields a dict of lists a sentence."""
    known: list[str] = []
    for is_between, group in itertools.groupby(read_lines(file, _MAX_LINE_BYTES), _is_between):
        if is_between:
            continue
        sentence = _sentence(list(group), of.encoding)
        if isinstance(sentence, dict) and not known:
            known = list(sentence)
            require_columns(file.name, needed, known)
        yield Refused("broken_conll") if isinstance(sentence, dict) and list(sentence) != known else sentence


def _is_between(line: Line) -> bool:
    """Says whether a line stands between sentences: a blank one, or what CoNLL-2003 writes between documents."""
    if line.data is None:
        return False
    words = line.data.removeprefix(b"\xef\xbb\xbf").split()
    return not words or words[0] == _BETWEEN_DOCUMENTS


def _sentence(lines: Sequence[Line], encoding: str) -> dict[str, list[str]] | Refused:
    if any(line.data is None for line in lines):
        return Refused("too_large")
    try:
        texts = [(line.data or b"").decode(encoding).strip("\ufeff\r") for line in lines]
    except UnicodeDecodeError:
        return Refused("undecodable")
    fields = [text.split("\t") if "\t" in text else text.split() for text in texts]
    if not all(len(row) == len(fields[0]) > 0 for row in fields):
        return Refused("broken_conll")
    return {str(place): list(column) for place, column in enumerate(zip(*fields, strict=True), 1)}


def _parquet(file: InputFile, needed: Sequence[str]) -> Iterator[Any]:
    import pyarrow.parquet as pq

    with open_binary(file) as stream, pq.ParquetFile(stream) as table:
        require_columns(file.name, needed, table.schema_arrow.names)
        for batch in table.iter_batches(batch_size=_BATCH_ROWS, columns=list(needed) or None):
            for number in range(batch.num_rows):
                yield _row(batch.slice(number, 1))


def _row(batch: Any) -> Any:
    try:
        return batch.to_pylist()[0]
    except UnicodeDecodeError:
        return Refused("undecodable")


def _saved(rows: RowSet, needed: Sequence[str]) -> Iterator[Any]:
    data = open_saved(rows.paths[0], rows.saved_split)
    require_columns(rows.paths[0], needed, data.column_names)
    yield from data.select_columns(list(needed)) if needed else data


def open_saved(path: str, split: str) -> Any:
    """Returns the data set that `save_to_disk` wrote, or its split.

    Raises:
        ContractError: It cannot be opened, or has no such split.
    """
    from datasets import DatasetDict, load_from_disk

    try:
        data = load_from_disk(path, keep_in_memory=False)
    except (OSError, ValueError) as error:
        raise ContractError(f"{path} cannot be opened as a saved data set: {error}") from error
    data = data.with_format(None)  # as NumPy or torch would have it no value is plain
    if not isinstance(data, DatasetDict):
        return data
    if split not in data:
        raise ContractError(f"{path} has no split {split!r}, only {', '.join(data)}")
    return data[split]


def require_columns(where: str, needed: Sequence[str], columns: Sequence[str]) -> None:
    """Refuses a table that has not each of the columns that are read, once.

    Raises:
        ContractError: With the columns there are.
    """
    missing = [name for name in needed if name not in columns]
    if missing:
        raise ContractError(
            text_safe(
                f"{where} has no column {', '.join(map(repr, missing))}, only {', '.join(columns)}; "
                "name its columns in the recipe (without a header they are 1, 2, 3)"
            )
        )
    twice = [name for name in needed if columns.count(name) > 1]
    if twice:
        raise ContractError(text_safe(f"{where} has two columns called {twice[0]!r}; give each its own name"))
