"""References: the held-out items that must not stand in the corpus, from conversations and from files the recipe names.

In: `Conversations` and JSON Lines files. Out: reference items. Invariants: a reference that is empty or cannot be read is an
error, since it would find nothing and look like a clean corpus; files are pinned by content.
"""

import json
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Self

from pydantic import Field

from tasks.contracts import Conversations
from tasks.core.artifact import Spec
from tasks.core.errors import ContractError
from tasks.core.inputs import InputFile, check_unchanged, find_files, pin, read_lines
from tasks.core.overlap import ReferenceItem
from tasks.core.site import Site

_MAX_LINE_BYTES = 20_000_000


class ReferenceFiles(Spec):
    """Further texts to keep out of the corpus: JSON Lines, also .gz or .zst, one item a line."""

    name: Annotated[str, Field(description="Name of the set; starts the ids of its items.", pattern=r"^[A-Za-z0-9][\w.-]{0,63}$")]
    paths: Annotated[tuple[str, ...], Field(min_length=1, description="Files, folders and globs.")]
    text_key: Annotated[str, Field(min_length=1, description="Key of the text in each line.")] = "text"
    digest: Annotated[str | None, Field(description="Filled in by the pipeline: what the files' bytes are.")] = None

    def pinned(self, site: Site) -> Self:
        """Fills in what the files' bytes are."""
        return self.model_copy(update={"digest": pin(find_files(self.paths), site)}) if self.digest is None else self

    def identity(self) -> dict[str, Any]:
        """Returns contents and settings; never where files lie."""
        return self.model_dump(mode="json", exclude={"paths"})


def read_references(conversations: Conversations, files: Sequence[ReferenceFiles], site: Site) -> list[ReferenceItem]:
    """Reads every held-out item.

    Raises:
        ContractError: There is no held-out conversation, or a file is empty, cannot be read, or changed since it was pinned.
    """
    items = list(_heldout(conversations))
    if not items:
        raise ContractError(
            f"{conversations.address} has no held-out item, so nothing could be found in the corpus; "
            "name a held-out set under instructions.heldout"
        )
    for one in files:
        found = list(read_items(one))
        check_unchanged(f"reference {one.name}", one.digest, find_files(one.paths), site)
        if not found:
            raise ContractError(f"reference {one.name} holds no item: {', '.join(one.paths)}; mend or remove it in the recipe")
        items += found
    return items


def _heldout(conversations: Conversations) -> Iterator[ReferenceItem]:
    with (conversations.path / "conversations.jsonl").open(encoding="utf-8") as file:
        for row in map(json.loads, file):
            if row["split"] == "test":
                said = tuple(message["content"] for message in row["messages"] if message["role"] != "system")
                yield ReferenceItem(row["id"], row["source"], said, row["messages"][-1]["content"])


def read_items(one: ReferenceFiles) -> Iterator[ReferenceItem]:
    """Yields the items of files.

    Raises:
        ContractError: A line cannot be read.
    """
    for file in find_files(one.paths):
        yield from _items(one, file)


def _items(one: ReferenceFiles, file: InputFile) -> Iterator[ReferenceItem]:
    for line in read_lines(file, _MAX_LINE_BYTES):
        if line.data is None or line.data.strip():
            yield ReferenceItem(f"{one.name}/{file.name}:{line.number}", one.name, (_text(one, file, line.number, line.data),))


def _text(one: ReferenceFiles, file: InputFile, number: int, data: bytes | None) -> str:
    try:
        text = json.loads(data or b"")[one.text_key]
        if isinstance(text, str) and text.strip():
            return text
        why = f"{one.text_key!r} is no text"
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        why = f"{type(error).__name__}: {error}"
    raise ContractError(f"line {number} of {file.name} in reference {one.name} cannot be read ({why}); mend the file or text_key")
