"""`python -m tasks.core.tracking deliver SPOOL`: follows a spool and sends it to MLflow until its run has ended.

In: the path of a spool. Out: an MLflow run. Invariant: SIGTERM ends it between two calls; whatever ends it, what it has not
sent stays in the spool.
"""

import sys
from pathlib import Path

from tasks.core.site import current_site
from tasks.core.tracking.deliver import follow
from tasks.core.tracking.spool import Spool


def _main(arguments: list[str]) -> int:
    if len(arguments) != 2 or arguments[0] != "deliver":
        sys.stderr.write("usage: python -m tasks.core.tracking deliver SPOOL\n")
        return 2
    return 0 if follow(Spool(Path(arguments[1])), current_site()) else 1


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
