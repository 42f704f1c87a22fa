"""torchrun, and a note of which process was killed: one that raises leaves its own error, one that is killed cannot.

In: a `Site`, and a folder for the note. Out: the command; in the process it starts, torchrun's work and the note. Invariants: one
node needs no address; who was stopped because another process failed is not noted.
"""

import json
import sys
from pathlib import Path

from tasks.core.site import Site

_NOTE = "killed.json"
_SHUTDOWN_S = 20  # what torchrun leaves the other processes when one has gone; less than a whole tree's grace


def torchrun_command(site: Site, work: Path) -> list[str]:
    """Returns the command that starts the training processes of this node; `-m` and their module follow it."""
    launcher = [sys.executable, "-m", "tasks.core.launcher", str(work / _NOTE)]
    processes = ["--nproc-per-node", str(site.num_processes), "--shutdown-timeout", str(_SHUTDOWN_S)]
    return [*launcher, *_meeting(site), *processes]


def _meeting(site: Site) -> list[str]:
    """Says how nodes find each other. Static: ranks follow `node_rank`, so that rank 0 is where the chain runs."""
    if site.rendezvous is None:
        return ["--standalone"]
    nodes = ["--nnodes", str(site.num_nodes), "--node-rank", str(site.node_rank)]
    return [*nodes, "--rdzv-backend", "static", "--rdzv-endpoint", site.rendezvous]


def killed_ranks(work: Path) -> list[str]:
    """Returns the processes that were killed, by rank and signal."""
    note = work / _NOTE
    return list(json.loads(note.read_text(encoding="utf-8"))) if note.exists() else []


def main(note: Path, arguments: list[str]) -> int:
    """Runs torchrun and leaves the note; returns the exit status, of several that failed the highest."""
    from torch.distributed import run
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    try:
        run.run(run.parse_args(arguments))  # type: ignore[no-untyped-call]
    except ChildFailedError as error:
        failures = sorted(error.failures.items())
        ended = {rank: failure.signal_name() for rank, failure in failures if failure.exitcode < 0}
        if killed := _first(ended):
            note.write_text(json.dumps([f"rank {rank} ({name})" for rank, name in killed.items()]), encoding="utf-8")
        return max(1, *(failure.exitcode for failure in error.failures.values()))
    return 0


def _first(ended: dict[int, str]) -> dict[int, str]:
    """Returns those of the ended processes that did not end because another one had: torchrun sends SIGTERM, gloo aborts."""
    killed = {rank: name for rank, name in ended.items() if name != "SIGTERM"}
    return {rank: name for rank, name in killed.items() if name != "SIGABRT"} or killed


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
