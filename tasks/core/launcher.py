"""torchrun, and a note of which process was killed: one that raises leaves its own error, one that is killed cannot.

In: where the note goes, then the arguments of torchrun. Out: the exit status; the note, JSON, only where a process was killed.
Invariant: who was stopped because another one failed is not noted.
"""

import json
import sys
from pathlib import Path


def main(note: Path, arguments: list[str]) -> int:
    """Starts the processes of this node and waits for them."""
    from torch.distributed import run
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    try:
        run.run(run.parse_args(arguments))
    except ChildFailedError as error:
        failures = sorted(error.failures.items())
        killed = [f"rank {rank} ({failure.signal_name()})" for rank, failure in failures if failure.exitcode < 0]
        if killed:
            note.write_text(json.dumps(killed), encoding="utf-8")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
