"""Being asked to stop: SIGTERM as a question instead of an end.

In: a signal. Out: a flag. Invariant: the handler that was there before is there again afterwards.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType


@dataclass(slots=True)
class Interrupt:
    """Whether somebody asked this process to save and leave."""

    requested: bool = False

    @contextmanager
    def on_sigterm(self) -> Iterator[None]:
        """Lets SIGTERM ask, instead of killing."""

        def ask(number: int, frame: FrameType | None) -> None:
            self.requested = True

        before = signal.signal(signal.SIGTERM, ask)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)
