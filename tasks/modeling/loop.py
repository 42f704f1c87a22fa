# ruff: noqa: TID253  (runs in training children only; holds no Spec)
"""The training loop: step, accumulate, clip, schedule, log, look at the validation split, save, resume.

In: a model, a loss, rows, specs. Out: the trained model and a `TrainResult`; `metrics.jsonl` and `checkpoints/` in a folder.
Invariants: the loop knows no objective and no tuning method; what a step does is a function of the weights, the optimiser's
state and `(seed, step)` alone, so a run that was cut off and resumed ends with the same bits; every look at the
validation split is at a saved checkpoint, saved before the look.
"""

import logging
import math
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tasks.core.errors import TransientError
from tasks.modeling import checkpoint
from tasks.modeling.anomalies import NUM_RECENT, diverged, find_anomaly, require_bearable
from tasks.modeling.average import adopt_average, averaged, update_average
from tasks.modeling.batches import Batch, Ids, Rows, make_batch
from tasks.modeling.checkpoint import Look, Position
from tasks.modeling.compute import computed
from tasks.modeling.head import HeadLoss, set_head_loss
from tasks.modeling.interrupt import Interrupt
from tasks.modeling.job import METRICS_NAME, TrainResult
from tasks.modeling.journal import Journal, Measured
from tasks.modeling.memory import MicroBatches
from tasks.modeling.model import num_parameters
from tasks.modeling.optim import build_optimizer, set_learning_rate, trained_weights
from tasks.modeling.parallel import clip_gradients, parallelize
from tasks.modeling.plan import WeightPlan
from tasks.modeling.precision import autocast
from tasks.modeling.specs import OptimSpec, TrainSpec, learning_rate
from tasks.modeling.stopwatch import Stopwatch
from tasks.modeling.task import Place, Task
from tasks.modeling.utilization import measure
from tasks.modeling.validation import bits_per_byte, look_at

_log = logging.getLogger("textmill.train")


class _Loss(torch.nn.Module):
    """A model with its loss, as one module: what is applied to many processes."""

    def __init__(self, model: Any, task: Task) -> None:
        super().__init__()
        self.model, self.loss, self.watch = model, task.loss, task.watch

    def forward(self, batch: Batch) -> Tensor:
        if self.training or self.watch is None:
            return self.loss(self.model, batch)
        return self.watch.sums(self.model, batch)


