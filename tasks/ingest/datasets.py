"""Data sets: rows of a saved data set or of the hub, read as a stream.

In: a source that names a data set. Out: its rows in order. Invariant: nothing is loaded whole; the hub's cache lies in the
state folder.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tasks.core.errors import ContractError, RecipeError, TransientError
from tasks.core.rows import open_saved
from tasks.ingest.sources import HubSource, SavedSource


def dataset_rows(source: SavedSource | HubSource, cache: Path) -> Iterator[dict[str, Any]]:
    """Yields the rows of a data set.

    Raises:
        TransientError: The hub could not be reached.
        RecipeError: The hub has no such data set.
        ContractError: A saved data set cannot be opened, or lacks the split or the text column.
    """
    yield from _saved_rows(source) if isinstance(source, SavedSource) else _hub_rows(source, cache)


def _saved_rows(source: SavedSource) -> Iterator[dict[str, Any]]:
    data = open_saved(source.path, source.split)
    _require_column(source, data.column_names)
    yield from data


def _hub_rows(source: HubSource, cache: Path) -> Iterator[dict[str, Any]]:
    from datasets import load_dataset
    from datasets.exceptions import DatasetNotFoundError

    try:
        data = load_dataset(
            source.dataset,
            source.config,
            split=source.split,
            revision=source.revision,
            streaming=True,
            cache_dir=str(cache),
        )
        if data.column_names is not None:
            _require_column(source, data.column_names)
        yield from data
    except (DatasetNotFoundError, ValueError) as error:
        raise RecipeError(f"source {source.name}: there is no such data set, configuration or split: {error}") from error
    except OSError as error:
        raise TransientError(f"source {source.name}: {source.dataset} could not be read from the hub: {error}") from error


def _require_column(source: SavedSource | HubSource, columns: list[str]) -> None:
    if source.text_column not in columns:
        raise ContractError(
            f"source {source.name} has no column {source.text_column!r}, only {', '.join(columns)}; set its text_column"
        )
