"""SIGTERM as an exception, so that what was begun is closed.

In: a body. Out: the body, ended by SIGTERM as by Ctrl-C. Invariant: the handler that was there before is there again afterwards.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager


class Terminated(KeyboardInterrupt):
    """SIGTERM, which ends the body as Ctrl-C does."""


@contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """Lets SIGTERM end the body; Prefect, which takes the signal while a flow runs, sends it again at the flow's end."""

    def end(number: int, frame: object) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
