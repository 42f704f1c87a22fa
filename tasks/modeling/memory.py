# ruff: noqa: TID253  (runs in training children only; holds no Spec)
"""Rows that go through a model at once, and what happens where they do not fit.

In: an attempt at a batch. Out: its result, with fewer rows at once where memory ran out. Invariant: the batch of an optimiser
step stays what it is: half the rows at once, twice as often.
"""

import gc
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from tasks.core.errors import StageError
from tasks.modeling.sizing import MICRO_TOKENS
from tasks.modeling.task import Place

T = TypeVar("T")
_CPU_WORDS = ("can't allocate memory", "not enough memory")  # torch's CPU allocator raises a plain RuntimeError
_log = logging.getLogger("textmill.train")


@dataclass
class MicroBatches:
    """How many rows go through the model at once.

    Attributes:
        rows: Rows at once from now on.
        can_halve: Alone a process may; among others it would leave them waiting.
        num_halvings: How often memory ran out.
    """

    rows: int
    can_halve: bool
    num_halvings: int = 0

    @classmethod
    def of(cls, place: Place, row_tokens: int) -> "MicroBatches":
        """Starts with the rows that were set, else with as many as are fastest."""
        default = max(1, MICRO_TOKENS[place.world.device.type] // row_tokens)
        return cls(place.micro_rows or default, can_halve=place.world.size == 1)

    def resume(self, num_halvings: int) -> None:
        """Halves the rows as often as an earlier attempt at this training had to."""
        self.rows = max(1, self.rows >> num_halvings)
        self.num_halvings = num_halvings

    def run(self, attempt: Callable[[], T], clear: Callable[[], None]) -> T:
        """Returns what `attempt` returns; where memory runs out, clears, halves the rows and tries again.

        Raises:
            StageError: One row does not fit, or other processes take part.
        """
        while True:
            try:
                return attempt()
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                self._halve(error)
            clear()  # here, where the frames that held the activations are gone
            _release()

    def _halve(self, error: RuntimeError) -> None:
        advice = "set TEXTMILL_LOSS_CHUNK_TOKENS or TEXTMILL_RECOMPUTE_ACTIVATIONS, or lower model.context_tokens"
        if self.rows == 1:
            raise StageError(f"memory ran out with 1 row at a time: {error}. To need less, {advice}.") from error
        if not self.can_halve:
            raise StageError(
                f"memory ran out with {self.rows} rows at a time on one of several processes: {error}. Set "
                f"TEXTMILL_MICRO_BATCH_ROWS={self.rows // 2} and run again; or {advice}."
            ) from error
        self.rows //= 2
        self.num_halvings += 1
        _log.warning("memory ran out; %d rows at a time from now on, in as many more passes", self.rows)


def where_it_fits(model: Any, device: torch.device, look: Callable[[Any], T]) -> T:
    """Returns what `look` makes of a whole model: on the device, or on the host where the device has no room for that.

    A training over shards ends with a model that no device alone needs to have room for.
    """
    _release()
    try:
        return look(model.to(device))
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        _log.warning("one device has no room for the whole model (%s); its figures are computed on the host", error)
    _release()  # here, where the frames that held the activations are gone
    return look(model.to("cpu"))


def is_out_of_memory(error: RuntimeError) -> bool:
    """Says whether an allocator, of a GPU or of the CPU, had nothing left."""
    return isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in _CPU_WORDS)


def _release() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
