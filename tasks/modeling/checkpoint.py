# ruff: noqa: TID253  (runs in training children only; holds no Spec)
"""Checkpoints: `step-000100/` with weights, optimiser state and position, and a marker with digests, written last.

In: a model, its optimiser and a `Position`. Out: folders, and the latest one that is whole. Invariants: nothing is pickled; a
folder without its marker, cut short or with one byte changed is never loaded; the previous one is used instead; any number of
processes loads what any other number wrote, sharded or not. Data order and random numbers are functions of `(seed, step)`, so
the step is all the position there is.
"""

import json
import logging
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict
from safetensors.torch import load_file, save_file

from tasks.core.errors import ContractError
from tasks.core.fingerprint import file_digest
from tasks.core.store import write_durably
from tasks.modeling import sharded
from tasks.modeling.optim import trained_weights
from tasks.modeling.parallel import World, shard_like

MARKER = "complete.json"
_WEIGHTS, _OPTIMIZER, _POSITION = "model", "optimizer", "position.json"
_MOMENTS = ("exp_avg", "exp_avg_sq", "step", "momentum_buffer", "average")
_log = logging.getLogger("textmill.checkpoint")


class Look(BaseModel):
    """One look at the validation split.

    Attributes:
        figures: What was seen beside the loss.
        criterion: What the best look has least of; none: its loss.
        counts: Whether its weights may be selected.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    step: int
    loss: float
    figures: dict[str, float] = {}
    criterion: float | None = None
    counts: bool = True

    @property
    def rank(self) -> float:
        """What looks are compared by: the less, the better."""
        return self.loss if self.criterion is None else self.criterion


class Position(BaseModel):
    """Where a training stands.

    Attributes:
        step: Optimiser steps done.
        num_tokens: Targets learned from so far.
        looks: Looks at the validation split before this step.
        recent_losses: Training loss of the latest steps, anomalies apart.
        num_anomalies: Batches passed over for their loss or gradient.
        num_passed_batches: Batches that rolling back left out: so far ahead of the step is the data.
        scaler: State of the gradient scaler of fp16.
        num_halvings: How often memory ran out, and the rows at once were halved.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    step: int = 0
    num_tokens: int = 0
    looks: tuple[Look, ...] = ()
    recent_losses: tuple[float, ...] = ()
    num_anomalies: int = 0
    num_passed_batches: int = 0
    scaler: dict[str, int | float] = {}
    num_halvings: int = 0

    @property
    def best(self) -> Look | None:
        """The look that counts with the lowest loss, or criterion; of equal ones the first."""
        return min((look for look in self.looks if look.counts), key=lambda look: look.rank, default=None)

    def is_stuck(self, patience: int | None) -> bool:
        """Says whether `patience` looks have followed the best one."""
        best = self.best
        return patience is not None and best is not None and sum(look.step > best.step for look in self.looks) >= patience


def checkpoint_folder(root: Path, step: int) -> Path:
    """Returns the folder of a step's checkpoint."""
    return root / f"step-{step:06d}"


def save(root: Path, model: Any, optimizer: torch.optim.Optimizer, position: Position, world: World) -> Path:
    """Writes a checkpoint beside its place, marks it whole, and moves it there; all processes take part."""
    folder = checkpoint_folder(root, position.step)
    beside = root / f".{folder.name}"
    if world.leads:
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
    world.wait()
    _write(beside, _tensors(model, optimizer), world)
    if world.leads:
        (beside / _POSITION).write_text(position.model_dump_json(indent=1), encoding="utf-8")
        model.config.save_pretrained(beside)  # with it any kept checkpoint that is not sharded loads by itself
        _mark(beside)
        shutil.rmtree(folder, ignore_errors=True)
        beside.rename(folder)
    world.wait()
    return folder


def _tensors(model: Any, optimizer: torch.optim.Optimizer) -> dict[str, dict[str, torch.Tensor]]:
    """Returns what a checkpoint holds, by part; the name of what belongs to a weight ends in `/` and the weight's."""
    weights = trained_weights(model)
    return {_WEIGHTS: {name: weight.detach() for name, weight in weights.items()}, _OPTIMIZER: _moments(optimizer, weights)}


def _write(folder: Path, parts: dict[str, dict[str, torch.Tensor]], world: World) -> None:
    if world.shards:
        sharded.write(folder, {f"{part}/{name}": value for part, values in parts.items() for name, value in values.items()})
    elif world.leads:
        for part, values in parts.items():
            values = {name: value.contiguous() for name, value in values.items()}
            save_file(values, folder / f"{part}.safetensors", {"format": "pt"} if part == _WEIGHTS else None)


