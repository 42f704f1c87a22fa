# ruff: noqa: TID253  (runs in training children only; holds no Spec)
"""What a training tells of itself: figures of each step, to a file, to the run that watches, to whoever asks.

In: losses and norms as they lie on the device. Out: `metrics.jsonl`, one record a line, and the child's reports. Invariants: the
device is asked seldom; a resumed training leaves the same records as one that was never cut off.
"""

import json
import logging
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from tasks.core import child
from tasks.core.store import write_durably
from tasks.modeling.anomalies import diverged, find_anomaly
from tasks.modeling.parallel import World
from tasks.modeling.records import read_records
from tasks.modeling.stopwatch import describe
from tasks.modeling.utilization import Products

STEPS_PER_READ = {"cpu": 1, "cuda": 10}  # reading a loss makes a GPU wait
_log = logging.getLogger("textmill.train")


@dataclass(frozen=True, slots=True)
class Measured:
    """Figures of a step, left on the device until they are read.

    Attributes:
        step: Steps done with this one.
        loss: This process's share of the mean loss (), or of each of its parts (P,).
        num_targets: Targets of the step over all processes.
        num_rows: Rows of this process.
    """

    step: int
    loss: Tensor
    gradient_norm: Tensor
    learning_rate: float
    num_targets: int
    num_rows: int


class Journal:
    """The records of one training."""

    def __init__(
        self,
        path: Path,
        world: World,
        parts: Sequence[str],
        num_steps: int,
        each_step: bool = False,
        norm_may_overflow: bool = False,
        prefix: str = "",
    ) -> None:
        self._path, self._world, self._parts, self._num_steps, self._prefix = path, world, parts, num_steps, prefix
        self._steps_per_read = 1 if each_step else STEPS_PER_READ[world.device.type]
        self._norm_may_overflow = norm_may_overflow
        self._waiting: list[Measured] = []
        self.products: Products | None = None
        self._seconds, self._num_timed = 0.0, 0  # of steps, without looks and checkpoints
        self.restart_clock()

    def restart_clock(self) -> None:
        """Leaves what was done since the last reading out of the speed."""
        self._clock = time.monotonic()

    def add(self, measured: Measured) -> list[float]:
        """Notes a step; returns the losses that were read now, if it was time to read."""
        self._waiting.append(measured)
        return self.read() if len(self._waiting) >= self._steps_per_read else []

    def read(self) -> list[float]:
        """Reads the figures that wait, records them and returns the losses.

        Raises:
            StageError: The training diverged.
        """
        if not self._waiting:
            return []
        steps, self._waiting = self._waiting, []
        parts = self._world.sum(torch.stack([step.loss.reshape(-1) for step in steps])).tolist()
        losses = [sum(part) for part in parts]
        norms: list[float] = torch.stack([step.gradient_norm for step in steps]).tolist()
        speed = self._speed(steps)
        self.restart_clock()
        for step, loss, part, norm in zip(steps, losses, parts, norms, strict=True):
            self._check_finite(step, loss, norm)
            figures = {"train_loss": loss, "learning_rate": step.learning_rate} | self._named(part)
            if math.isfinite(norm):
                figures["gradient_norm"] = norm
            self.tell(step.step, **figures, **speed)
        left = (self._num_steps - steps[-1].step) * self._seconds / self._num_timed
        child.report(done=steps[-1].step, total=self._num_steps, unit="steps", loss=losses[-1], **speed, seconds_left=left)
        return losses

    def _named(self, losses: Sequence[float]) -> dict[str, float]:
        return {f"train_{name}_loss": loss for name, loss in zip(self._parts, losses, strict=False)}

    def _speed(self, steps: Sequence[Measured]) -> dict[str, float]:
        """Returns targets a second of all processes, and the utilisation of this one's device once its products are known."""
        seconds = max(1e-9, time.monotonic() - self._clock)
        self._seconds, self._num_timed = self._seconds + seconds, self._num_timed + len(steps)
        speed = {"tokens_per_s": sum(step.num_targets for step in steps) / seconds}
        if self.products is not None:
            speed["mfu"] = self.products.mfu(sum(step.num_rows for step in steps), seconds)
        return speed

    def _check_finite(self, step: Measured, loss: float, norm: float) -> None:
        """Ends a diverged training; a gradient that overflows fp16 is the gradient scaler's to deal with."""
        if problem := find_anomaly(loss, 0.0 if self._norm_may_overflow else norm, (), None):
            raise diverged(problem, f"step {step.step} of {self._num_steps}, learning rate {step.learning_rate:g}")

    def tell(self, step: int, **values: float) -> None:
        """Records figures of a step."""
        if not self._world.leads:
            return
        child.metrics(step, **{self._prefix + name: value for name, value in values.items()})
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")

    def tell_times(self, step: int, figures: dict[str, float]) -> None:
        """Records where the time went since this process began, and says it in one line."""
        self.tell(step, **figures)
        if self._world.leads:
            _log.info(describe(figures))

    def cut(self, step: int) -> None:
        """Drops the records that a training resumed at `step` writes again: what follows, and the look at this step."""
        if not self._world.leads or not self._path.exists():
            return
        kept = [
            record
            for record in read_records(self._path)
            if record["step"] < step or (record["step"] == step and record.keys() & {"train_loss", "num_anomalies"})
        ]
        write_durably(self._path, "".join(json.dumps(record) + "\n" for record in kept))
