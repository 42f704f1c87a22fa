"""A node that helps: it starts its own processes of every training that node 0 announces.

In: the announcements in the shared state folder. Out: torchrun on this node, again for each training, until interrupted.
Invariant: what was started for an announcement ends soon after it.
"""

import contextlib
import subprocess
import time

from tasks.core.child import started
from tasks.core.errors import RecipeError
from tasks.core.nodes import Announcement, announcement
from tasks.core.run import SafeLog
from tasks.core.site import Site

_POLL_S = 0.5
_LEAVE_S = 10.0  # for the processes of this node to see by themselves that the training has ended


def join(site: Site, log: SafeLog) -> None:
    """Helps node 0 with every training it announces, until interrupted.

    Raises:
        RecipeError: This is node 0, or the only node.
    """
    if site.node_rank == 0:
        raise RecipeError(
            "node 0 runs the chain; on the others set TEXTMILL_NODE_RANK, TEXTMILL_NUM_NODES and TEXTMILL_RENDEZVOUS"
        )
    done = None
    while True:
        call = announcement(site)
        if call is not None and call != done:
            _take_part(call, site, log)
            done = call
        time.sleep(_POLL_S)


def _take_part(call: Announcement, site: Site, log: SafeLog) -> None:
    log.info("node %d joins %s", site.node_rank, call.function)
    with started(call.function, call.job, site, log, torchrun=True) as process:
        while process.poll() is None and announcement(site) == call:
            time.sleep(_POLL_S)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=_LEAVE_S)
    log.info("node %d has left %s with status %s", site.node_rank, call.function, process.returncode)
