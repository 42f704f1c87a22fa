"""SIGKILL at twenty moments drawn at random, in steps, looks and saves: the training goes on each time, to the same bits.

And SIGTERM, as whoever cancels a run sends it: the training saves and leaves by itself.
"""

import importlib
import json
import multiprocessing
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import BaseModel
from safetensors.torch import load_file

from tasks.core.child import started
from tasks.core.errors import TransientError
from tasks.core.site import Site
from tasks.modeling.job import METRICS_NAME, PretrainJob
from tasks.modeling.records import read_records
from tasks.modeling.specs import AdamWSpec, ModelSpec, TrainSpec
from tasks.pretrain import PretrainSpec, pretrain
from tests.data.kit import no_base
from tests.modeling.kit import ToySpec, toy_tokenizer, toy_tokens

NUM_KILLS, NUM_STEPS = 20, 120
SPEC = PretrainSpec(
    model=ModelSpec(depth=2, width=32, num_heads=2, ffn_width=64, context_tokens=64),
    optim=AdamWSpec(kind="adamw", learning_rate=1e-2),
    train=TrainSpec(batch_rows=8, num_tokens=8 * 64 * NUM_STEPS, eval_every_steps=12, checkpoint_every_steps=5),
    precision="fp32",
)


def train(function: str, job: str) -> None:
    """Runs a training child's function, in a process of its own."""
    torch.set_num_threads(1)
    module, name = function.split(":")
    getattr(importlib.import_module(module), name)(PretrainJob.model_validate_json(job))


@contextmanager
def killed_at(moments: list[tuple[int, float]], survived: list[int]) -> Iterator[None]:
    """Lets the training child be killed so many seconds after each of these steps, and started again.

    Args:
        moments: Steps and seconds.
        survived: Gets the latest step on record at each kill.
    """
    processes = multiprocessing.get_context("forkserver")  # a process that has loaded torch, to be copied each time
    processes.set_forkserver_preload(["tasks.modeling.train"])

    def run(function: str, job: BaseModel, ctx: Any, **_: Any) -> None:
        records = ctx.dir / "extra" / METRICS_NAME
        for step, delay_s in [*moments, (None, 0.0)]:
            process = processes.Process(target=train, args=(function, job.model_dump_json()))
            process.start()
            if step is None:
                process.join()
                assert process.exitcode == 0
                return
            while process.is_alive() and _latest(records) < step:
                time.sleep(0.002)
            time.sleep(delay_s)
            assert process.is_alive(), "it ended before the kill"
            process.kill()
            process.join()
            survived.append(_latest(records))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tasks.core.child.run_child", run)
        yield


def _latest(records: Path) -> int:
    found = read_records(records) if records.exists() else []
    return int(max((record["step"] for record in found), default=-1))


@pytest.mark.slow
def test_twenty_kills_change_no_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    moments = random.Random(20)
    steps = sorted(moments.sample(range(NUM_STEPS - 5), NUM_KILLS))
    kills = [(step, moments.uniform(0, 0.03)) for step in steps]
    made, seen = {}, {}
    for name, chosen in (("calm", []), ("killed", kills)):
        site = Site(state_dir=tmp_path / name)
        tokenizer = toy_tokenizer.build(ToySpec(), site=site)
        corpus = toy_tokens.build(ToySpec(size=200), tokenizer, site=site)
        with killed_at(chosen, seen.setdefault(name, [])):
            made[name] = pretrain.build(SPEC, corpus, tokenizer, no_base(site), site=site)
    assert len(seen["killed"]) == NUM_KILLS
    assert all(found >= step for found, step in zip(seen["killed"], steps, strict=True))
    assert made["killed"].digest == made["calm"].digest
    weights, expected = (load_file(made[name].path / "model" / "model.safetensors") for name in ("killed", "calm"))
    assert all(torch.equal(weights[name], expected[name]) for name in expected)
    assert made["killed"].train_loss == made["calm"].train_loss
    assert made["killed"].held_out == made["calm"].held_out


@pytest.mark.slow
def test_a_training_that_is_stopped_saves_and_leaves_before_it_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the end of `started` all processes get SIGTERM, and after 30 s SIGKILL, which leaves no error behind."""
    site = Site(state_dir=tmp_path / "state")
    tokenizer = toy_tokenizer.build(ToySpec(), site=site)
    corpus = toy_tokens.build(ToySpec(size=200), tokenizer, site=site)
    long = SPEC.model_copy(update={"train": SPEC.train.model_copy(update={"num_tokens": 8 * 64 * 100_000})})
    left: dict[str, Any] = {}

    def run(function: str, job: BaseModel, ctx: Any, **_: Any) -> None:
        job_file = tmp_path / "job.json"
        job_file.write_text(job.model_dump_json(), encoding="utf-8")
        with started(function, job_file, site, ctx.log, torchrun=True) as process:
            while _latest(ctx.dir / "extra" / METRICS_NAME) < 7:
                assert process.poll() is None
                time.sleep(0.01)
        left["error"] = json.loads(job_file.with_name("error.json").read_text(encoding="utf-8"))
        left["steps"] = {int(path.name[5:]) for path in (ctx.dir / "extra" / "checkpoints").iterdir()}
        raise TransientError("stopped")

    monkeypatch.setattr("tasks.core.child.run_child", run)
    with pytest.raises(TransientError, match=r"^stopped$"):
        pretrain.build(long, corpus, tokenizer, no_base(site), site=site)
    assert left["error"]["type"] == "TransientError"
    assert f"asked to stop at step {max(left['steps'])}; it resumes from there" in left["error"]["message"]
