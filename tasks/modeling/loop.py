# ruff: noqa: TID253  (runs in training children only; holds no Spec)
"""The training loop: step, accumulate, clip, schedule, log, look at the validation split, save, resume.

In: a model, a loss, rows, specs. Out: the trained model and a `TrainResult`; `metrics.jsonl` and `checkpoints/` in a folder.
Invariants: the loop knows no objective and no tuning method; what a step does is a function of the weights, the optimiser's
state and `(seed, step)` alone, so a run that was cut off and resumed ends with the same bits; every look at the
validation split is at a saved checkpoint, saved before the look.
"""

import logging
import math
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tasks.core.errors import TransientError
from tasks.modeling import checkpoint
from tasks.modeling.batches import Batch, Ids, Rows, make_batch, step_rows
from tasks.modeling.checkpoint import Look, Position
from tasks.modeling.job import METRICS_NAME, TrainResult
from tasks.modeling.journal import Journal, Measured
from tasks.modeling.model import autocast, num_parameters
from tasks.modeling.optim import build_optimizer, set_learning_rate, trained_weights
from tasks.modeling.parallel import World, clip_gradients, parallelize
from tasks.modeling.sizing import MICRO_TOKENS
from tasks.modeling.specs import OptimSpec, TrainSpec, learning_rate

_NUM_RECENT = 20
_log = logging.getLogger("textmill.train")


@dataclass(frozen=True, slots=True)
class Task:
    """What is learned: a summed loss, rows to learn from, rows to look at, and the bytes those stand for."""

    loss: Callable[[Any, Batch], Tensor]
    train: Rows
    validation: Rows
    validation_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """Where and how it runs; changes nothing but rounding."""

    folder: Path
    world: World
    precision: str
    micro_rows: int | None = None


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


class _Loss(torch.nn.Module):
    """A model with its loss, as one module: what is applied to many processes."""

    def __init__(self, model: Any, loss: Callable[[Any, Batch], Tensor]) -> None:
        super().__init__()
        self.model, self.loss = model, loss

    def forward(self, batch: Batch) -> Tensor:
        return self.loss(self.model, batch)


