"""A tiny training, in this process or as a child, for the tests of the loop."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import BaseModel

from tasks.core.site import Sharding
from tasks.modeling.batches import Row, StreamRows
from tasks.modeling.job import Compute, TrainResult
from tasks.modeling.loop import Loop
from tasks.modeling.model import build_model
from tasks.modeling.objectives.causal import CausalSpec
from tasks.modeling.parallel import World, joined
from tasks.modeling.specs import AdamWSpec, ModelSpec, OptimSpec, TrainSpec
from tasks.modeling.task import Place, Task
from tasks.modeling.words import SpecialIds

SPECIAL = SpecialIds(end_of_text=0, pad=1, turn_end=3)
MODEL = ModelSpec(depth=2, width=32, num_heads=2, ffn_width=64, context_tokens=32)
TRAIN = TrainSpec(batch_rows=4, num_tokens=4 * 32 * 20, eval_every_steps=6, checkpoint_every_steps=4)


class TinyJob(BaseModel):
    """Where the tiny training works, and what differs from the usual; at `stop_at` somebody asks it to stop."""

    folder: Path
    train: TrainSpec = TRAIN
    optim: OptimSpec = AdamWSpec(kind="adamw", learning_rate=1e-2)
    precision: str = "fp32"
    micro_rows: int = 2
    sharding: Sharding = "ddp"
    stop_at: int | None = None
    compute: Compute = Compute()


def tiny_rows(seed: int, num_tokens: int = 32 * 41) -> StreamRows:
    """Makes a stream in which each token is a function of the one before, with some noise."""
    random = np.random.default_rng(seed)
    tokens = [5]
    while len(tokens) < num_tokens:
        tokens.append(0 if random.random() < 0.05 else 4 + (tokens[-1] * 7 + int(random.integers(2))) % 60)
    return StreamRows([np.array(tokens, dtype=np.uint16)], 32, 0)


def tiny_loop(job: TinyJob, world: Any) -> Loop:
    """Returns the loop of a job."""
    job.folder.mkdir(parents=True, exist_ok=True)
    task = Task(CausalSpec(kind="causal").loss, tiny_rows(1), tiny_rows(2, 300), validation_bytes=600)
    place = Place(job.folder, world, job.precision, job.micro_rows, job.compute)
    return Loop(build_model(MODEL, 64, SPECIAL, 0), task, job.train, job.optim, 7, place)


def train_tiny(job: TinyJob) -> tuple[TrainResult, Any]:
    """Trains in this process; returns the result and the model."""
    with joined("cpu") as world:
        loop = tiny_loop(job, world)
        return loop.run(), loop.model


class Killed(Exception):
    """Stands for SIGKILL: nothing is saved on the way out."""


def cut_off(job: TinyJob, at_step: int) -> None:
    """Trains until the data of the step after `at_step` is read, and dies there."""
    with joined("cpu") as world:
        loop = tiny_loop(job, world)
        read = loop.task.train.row

        def row(index: int) -> Any:
            if loop.position.step == at_step:
                raise Killed
            return read(index)

        loop.task.train.row = row  # type: ignore[method-assign]
        with pytest.raises(Killed):
            loop.run()


def tiny_main(job: TinyJob) -> None:
    """Trains as a child and leaves result and model."""
    with joined("cpu", job.sharding) as world:
        _train_in(job, world)


def compiled_main(job: TinyJob) -> None:
    """Trains as a child and leaves how often compiled code was found in the cache, and how often not."""
    from torch._dynamo.utils import counters

    tiny_main(job)
    found = {name: counters["inductor"][f"fxgraph_cache_{name}"] for name in ("hit", "miss", "bypass")}
    (job.folder / "cache.json").write_text(json.dumps(found))


def both_ways_main(job: TinyJob) -> None:
    """Trains once with replicated and once with sharded weights, in the same processes."""
    with joined("cpu") as world:
        for way in ("ddp", "fsdp2"):
            _train_in(job.model_copy(update={"folder": job.folder / way}), replace(world, sharding=way))


def _train_in(job: TinyJob, world: World) -> None:
    loop = tiny_loop(job, world)
    if job.stop_at is not None:
        _stop_at(loop, job.stop_at)
    result = loop.run()
    if world.leads:
        (job.folder / "result.json").write_text(result.model_dump_json())
        loop.model.save_pretrained(job.folder / "model")


def _stop_at(loop: Loop, step: int) -> None:
    read = loop.task.train.row

    def row(index: int) -> Row:
        loop.interrupt.requested |= loop.position.step == step - 1
        return read(index)

    loop.task.train.row = row  # type: ignore[method-assign]
