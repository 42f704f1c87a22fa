"""Which process a Prefect run belongs to, so that a run whose process is gone can be closed.

In: flow run ids. Out: a small file a run, gone when the run ends. Invariant: only a run whose process is known to be dead
is touched.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tasks.core.site import Site
from tasks.core.store import process_alive, process_identity, write_durably

_GONE = "the process is gone; run again: finished stages are reused"


def _folder(site: Site) -> Path:
    return site.root / "runs"


@contextmanager
def owned(site: Site, flow_run_id: str | None) -> Iterator[None]:
    """Notes that this process runs `flow_run_id`, as long as it does."""
    if flow_run_id is None:
        yield
        return
    _folder(site).mkdir(parents=True, exist_ok=True)
    path = _folder(site) / f"{flow_run_id}.json"
    write_durably(path, json.dumps(process_identity()))
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def reap_prefect(site: Site) -> int:
    """Marks runs as crashed whose process is dead; returns how many."""
    return sum(_close(path) for path in sorted(_folder(site).glob("*.json")) if _owner_is_dead(path))


def _owner_is_dead(path: Path) -> bool:
    return process_alive(json.loads(path.read_text(encoding="utf-8"))) is False


def _close(path: Path) -> bool:
    from uuid import UUID

    from prefect import get_client
    from prefect.exceptions import ObjectNotFound
    from prefect.states import Crashed

    closed = False
    with get_client(sync_client=True) as client:
        try:
            run = client.read_flow_run(UUID(path.stem))
            if run.state is not None and not run.state.is_final():
                client.set_flow_run_state(run.id, Crashed(message=_GONE), force=True)
                closed = True
        except ObjectNotFound:
            pass
    path.unlink(missing_ok=True)
    return closed
