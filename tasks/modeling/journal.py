# ruff: noqa: TID253  (runs in training children only; holds no Spec)
"""What a training tells of itself: figures of each step, to a file, to the run that watches, to whoever asks.

In: losses and norms as they lie on the device. Out: `metrics.jsonl`, one record a line, and the child's reports. Invariants: the
device is asked seldom; a resumed training leaves the same records as one that was never cut off.
"""

import json
import math
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from tasks.core import child
from tasks.core.errors import StageError
from tasks.modeling.parallel import World
from tasks.modeling.records import read_records

STEPS_PER_READ = {"cpu": 1, "cuda": 10}  # reading a loss makes a GPU wait


@dataclass(frozen=True, slots=True)
class Measured:
    """Figures of a step, left on the device until they are read.

    Attributes:
        step: Steps done with this one.
        loss: This process's part of the mean loss.
    """

    step: int
    loss: Tensor
    gradient_norm: Tensor
    learning_rate: float
    num_targets: int


class Journal:
    """The records of one training."""

    def __init__(self, path: Path, world: World, num_steps: int) -> None:
        self._path, self._world, self._num_steps = path, world, num_steps
        self._waiting: list[Measured] = []
        self.restart_clock()

    def restart_clock(self) -> None:
        """Leaves what was done since the last reading out of the speed."""
        self._clock = time.monotonic()

    def add(self, measured: Measured) -> list[float]:
        """Notes a step; returns the losses that were read now, if it was time to read."""
        self._waiting.append(measured)
        return self.read() if len(self._waiting) >= STEPS_PER_READ[self._world.device.type] else []

    def read(self) -> list[float]:
        """Reads the figures that wait, records them and returns the losses.

        Raises:
            StageError: The training diverged.
        """
        if not self._waiting:
            return []
        steps, self._waiting = self._waiting, []
        losses: list[float] = self._world.sum(torch.stack([step.loss for step in steps])).tolist()
        norms: list[float] = torch.stack([step.gradient_norm for step in steps]).tolist()
        tokens_per_s = sum(step.num_targets for step in steps) / max(1e-9, time.monotonic() - self._clock)
        self.restart_clock()
        for step, loss, norm in zip(steps, losses, norms, strict=True):
            self._check_finite(step, loss, norm)
            figures = {"train_loss": loss, "gradient_norm": norm, "learning_rate": step.learning_rate}
            self.tell(step.step, **figures, tokens_per_s=tokens_per_s)
        child.report(done=steps[-1].step, total=self._num_steps, unit="steps", loss=losses[-1], tokens_per_s=tokens_per_s)
        return losses

    def _check_finite(self, step: Measured, loss: float, norm: float) -> None:
        if math.isfinite(loss) and math.isfinite(norm):
            return
        raise StageError(
            f"training diverged at step {step.step} of {self._num_steps}: loss {loss}, gradient norm {norm}, learning rate "
            f"{step.learning_rate:g}. Lower optim.learning_rate, raise its schedule's warmup_share, or set precision fp32."
        )

    def tell(self, step: int, **values: float) -> None:
        """Records figures of a step."""
        if not self._world.leads:
            return
        child.metrics(step, **values)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")

    def cut(self, step: int) -> None:
        """Drops the records that a training resumed at `step` writes again: what follows, and the look at this step."""
        if not self._world.leads or not self._path.exists():
            return
        kept = [
            record
            for record in read_records(self._path)
            if record["step"] < step or (record["step"] == step and "train_loss" in record)
        ]
        self._path.write_text("".join(json.dumps(record) + "\n" for record in kept), encoding="utf-8")
