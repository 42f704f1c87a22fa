"""Data sets: rows of a saved data set or of the hub, read as a stream.

In: a source that names a data set. Out: its rows in order. Invariant: nothing is loaded whole.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from tasks.core.errors import ContractError
from tasks.core.hub import hub_rows
from tasks.core.rows import open_saved
from tasks.ingest.sources import HubSource, SavedSource


def dataset_rows(source: SavedSource | HubSource) -> Iterator[dict[str, Any]]:
    """Yields the rows of a data set.

    Raises:
        TransientError: The hub could not be reached.
        RecipeError: The hub has no such data set, or this machine is told to be offline.
        ContractError: A saved data set cannot be opened, or lacks the split or the text column.
    """
    check = partial(_require_column, source)
    yield from _saved_rows(source, check) if isinstance(source, SavedSource) else hub_rows(source, check)


def _saved_rows(source: SavedSource, check: Callable[[Sequence[str]], None]) -> Iterator[dict[str, Any]]:
    data = open_saved(source.path, source.split)
    check(data.column_names)
    yield from data


def _require_column(source: SavedSource | HubSource, columns: Sequence[str]) -> None:
    if source.text_column not in columns:
        raise ContractError(
            f"source {source.name} has no column {source.text_column!r}, only {', '.join(columns)}; set its text_column"
        )
