"""The Hugging Face hub: data sets read as a stream, folders of models.

In: a name and a commit. Out: rows as dicts, or a folder. Invariant: where the hub cannot be asked, the error
says the remedy.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from tasks.core.artifact import Spec
from tasks.core.errors import RecipeError, TransientError
from tasks.core.text import one_line

DatasetName = Annotated[str, Field(pattern=r"^[\w.-]+(/[\w.-]+)?$", description="Name on the hub, e.g. nyu-mll/glue.")]


class HubRows(Spec):
    """A split of a data set of the Hugging Face hub, pinned to a commit."""

    dataset: DatasetName
    config: Annotated[str | None, Field(description="Configuration of the data set.")] = None
    split: Annotated[str, Field(min_length=1, description="Split to read.")] = "train"
    revision: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$", description="Commit (40 hexadecimal digits): a branch may move.")]


def hub_rows(hub: HubRows, check: Callable[[Sequence[str]], None]) -> Iterator[Any]:
    """Yields the rows of a split of the hub, as a stream.

    Args:
        check: Refuses columns that will not do.

    Raises:
        RecipeError: There is no such data set or split, or this machine is told to be offline.
        TransientError: The hub could not be reached.
    """
    from datasets import load_dataset
    from datasets.exceptions import DatasetNotFoundError

    remedy = f"save it where there is a network (save_to_disk, or its parquet files), and name the folder for {hub.dataset}"
    try:
        data = load_dataset(hub.dataset, hub.config, split=hub.split, revision=hub.revision, streaming=True)
        if data.column_names is not None:
            check(data.column_names)
        yield from data
    except (DatasetNotFoundError, OSError, ValueError) as error:
        if is_offline():
            raise RecipeError(f"HF_HUB_OFFLINE is set, and {hub.dataset} lies on the hub: {remedy}") from error
        if isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
            raise TransientError(
                f"{hub.dataset} could not be read from the hub ({one_line(str(error), 120)}): {remedy}"
            ) from error
        raise RecipeError(f"the hub has no {hub.dataset}, {hub.config}, {hub.split}: {one_line(str(error), 200)}") from error


def hub_model(name: str, revision: str, suffixes: Sequence[str], elsewhere: str) -> Path:
    """Returns the folder of a model of the hub, fetched where it is not in the cache.

    Args:
        suffixes: Endings of the files that are wanted.
        elsewhere: What to set in the recipe where the hub cannot be asked.

    Raises:
        RecipeError: The hub has no such model or commit, or none for this account; or this machine is told to be offline, and
            the model is not in the cache.
        TransientError: The hub could not be reached.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    remedy = (
        f"{name} is not in the hub's cache here and the hub cannot be asked; fetch it where there is a network "
        f"(hf download {name} --revision {revision}) and set {elsewhere}"
    )
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=[f"*{suffix}" for suffix in suffixes]))
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:  # a gated or private one is of the first kind
        raise RecipeError(
            f"the hub has no model {name} of commit {revision}, or not for this account (hf auth login): "
            f"{one_line(str(error), 120)}"
        ) from error
    except OSError as error:  # those of huggingface_hub are
        if is_offline():
            raise RecipeError(f"HF_HUB_OFFLINE is set: {remedy}") from error
        raise TransientError(f"{remedy} ({one_line(str(error), 120)})") from error


def is_offline() -> bool:
    """Says whether this machine is told not to ask the hub."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "YES", "ON")