@dataclass
class Loop:
    """One training, from wherever its folder says it stands to its end."""

    model: Any
    task: Task
    spec: TrainSpec
    optim: OptimSpec
    seed: int
    place: Place
    plan: WeightPlan = field(default_factory=WeightPlan)
    interrupt: Interrupt = field(default_factory=Interrupt)

    def __post_init__(self) -> None:
        self._losses = _Loss(self.model, self.task).train()  # a loaded model comes in the state for looking at
        uses_all = not self.task.own_forward
        self._parallel = parallelize(self._losses, self.model, self.place.world, self.place.precision, uses_all=uses_all)
        self.optimizer = build_optimizer(self.model, self.optim, self.plan.rate_factors, self.place.precision)
        self.num_steps = self.spec.num_steps(self.task.train.num_rows, self.task.train.row_tokens)
        self.position = Position()
        set_head_loss(self.model, HeadLoss(self.spec.z_loss, self.place.compute.loss_chunk_tokens))
        self._sample: Batch | None = None
        self._takes_sample = self.plan.frozen is None and all(weight.requires_grad for weight in self.model.parameters())
        self._micro = MicroBatches.of(self.place, self.task.train.row_tokens)
        self._scaler = torch.amp.GradScaler(self.place.world.device.type, enabled=self.place.precision == "fp16")
        self._stopwatch = Stopwatch()
        path, watched = self.place.folder / METRICS_NAME, self.spec.anomalies.looks_at_each_step
        overflows, parts = self._scaler.is_enabled(), self.task.parts
        self._journal = Journal(path, self.place.world, parts, self.num_steps, watched, overflows, self.place.prefix)

    def run(self) -> TrainResult:
        """Trains to the end of the budget, or of the patience.

        Raises:
            TransientError: It was asked to stop; everything is saved.
            StageError: The loss is no number any more, or one row does not fit into memory.
        """
        self._resume()
        any_shape = self.task.own_forward
        with self.interrupt.on_sigterm(), computed(self.model, self.place.compute, any_shape=any_shape):
            while True:
                if self.spec.is_due(self.position.step, self.num_steps):
                    self._save()
                    self._look()
                if self.position.step >= self.num_steps or self.position.is_stuck(self.spec.patience_evals):
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
            self._load(folder)
            self._micro.resume(self.position.num_halvings)
            if world.leads:
                _log.info("resumed at step %d of %d", self.position.step, self.num_steps)
        world.wait()
        self._journal.cut(self.position.step)

    def _load(self, folder: Path) -> None:
        self.position = checkpoint.load(folder, self.model, self.optimizer)
        if self._scaler.is_enabled():
            self._scaler.load_state_dict(self.position.scaler)

    def _leave_if_asked(self) -> None:
        if not self.place.world.any(self.interrupt.requested):
            return
        self._save()
        raise TransientError(f"training was asked to stop at step {self.position.step}; it resumes from there")

    def _save(self) -> None:
        self._note(self._journal.read())
        state = {"scaler": self._scaler.state_dict(), "num_halvings": self._micro.num_halvings}
        self.position = self.position.model_copy(update=state)
        if self._scaler.get_scale() < 1:
            raise diverged("gradients overflow fp16 however small the loss is scaled", f"step {self.position.step}")
        folder = checkpoint.checkpoint_folder(self._checkpoints, self.position.step)
        world = self.place.world
        with self._stopwatch.lap("checkpoint"):
            if world.any(world.leads and not (folder / checkpoint.MARKER).exists()):
                checkpoint.save(self._checkpoints, self.model, self.optimizer, self.position, world)

    # -- one step --------------------------------------------------------------------------------------------------

    def _step(self) -> None:
        step = self.position.step
        number = step + self.position.num_passed_batches
        rows = self.task.order(self.seed, number, self.spec.batch_rows, self.task.train.num_rows)
        with self._stopwatch.lap("data"):  # counting its targets makes a row
            num_targets = self.task.train.num_targets(rows)
        with self._stopwatch.lap("forward_backward"):
            loss = self._micro.run(lambda: self._accumulate(rows, num_targets), self.optimizer.zero_grad)
        with self._stopwatch.lap("optimizer"):
            self.plan.drop_gradients(self.model, step, step * self.spec.batch_rows / self.task.train.num_rows)
            norm = self._clip()
            if problem := self._problem(loss, norm):
                self._pass_over(problem)
                return
            self._update()
        rate = learning_rate(self.optim.peak, self.optim.schedule, step, self.num_steps)
        self.position = self.position.model_copy(update={"step": step + 1, "num_tokens": self.position.num_tokens + num_targets})
        num_rows = self.spec.batch_rows // self.place.world.size
        self._note(self._journal.add(Measured(step + 1, loss, norm, rate, num_targets, num_rows)))
        self._measure_products()

    def _measure_products(self) -> None:
        """Measures once, after the first step, what the model's products reach here; not where some weights stand still."""
        if self._sample is not None:
            self._journal.products = measure(self._parallel.module, self._sample, self.place.world.device, self.place.precision)
            self._sample, self._takes_sample = None, False
            self._journal.restart_clock()

    def _clip(self) -> Tensor:
        self._scaler.unscale_(self.optimizer)
        limit = math.inf if self.optim.clip_norm is None else self.optim.clip_norm
        return clip_gradients(trained_weights(self.model).values(), limit)

    def _update(self) -> None:
        set_learning_rate(self.optimizer, self.optim.schedule, self.position.step, self.num_steps)
        self._scaler.step(self.optimizer)
        self._scaler.update()
        if self.spec.ema_decay is not None:
            update_average(self.optimizer, trained_weights(self.model), self.spec.ema_decay, self.position.step)
        self.optimizer.zero_grad()

    def _problem(self, loss: Tensor, norm: Tensor) -> str | None:
        """Says what is wrong with this step, where the recipe wants that known before the update."""
        policy = self.spec.anomalies
        if not policy.looks_at_each_step:
            return None
        mean = float(self.place.world.sum(loss.clone()).sum())
        size = 0.0 if self._scaler.is_enabled() else float(norm)  # an overflow in fp16 is the scaler's to deal with
        return find_anomaly(mean, size, self.position.recent_losses, policy.spike_multiple)

    def _pass_over(self, problem: str) -> None:
        """Leaves this batch out, or goes back to the latest checkpoint and leaves out all batches since."""
        policy, step, count = self.spec.anomalies, self.position.step, self.position.num_anomalies + 1
        where = f"step {step + 1} of {self.num_steps}"
        require_bearable(policy, problem, count, where)
        _log.warning("%s: %s; %s", where, problem, policy.action.replace("_", " "))
        self.optimizer.zero_grad()
        self._scaler.update()
        if policy.action == "roll_back":
            self._roll_back()
        else:
            self.position = self.position.model_copy(update={"step": step + 1})
        self.position = self.position.model_copy(update={"num_anomalies": count})
        self._journal.tell(min(step, self.position.step) + 1, num_anomalies=count)

    def _roll_back(self) -> None:
        """Goes back to the latest checkpoint that every run of this training makes, asked to stop or not."""
        step, passed, world = self.position.step, self.position.num_passed_batches, self.place.world
        back = max(saved for saved in checkpoint.steps(self._checkpoints) if self.spec.is_due(saved, self.num_steps))
        folder = checkpoint.checkpoint_folder(self._checkpoints, back)
        checkpoint.check(folder)
        self._load(folder)
        self.position = self.position.model_copy(update={"num_passed_batches": passed + step - back + 1})
        world.wait()
        if world.leads:
            checkpoint.drop_after(self._checkpoints, back)
        world.wait()
        self._journal.cut(back)

    def _note(self, losses: list[float]) -> None:
        recent = (*self.position.recent_losses, *losses)[-NUM_RECENT:]
        self.position = self.position.model_copy(update={"recent_losses": recent})

    def _accumulate(self, rows: Ids, num_targets: int) -> Tensor:
        """Adds up the gradients of this process's rows; returns its share of the mean loss, or of each of its parts."""
        world, micro_rows = self.place.world, self._micro.rows
        rows = rows[world.local_rows(self.spec.batch_rows)]
        torch.manual_seed(_step_seed(self.seed, self.position.step, world.rank))
        total = torch.zeros(len(self.task.parts) or (), device=world.device)
        for start in range(0, len(rows), micro_rows):
            with self._stopwatch.lap("data"):
                batch = make_batch(self.task.train, rows[start : start + micro_rows], world.device)
            self._sample = batch if self._takes_sample else None
            is_last = start + micro_rows >= len(rows)
            with self._parallel.quiet(is_last):
                with autocast(world.device, self.place.precision):
                    loss = self._parallel.module(batch) / max(1, num_targets)
                total_loss = loss.sum() * world.size  # gradients are averaged over processes, the batch wants the sum
                self._scaler.scale(total_loss).backward()
            total += loss.detach()
        return total

    # -- looking ---------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        is_mean = self.spec.ema_decay is not None
        with averaged(self.optimizer, trained_weights(self.model)) if is_mean else nullcontext():
            loss, figures = self._look_at(self.spec.eval_rows)
        counts = self.position.step > 0 or not self.task.has_new_head
        look = Look(step=self.position.step, loss=loss, figures=figures, criterion=self._criterion(figures), counts=counts)
        self.position = self.position.model_copy(update={"looks": (*self.position.looks, look)})
        bits = bits_per_byte(self.task, loss)
        told = {f"validation_{name}": value for name, value in figures.items()}
        told |= {} if bits is None else {"validation_bits_per_byte": bits}
        self._journal.tell(self.position.step, validation_loss=loss, **told)
        if self.place.world.leads and self.position.best is not None:
            checkpoint.prune(self._checkpoints, self.spec.keep_last, self.position.best.step)
        self._journal.restart_clock()

    def _look_at(self, max_rows: int | None, rows: Rows | None = None) -> tuple[float, dict[str, float]]:
        task = self.task if rows is None else replace(self.task, validation=rows)
        with self._stopwatch.lap("validation"):
            return self._micro.run(lambda: look_at(self._losses, task, self.place, max_rows, self._micro.rows), lambda: None)

    def _criterion(self, figures: dict[str, float]) -> float | None:
        watch = self.task.watch
        return watch.criterion(figures) if watch is not None and watch.criterion is not None else None

    # -- the end ---------------------------------------------------------------------------------------------------

    def _select(self) -> int:
        """Gives the model the weights that are kept, and returns their step."""
        best = self.position.best
        assert best is not None, "a training looks at its last step"
        selected = best.step if self.spec.select == "best" else self.position.step
        if selected != self.position.step:
            folder = checkpoint.checkpoint_folder(self._checkpoints, selected)
            checkpoint.check(folder)
            checkpoint.load(folder, self.model, self.optimizer)
        if self.spec.ema_decay is not None:
            adopt_average(self.optimizer, trained_weights(self.model))
        return selected

    def _finish(self) -> TrainResult:
        selected = self._select()
        loss, figures = next((look.loss, look.figures) for look in self.position.looks if look.step == selected)
        if self.spec.eval_rows is not None:
            loss, figures = self._look_at(None)
        judged = self._judged()
        self._journal.tell_times(self.position.step, self._stopwatch.figures(self.place.world.device))
        if not (recent := self.position.recent_losses):
            raise diverged("every batch was passed over", f"step {self.position.step}, the last")
        return TrainResult(
            num_parameters=num_parameters(self.model),
            num_trained_parameters=num_parameters(self.model, trained_only=True),
            num_steps=self.position.step,
            num_tokens=self.position.num_tokens,
            selected_step=selected,
            num_epochs=(self.position.step + self.position.num_passed_batches) * self.spec.batch_rows / self.task.train.num_rows,
            train_loss=sum(recent) / len(recent),
            first_validation_loss=self.position.looks[0].loss,
            validation_loss=loss,
            validation_bits_per_byte=bits_per_byte(self.task, loss),
            judged=judged,
            notes={"anomalies": self.position.num_anomalies, "micro_batch_halvings": self._micro.num_halvings},
            figures=figures,
        )

    def _judged(self) -> dict[str, float]:
        if self.task.judged is None:
            return {}
        loss, figures = self._look_at(None, self.task.judged)
        return {"loss": loss} | figures


def _step_seed(seed: int, step: int, rank: int) -> int:
    """Returns the seed of a step's random numbers (dropout): resuming needs no generator's state."""
    return (((seed << 32) + step) * 1024 + rank) & ((1 << 63) - 1)