def _read(folder: Path, part: str, model: Any) -> dict[str, torch.Tensor]:
    """Returns the stored tensors of a part, each spread over the processes as its weight is now."""
    weights = trained_weights(model)
    if sharded.holds_shards(folder):
        return sharded.read(folder, part, weights)
    stored = load_file(folder / f"{part}.safetensors")
    return {name: shard_like(value, weights.get(name.rpartition("/")[2], value)) for name, value in stored.items()}


def _moments(optimizer: torch.optim.Optimizer, weights: dict[str, torch.nn.Parameter]) -> dict[str, torch.Tensor]:
    return {
        f"{moment}/{name}": optimizer.state[weight][moment]
        for name, weight in weights.items()
        for moment in _MOMENTS
        if moment in optimizer.state[weight]
    }


def _mark(folder: Path) -> None:
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    write_durably(folder / MARKER, json.dumps({path.name: file_digest(path) for path in sorted(folder.iterdir())}, indent=1))


def check(folder: Path) -> None:
    """Hashes a checkpoint.

    Raises:
        ContractError: It has no marker, or a file is missing or differs from what was written.
    """
    try:
        digests = json.loads((folder / MARKER).read_text(encoding="utf-8"))
        for name, digest in digests.items():
            if file_digest(folder / name) != digest:
                raise ContractError(f"{folder / name} is damaged: its digest is not the one in {MARKER}")
    except (OSError, ValueError) as error:
        raise ContractError(f"{folder} is no whole checkpoint: {error}") from error


def steps(root: Path) -> list[int]:
    """Returns the steps that have a checkpoint, whole or not, in order."""
    return sorted(int(path.name.removeprefix("step-")) for path in root.glob("step-*"))


def latest(root: Path) -> Path | None:
    """Returns the latest whole checkpoint, and removes what a kill left half written or what is damaged.

    Training comes by the steps of the damaged ones again. Only one process may tidy up.
    """
    for leftover in root.glob(".step-*"):
        shutil.rmtree(leftover)
    for step in reversed(steps(root)):
        folder = checkpoint_folder(root, step)
        try:
            check(folder)
            return folder
        except ContractError as error:
            _log.warning("not resuming from %s: %s; trying the one before", folder.name, error)
            shutil.rmtree(folder)
    return None


def load(folder: Path, model: Any, optimizer: torch.optim.Optimizer) -> Position:
    """Loads a whole checkpoint into a model and its optimiser, which keeps nothing of later steps."""
    optimizer.state.clear()  # what a weight has no moments of there, it has none of: before its first update there are none
    load_weights(folder, model)
    _load_moments(folder, model, optimizer)
    return Position.model_validate_json((folder / _POSITION).read_bytes())


def load_weights(folder: Path, model: Any) -> None:
    """Copies the weights of a checkpoint into a model, on as many processes as there are."""
    stored = _read(folder, _WEIGHTS, model)
    weights = trained_weights(model)
    if stored.keys() != weights.keys():
        raise ContractError(
            f"{folder} holds other weights than the model ({sorted(stored.keys() ^ weights.keys())[:4]} ...); "
            "remove the folder that holds it and run again"
        )
    with torch.no_grad():
        for name, weight in weights.items():
            weight.copy_(stored[name])


def _load_moments(folder: Path, model: Any, optimizer: torch.optim.Optimizer) -> None:
    stored = _read(folder, _OPTIMIZER, model)
    for name, weight in trained_weights(model).items():
        for moment in _MOMENTS:
            if (value := stored.get(f"{moment}/{name}")) is not None:
                optimizer.state[weight][moment] = value


def drop_after(root: Path, step: int) -> None:
    """Removes the checkpoints of later steps: the training takes another way from here."""
    for later in steps(root):
        if later > step:
            _remove(checkpoint_folder(root, later))


def prune(root: Path, keep_last: int, best: int | None) -> None:
    """Removes all checkpoints but the latest `keep_last` and the best."""
    for step in steps(root)[:-keep_last]:
        if step != best:
            _remove(checkpoint_folder(root, step))


def _remove(folder: Path) -> None:
    (folder / MARKER).unlink(missing_ok=True)  # first, so that a half-removed one is never taken for whole
    shutil.rmtree(folder)