@dataclass
class Loop:
    """One training, from wherever its folder says it stands to its end."""

    model: Any
    task: Task
    spec: TrainSpec
    optim: OptimSpec
    seed: int
    place: Place
    interrupt: Interrupt = field(default_factory=Interrupt)

    def __post_init__(self) -> None:
        self._losses = _Loss(self.model, self.task.loss)
        self._parallel = parallelize(self._losses, self.model, self.place.world, self.place.precision)
        self.optimizer = build_optimizer(self.model, self.optim)
        self.num_steps = self.spec.num_steps(self.task.train.num_rows, self.task.train.row_tokens)
        self.position = Position()
        self._journal = Journal(self.place.folder / METRICS_NAME, self.place.world, self.num_steps)

    def run(self) -> TrainResult:
        """Trains to the end of the budget, or of the patience.

        Raises:
            TransientError: It was asked to stop; everything is saved.
            StageError: The loss is no number any more.
        """
        self._resume()
        with self.interrupt.on_sigterm():
            while True:
                if self._is_due():
                    self._save()
                    self._look()
                if self._is_over():
                    break
                self._leave_if_asked()
                self._step()
        result = self._finish()
        self._parallel.unite()
        return result

    # -- where it stands -------------------------------------------------------------------------------------------

    @property
    def _checkpoints(self) -> Path:
        return self.place.folder / "checkpoints"

    def _resume(self) -> None:
        world = self.place.world
        self._checkpoints.mkdir(parents=True, exist_ok=True)
        if world.leads:
            checkpoint.latest(self._checkpoints)  # tidies up: what is there now is whole
        world.wait()
        if found := checkpoint.steps(self._checkpoints):
            folder = checkpoint.checkpoint_folder(self._checkpoints, found[-1])
            self.position = checkpoint.load(folder, self.model, self.optimizer)
            if world.leads:
                _log.info("resumed at step %d of %d", self.position.step, self.num_steps)
        world.wait()
        self._journal.cut(self.position.step)

    def _is_due(self) -> bool:
        step = self.position.step
        every = (self.spec.eval_every_steps, self.spec.checkpoint_every_steps)
        return step == self.num_steps or any(step % steps == 0 for steps in every)

    def _is_over(self) -> bool:
        looks, best = self.position.looks, self.position.best
        patience = self.spec.patience_evals
        is_stuck = patience is not None and best is not None and sum(look.step > best.step for look in looks) >= patience
        return self.position.step >= self.num_steps or is_stuck

    def _leave_if_asked(self) -> None:
        if not self.place.world.any(self.interrupt.requested):
            return
        self._save()
        raise TransientError(f"training was asked to stop at step {self.position.step}; it resumes from there")

    def _save(self) -> None:
        self._note(self._journal.read())
        folder = checkpoint.checkpoint_folder(self._checkpoints, self.position.step)
        world = self.place.world
        if world.any(world.leads and not (folder / checkpoint.MARKER).exists()):
            checkpoint.save(self._checkpoints, self.model, self.optimizer, self.position, world)

    # -- one step --------------------------------------------------------------------------------------------------

    def _step(self) -> None:
        step, world = self.position.step, self.place.world
        rows = step_rows(self.seed, step, self.spec.batch_rows, self.task.train.num_rows)
        num_targets = self.task.train.num_targets(rows)
        rate = learning_rate(self.optim, step, self.num_steps)
        torch.manual_seed(_step_seed(self.seed, step, world.rank))
        loss = self._accumulate(rows[world.local_rows(self.spec.batch_rows)], num_targets)
        limit = math.inf if self.optim.clip_norm is None else self.optim.clip_norm
        norm = clip_gradients(trained_weights(self.model).values(), limit)
        set_learning_rate(self.optimizer, rate)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.position = self.position.model_copy(update={"step": step + 1, "num_tokens": self.position.num_tokens + num_targets})
        self._note(self._journal.add(Measured(step + 1, loss, norm, rate, num_targets)))

    def _note(self, losses: list[float]) -> None:
        recent = (*self.position.recent_losses, *losses)[-_NUM_RECENT:]
        self.position = self.position.model_copy(update={"recent_losses": recent})

    def _accumulate(self, rows: Ids, num_targets: int) -> Tensor:
        """Adds up the gradients of this process's rows; returns its part of the mean loss."""
        world, micro_rows = self.place.world, self._micro_rows
        total = torch.zeros((), device=world.device)
        for start in range(0, len(rows), micro_rows):
            batch = make_batch(self.task.train, rows[start : start + micro_rows], world.device)
            is_last = start + micro_rows >= len(rows)
            with self._parallel.quiet(is_last):
                with autocast(world.device, self.place.precision):
                    loss = self._parallel.module(batch) / max(1, num_targets)
                (loss * world.size).backward()  # gradients are averaged over processes, the batch wants the sum
            total += loss.detach()
        return total

    @property
    def _micro_rows(self) -> int:
        default = max(1, MICRO_TOKENS[self.place.world.device.type] // self.task.train.row_tokens)
        return self.place.micro_rows or default

    # -- looking ---------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        loss = self._validation_loss(self.spec.eval_rows)
        looks = (*self.position.looks, Look(step=self.position.step, loss=loss))
        self.position = self.position.model_copy(update={"looks": looks})
        bits = self._bits_per_byte(loss)
        figures = {"validation_loss": loss} | ({} if bits is None else {"validation_bits_per_byte": bits})
        self._journal.tell(self.position.step, **figures)
        if self.place.world.leads and self.position.best is not None:
            checkpoint.prune(self._checkpoints, self.spec.keep_last, self.position.best.step)
        self._journal.restart_clock()

    def _validation_loss(self, max_rows: int | None) -> float:
        """Returns the mean loss over the targets of the validation rows, or of `max_rows` spread evenly over them."""
        rows, world = self.task.validation, self.place.world
        chosen = np.unique(np.linspace(0, rows.num_rows - 1, min(max_rows or rows.num_rows, rows.num_rows)).round().astype(int))
        total = torch.zeros(2, dtype=torch.float64, device=world.device)
        mine = chosen[world.rank :: world.size]
        self.model.eval()
        with torch.no_grad(), autocast(world.device, self.place.precision):
            for start in range(0, len(chosen[:: world.size]), self._micro_rows):  # as many passes on every process
                part = mine[start : start + self._micro_rows]
                batch = make_batch(rows, part if len(part) else chosen[:1], world.device)
                counts = bool(len(part))
                total[0] += self._losses(batch) * counts
                total[1] += batch.num_targets * counts
        self.model.train()
        loss, num_targets = world.sum(total).tolist()
        return float(loss / max(1, num_targets))

    def _bits_per_byte(self, loss: float) -> float | None:
        if self.task.validation_bytes is None:
            return None
        rows = self.task.validation
        return loss / math.log(2) * rows.num_targets(np.arange(rows.num_rows)) / self.task.validation_bytes

    # -- the end ---------------------------------------------------------------------------------------------------

    def _finish(self) -> TrainResult:
        best = self.position.best
        assert best is not None, "a training looks at its last step"
        selected = best.step if self.spec.select == "best" else self.position.step
        if selected != self.position.step:
            checkpoint.load_weights(checkpoint.checkpoint_folder(self._checkpoints, selected), self.model)
        loss = next(look.loss for look in self.position.looks if look.step == selected)
        if self.spec.eval_rows is not None:
            loss = self._validation_loss(None)
        recent = self.position.recent_losses
        return TrainResult(
            num_parameters=num_parameters(self.model),
            num_trained_parameters=num_parameters(self.model, trained_only=True),
            num_steps=self.position.step,
            num_tokens=self.position.num_tokens,
            selected_step=selected,
            num_epochs=self.position.step * self.spec.batch_rows / self.task.train.num_rows,
            train_loss=sum(recent) / len(recent),
            first_validation_loss=self.position.looks[0].loss,
            validation_loss=loss,
            validation_bits_per_byte=self._bits_per_byte(loss),
        )


def _step_seed(seed: int, step: int, rank: int) -> int:
    """Returns the seed of a step's random numbers (dropout): resuming needs no generator's state."""
    return (((seed << 32) + step) * 1024 + rank) & ((1 << 63) - 1)
