"""MFU: the FLOPs that are counted are those of the formula, the rate is a rate, and the run reports both."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tasks.modeling.batches import Batch, StreamRows, make_batch
from tasks.modeling.loop import _Loss
from tasks.modeling.model import build_model
from tasks.modeling.objectives.causal import CausalSpec
from tasks.modeling.parallel import joined
from tasks.modeling.records import read_records
from tasks.modeling.sizing import flops_per_token
from tasks.modeling.task import Task
from tasks.modeling.utilization import Products, best_seconds, measure
from tasks.tuning.lora import LoraSpec
from tests.modeling.training import MODEL, SPECIAL, TinyJob, tiny_loop, tiny_rows, train_tiny

CPU = torch.device("cpu")
CAUSAL = CausalSpec(kind="causal")


def task(loss: Callable[[Any, Batch], torch.Tensor]) -> Task:
    return Task(loss, tiny_rows(1), tiny_rows(2))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_flops_of_a_row_are_those_of_the_formula(precision: str) -> None:
    """With one document a row; of shorter ones, attention is taken by each alone."""
    loss, tokens = _Loss(build_model(MODEL, 64, SPECIAL, 0), task(CAUSAL.loss)), np.full(4 * 32, 5, dtype=np.uint16)
    found = measure(loss, make_batch(StreamRows([tokens], 32, 0), np.arange(4), CPU), CPU, precision)
    assert found is not None
    assert found.flops_per_row == 32 * flops_per_token(MODEL, 64)
    tokens[7::8] = 0
    short = measure(loss, make_batch(StreamRows([tokens], 32, 0), np.arange(4), CPU), CPU, precision)
    assert short is not None
    assert short.flops_per_row == 32 * flops_per_token(MODEL.model_copy(update={"context_tokens": 8}), 64)
    assert 1e6 < found.flops_per_s < 1e15


def test_mfu_by_hand() -> None:
    assert Products(flops_per_row=3e9, flops_per_s=1e12).mfu(num_rows=100, seconds=0.6) == pytest.approx(0.5)


def test_what_has_no_product_has_no_rate() -> None:
    batch = make_batch(tiny_rows(1), np.arange(4), CPU)
    assert measure(_Loss(None, task(lambda model, batch: torch.zeros(()))), batch, CPU, "fp32") is None


def test_a_busy_moment_does_not_count() -> None:
    waits = iter([0.05])

    def product() -> torch.Tensor:
        time.sleep(next(waits, 0.0))
        return torch.zeros(())

    assert best_seconds(product, CPU) < 0.05


def test_what_a_run_reports_is_flops_over_seconds_and_rate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All rows have 32 targets, so that the seconds of a step follow from its targets a second."""
    assert {int(tiny_rows(1).num_targets(np.array([row]))) for row in range(tiny_rows(1).num_rows)} == {32}
    monkeypatch.setattr("tasks.modeling.loop.measure", lambda *_: Products(flops_per_row=2e6, flops_per_s=1e9))
    train_tiny(TinyJob(folder=tmp_path))
    found = [record for record in read_records(tmp_path / "metrics.jsonl") if "mfu" in record]
    assert len(found) == 19
    assert [one["mfu"] for one in found] == pytest.approx([2e6 / 32 * one["tokens_per_s"] / 1e9 for one in found])


def test_a_run_reports_it_and_the_time_that_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[dict[str, float]] = []
    monkeypatch.setattr("tasks.modeling.journal.child.report", lambda **figures: told.append(figures))
    train_tiny(TinyJob(folder=tmp_path))
    rates = [record["mfu"] for record in read_records(tmp_path / "metrics.jsonl") if "mfu" in record]
    assert len(rates) == 19  # it is measured after the first step
    assert min(rates) > 0
    assert [one["mfu"] for one in told[1:]] == rates
    assert told[-1]["seconds_left"] == 0 < told[0]["seconds_left"]


def test_where_some_weights_stand_still_there_is_none(tmp_path: Path) -> None:
    with joined("cpu") as world:
        loop = tiny_loop(TinyJob(folder=tmp_path), world)
        assert loop._takes_sample
        LoraSpec(kind="lora", rank=2).prepare(loop.model, 0)
        loop.__post_init__()
        assert not loop._takes_sample
