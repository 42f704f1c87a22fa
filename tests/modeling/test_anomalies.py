"""Batches that cannot be learned from: stop, skip, roll back, never without end, and the same bits after a kill."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from tasks.core.errors import StageError
from tasks.modeling.anomalies import NUM_RECENT, find_anomaly
from tasks.modeling.batches import Batch, step_rows
from tasks.modeling.job import TrainResult
from tasks.modeling.loop import Loop
from tasks.modeling.parallel import joined
from tasks.modeling.records import read_records
from tasks.modeling.specs import AnomalySpec, TrainSpec
from tests.modeling.training import TRAIN, Killed, TinyJob, tiny_loop

BAD = 14  # the batch, counted from 0, whose loss is spoilt


def test_what_is_an_anomaly_by_hand() -> None:
    recent = [2.0] * 11 + [9.0] * 9
    assert find_anomaly(3.9, 1.0, recent, 2.0) is None
    assert find_anomaly(4.1, 1.0, recent, 2.0) == "loss 4.1, more than 2 times the median 2 of the latest 20 steps"
    assert find_anomaly(4.1, 1.0, recent[: NUM_RECENT - 1], 2.0) is None
    assert find_anomaly(4.1, 1.0, recent, None) is None
    assert find_anomaly(math.nan, 1.0, [], None) == "loss nan, gradient norm 1.0"
    assert find_anomaly(1.0, math.inf, [], None) == "loss 1.0, gradient norm inf"


def spec(action: str, **changes: Any) -> TrainSpec:
    return TRAIN.model_copy(update={"anomalies": AnomalySpec(action=action, **changes), "num_tokens": 4 * 32 * 30})


def spoilt(folder: Path, train: TrainSpec, factor: float, world: Any, die_at: int | None = None, *bad: int) -> Loop:
    """Returns a loop whose loss on batch `BAD` (and `bad`) is `factor` times what it should be."""
    loop = tiny_loop(TinyJob(folder=folder, train=train), world)
    rows, fine = loop.task.train, loop.task.loss
    first_rows = [int(step_rows(loop.seed, batch, 4, rows.num_rows)[0]) for batch in (BAD, *bad)]
    spoilt_ids = [torch.from_numpy(rows.row(row).ids_T) for row in first_rows]
    calls: list[int] = []

    def loss(model: Any, batch: Batch) -> torch.Tensor:
        calls.append(loop.position.step)
        if die_at is not None and loop.position.step == die_at and BAD in calls:
            raise Killed
        is_bad = model.training and any(torch.equal(batch.ids_BT[0], ids) for ids in spoilt_ids)
        return fine(model, batch) * (factor if is_bad else 1.0)

    loop._losses.loss = loss
    return loop


def train(folder: Path, train: TrainSpec, factor: float = math.nan, *bad: int) -> tuple[TrainResult, Loop]:
    with joined("cpu") as world:
        loop = spoilt(folder, train, factor, world, None, *bad)
        return loop.run(), loop


def same(one: Loop, other: Loop) -> bool:
    return all(torch.equal(value, other.model.state_dict()[name]) for name, value in one.model.state_dict().items())


def counts(folder: Path) -> list[tuple[int, float]]:
    records = read_records(folder / "metrics.jsonl")
    return [(record["step"], record["num_anomalies"]) for record in records if "num_anomalies" in record]


def test_stop_is_what_happens_by_default(tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"diverged at step 15 of 30.*loss nan"):
        train(tmp_path, spec("stop"))


@pytest.mark.parametrize(("action", "recorded_at"), [("skip", BAD + 1), ("roll_back", 13)])
def test_it_goes_on_counted_and_a_kill_afterwards_changes_no_bit(action: str, recorded_at: int, tmp_path: Path) -> None:
    result, whole = train(tmp_path / "whole", spec(action))
    assert result.notes["anomalies"] == 1
    assert (result.num_steps, math.isfinite(result.validation_loss)) == (30, True)
    assert counts(tmp_path / "whole") == [(recorded_at, 1)]
    for die_at in (BAD + 2, BAD + 1):
        folder = tmp_path / f"cut-{die_at}"
        with joined("cpu") as world, pytest.raises(Killed):
            spoilt(folder, spec(action), math.nan, world, die_at).run()
        again, resumed = train(folder, spec(action))
        assert again == result
        assert same(resumed, whole)
        assert counts(folder) == [(recorded_at, 1)]


def test_skipping_leaves_the_weights_and_the_tokens_of_the_batch_out(tmp_path: Path) -> None:
    result, loop = train(tmp_path, spec("skip"))
    lost = loop.task.train.num_targets(step_rows(loop.seed, BAD, 4, loop.task.train.num_rows))
    total = sum(loop.task.train.num_targets(step_rows(loop.seed, step, 4, loop.task.train.num_rows)) for step in range(30))
    assert result.num_tokens == total - lost
    assert float(loop.optimizer.state[loop.model.model.norm.weight]["step"]) == 29


def test_rolling_back_goes_on_with_the_batches_after_the_bad_one(tmp_path: Path) -> None:
    """Batch 14 is bad, the checkpoint before it is of step 12: steps 12, 13, ... take batches 15, 16, ..."""
    seen: list[int] = []
    with joined("cpu") as world:
        loop = spoilt(tmp_path, spec("roll_back"), math.nan, world)
        accumulate = loop._accumulate
        loop._accumulate = lambda rows, num: seen.append(int(rows[0])) or accumulate(rows, num)  # type: ignore[method-assign, func-returns-value]
        loop.run()
    order = [int(step_rows(loop.seed, batch, 4, loop.task.train.num_rows)[0]) for batch in range(33)]
    assert seen == order
    assert loop.position.num_passed_batches == 3


@pytest.mark.slow
def test_a_jump_is_measured_against_the_latest_steps(tmp_path: Path) -> None:
    """Half of the spoilt batch's rows have 5 times their loss, the whole has 3 times its own."""
    jump = spec("skip", spike_multiple=2.0)
    result, _ = train(tmp_path / "early", jump, 5.0)
    assert result.notes["anomalies"] == 0  # at batch 14 there are no 20 steps yet
    result, _ = train(tmp_path / "late", jump, 5.0, 25)
    assert result.notes["anomalies"] == 1
    with pytest.raises(StageError, match=r"diverged at step 26 of 30: loss .*, more than 2 times the median"):
        train(tmp_path / "stop", spec("stop", spike_multiple=2.0), 5.0, 25)


def test_there_is_an_end_to_passing_over(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="1 anomalies were passed over before"):
        train(tmp_path / "skip", spec("skip", max_count=1), math.nan, 20)
    with pytest.raises(StageError, match="1 anomalies were passed over before"):
        train(tmp_path / "back", spec("roll_back", max_count=1), math.nan, 20)


def test_where_no_batch_is_left_there_is_no_model(tmp_path: Path) -> None:
    one = spec("skip").model_copy(update={"num_tokens": 4 * 32})
    with joined("cpu") as world:
        loop = tiny_loop(TinyJob(folder=tmp_path, train=one), world)
        loop._losses.loss = lambda model, batch: loop.task.loss(model, batch) * math.nan
        with pytest.raises(StageError, match="every batch was passed over"):
            loop.run()


def test_rolling_back_to_the_start_forgets_the_moments(tmp_path: Path) -> None:
    rare = spec("roll_back").model_copy(update={"eval_every_steps": 100, "checkpoint_every_steps": 100})
    result, loop = train(tmp_path, rare)
    assert result.notes["anomalies"] == 1
    assert float(loop.optimizer.state[loop.model.model.norm.weight]["step"]) == 30
