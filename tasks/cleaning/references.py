"""References: the held-out items that must not stand in the corpus, from conversations and from sets the recipe names.

In: `Conversations`, and rows of files or of the hub. Out: reference items. Invariants: a reference that is empty or cannot be
read is an error, since it would find nothing and look like a clean corpus; files are pinned by content.
"""

import json
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

from pydantic import Field

from tasks.contracts import Conversations
from tasks.core.errors import ContractError
from tasks.core.overlap import ReferenceItem
from tasks.core.rows import Refused, RowSet, object_of, read_placed
from tasks.core.site import Site


class ReferenceSet(RowSet):
    """Further texts to keep out of the corpus, such as a benchmark: an item a row."""

    licence: Annotated[str, Field(min_length=1, description="Licence of the set; none of its texts is kept.")] = "not stated"
    text_column: Annotated[str, Field(min_length=1, description="Column of the text, e.g. the question.")] = "text"
    answer_column: Annotated[
        str | None, Field(description="Column of the answer, which is looked for word for word; none: the text has no answer.")
    ] = None

    def identity(self) -> dict[str, Any]:
        """Returns contents and settings; never where files lie."""
        return self.model_dump(mode="json", exclude={"paths"})

    @property
    def columns(self) -> list[str]:
        """The columns that are read."""
        return [self.text_column, *([self.answer_column] if self.answer_column is not None else [])]


def read_references(conversations: Conversations, sets: Sequence[ReferenceSet], site: Site) -> list[ReferenceItem]:
    """Reads every held-out item.

    Raises:
        ContractError: There is no held-out conversation, or a set is empty, cannot be read, or changed since it was pinned.
    """
    items = list(_heldout(conversations))
    if not items:
        raise ContractError(
            f"{conversations.address} has no held-out item, so nothing could be found in the corpus; "
            "name a held-out set under instructions.heldout"
        )
    for one in sets:
        found = list(read_items(one))
        one.require_unchanged(site)
        if not found:
            raise ContractError(f"reference {one.name} holds no item: {one.place}; mend or remove it in the recipe")
        items += found
    return items


def _heldout(conversations: Conversations) -> Iterator[ReferenceItem]:
    with (conversations.path / "conversations.jsonl").open(encoding="utf-8") as file:
        for row in map(json.loads, file):
            if row["split"] == "test":
                said = tuple(message["content"] for message in row["messages"] if message["role"] != "system")
                yield ReferenceItem(row["id"], row["source"], said, row["messages"][-1]["content"])


def read_items(one: ReferenceSet) -> Iterator[ReferenceItem]:
    """Yields the items of a set.

    Raises:
        ContractError: A row cannot be read.
    """
    for place, value in read_placed(one, one.columns):
        try:
            texts = [_text(object_of(value, "no object"), column) for column in one.columns]
        except Refused as reason:
            raise ContractError(
                f"{place} of reference {one.name} cannot be read: {reason}; mend it, or paths, format and columns in the recipe"
            ) from None
        yield ReferenceItem(f"{one.name}/{place}", one.name, tuple(texts), None if one.answer_column is None else texts[-1])


def _text(row: dict[str, Any], column: str) -> str:
    text = row.get(column)
    if isinstance(text, str) and text.strip():
        return text
    raise Refused(f"its {column!r} is no text")
