"""The Hugging Face hub: data sets read as a stream, folders of models.

In: a name and a commit. Out: rows as dicts, or a folder. Invariants: what may move under a run is refused, with the commit it
stands for now; where the hub cannot be asked, the error says the remedy.
"""

import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Field

from tasks.core.artifact import Spec
from tasks.core.errors import RecipeError, TransientError
from tasks.core.site import Site
from tasks.core.text import one_line

Revision = Annotated[str | None, Field(description="Commit of the hub (40 hexadecimal digits): a branch may move.")]


class OfHub(Spec):
    """What can name something of the hub."""

    def require_commit(self) -> None:
        """Insists on a commit; nothing is read."""
        raise NotImplementedError

    def pinned(self, site: Site) -> Self:
        """Insists on a commit."""
        self.require_commit()
        return self


class HubModel(OfHub):
    """A model of the Hugging Face hub, pinned to a commit."""

    name: Annotated[str, Field(pattern=r"^[\w.-]+/[\w.-]+$", description="Model on the hub, owner/name.")]
    revision: Revision = None

    def require_commit(self) -> None:
        """Insists on a commit."""
        require_commit("model", self.name, self.revision)


class HubRows(OfHub):
    """A split of a data set of the Hugging Face hub, pinned to a commit."""

    dataset: Annotated[str, Field(pattern=r"^[\w.-]+(/[\w.-]+)?$", description="Name on the hub, e.g. nyu-mll/glue.")]
    config: Annotated[str | None, Field(description="Configuration of the data set.")] = None
    split: Annotated[str, Field(min_length=1, description="Split to read.")] = "train"
    revision: Revision = None

    def require_commit(self) -> None:
        """Insists on a commit."""
        require_commit("dataset", self.dataset, self.revision)


def require_commits(part: Any) -> None:
    """Insists on a commit wherever a part of a recipe names the hub, so that this is said before any work.

    Raises:
        RecipeError: As `require_commit` does.
    """
    if isinstance(part, OfHub):
        part.require_commit()
    elif isinstance(part, BaseModel):
        for _, value in part:
            require_commits(value)
    elif isinstance(part, list | tuple):
        for value in part:
            require_commits(value)


def require_commit(kind: Literal["model", "dataset"], name: str, revision: str | None) -> None:
    """Insists on a commit of the hub.

    Raises:
        RecipeError: It may move; the message has the commit it stands for now, or says where to look that up.
    """
    if re.fullmatch(r"[0-9a-f]{40}", revision or ""):
        return
    try:
        from huggingface_hub import HfApi

        hint = f'set revision = "{HfApi().repo_info(name, revision=revision, repo_type=kind).sha}"'
    except Exception as error:  # offline, unknown name, private
        page = f"huggingface.co/{'datasets/' if kind == 'dataset' else ''}{name}/commits"
        hint = f"look its commit up at {page} ({one_line(str(error), 80)})"
    raise RecipeError(f"{kind} {name} of the hub: revision is {revision!r}, which may move under a run; {hint}")


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


def hub_model(model: HubModel, suffixes: Sequence[str], elsewhere: str) -> Path:
    """Returns the folder of a model of the hub, fetched where it is not in the cache.

    Args:
        suffixes: Endings of the files that are wanted; those of its folders, and weights in one piece beside shards
            (consolidated.safetensors), are other forms of the same.
        elsewhere: What to set in the recipe where the hub cannot be asked.

    Raises:
        RecipeError: The hub has no such model or commit, or none for this account; or this machine is told to be offline, and
            the model is not in the cache.
        TransientError: The hub could not be reached.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    remedy = (
        f"{model.name} is not in the hub's cache here and the hub cannot be asked; fetch it where there is a network "
        f"(hf download {model.name} --revision {model.revision}) and set {elsewhere}"
    )
    wanted = [f"*{suffix}" for suffix in suffixes]
    try:
        found = snapshot_download(
            model.name, revision=model.revision, allow_patterns=wanted, ignore_patterns=["*/*", "consolidated*"]
        )
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:  # a gated or private one is of the first kind
        raise RecipeError(
            f"the hub has no model {model.name} of commit {model.revision}, or not for this account (hf auth login): "
            f"{one_line(str(error), 120)}"
        ) from error
    except OSError as error:  # those of huggingface_hub are
        if is_offline():
            raise RecipeError(f"HF_HUB_OFFLINE is set: {remedy}") from error
        raise TransientError(f"{remedy} ({one_line(str(error), 120)})") from error
    return Path(found)


def is_offline() -> bool:
    """Says whether this machine is told not to ask the hub."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "YES", "ON")
