"""Training on many nodes: node 0 runs the chain and announces each training; the other nodes see it in the state folder.

In: a training of node 0. Out: `nodes/job.json` in the state folder, which all nodes share. Invariant: an announcement is there
whole or not at all, and as long as the processes of node 0.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from tasks.core.errors import RecipeError
from tasks.core.site import Site
from tasks.core.store import write_durably


class Announcement(BaseModel):
    """A training that node 0 has begun; each attempt has a job file of its own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    function: str
    job: Path


def _path(site: Site) -> Path:
    return site.root / "nodes" / "job.json"


@contextmanager
def announced(site: Site, function: str, job: Path) -> Iterator[None]:
    """Lets the other nodes know of a training while it lasts; one node has nobody to tell.

    Raises:
        RecipeError: This is not node 0.
    """
    if site.node_rank > 0:
        raise RecipeError(f"this is node {site.node_rank}: run the chain on node 0 and `textmill join` here")
    if site.num_nodes == 1:
        yield
        return
    path = _path(site)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_durably(path, Announcement(function=function, job=job).model_dump_json())
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def announcement(site: Site) -> Announcement | None:
    """Returns what is announced now."""
    try:
        return Announcement.model_validate_json(_path(site).read_bytes())
    except (OSError, ValidationError):
        return None
