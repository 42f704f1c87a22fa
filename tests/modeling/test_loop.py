"""The loop: the same bits twice, cut off or not, alone or in company."""

import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tasks.core.errors import ContractError, RecipeError, StageError, TransientError
from tasks.modeling import checkpoint
from tasks.modeling.batches import IGNORED
from tasks.modeling.parallel import World, joined
from tasks.modeling.records import read_records
from tasks.modeling.specs import AdamWSpec
from tests.modeling.training import TRAIN, TinyJob, cut_off, tiny_loop, tiny_rows, train_tiny


def same(one: Any, other: Any) -> bool:
    return all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any, Path]:
    """An uninterrupted training: result, model, folder."""
    folder = tmp_path_factory.mktemp("whole")
    return *train_tiny(TinyJob(folder=folder)), folder


def without_times(folder: Path) -> list[dict[str, float]]:
    return [
        {name: value for name, value in record.items() if not name.startswith(("tokens_per_s", "mfu", "seconds_", "peak_memory"))}
        for record in read_records(folder / "metrics.jsonl")
    ]


def test_it_learns_and_says_what_it_did(whole: tuple[Any, Any, Path]) -> None:
    result, _, folder = whole
    assert (result.num_steps, result.selected_step) == (20, 20)
    assert result.num_epochs == pytest.approx(20 * 4 / 41)
    assert result.validation_loss < result.first_validation_loss - 1
    assert result.validation_bits_per_byte == pytest.approx(result.validation_loss / 0.6931472 * 300 / 600, rel=1e-6)
    looks = [record["step"] for record in read_records(folder / "metrics.jsonl") if "validation_loss" in record]
    assert looks == [0, 4, 6, 8, 12, 16, 18, 20]
    assert checkpoint.steps(folder / "checkpoints")[-2:] == [18, 20]


def test_gradients_are_cleared_after_each_step(tmp_path: Path) -> None:
    with joined("cpu") as world:
        loop = tiny_loop(TinyJob(folder=tmp_path), world)
        loop._resume()
        for _ in range(2):
            loop._step()
            assert all(weight.grad is None or not weight.grad.any() for weight in loop.model.parameters())


def test_a_step_without_a_target_has_the_loss_0(tmp_path: Path) -> None:
    with joined("cpu") as world:
        loop = tiny_loop(TinyJob(folder=tmp_path), world)
        loop._resume()
        read = loop.task.train.row
        loop.task.train.row = lambda index: replace(read(index), targets_T=np.full(32, IGNORED))  # type: ignore[method-assign]
        loop.task.train.num_targets = lambda indices: 0  # type: ignore[method-assign]
        loop._step()
    assert loop.position.recent_losses == (0.0,)
    assert all(weight.isfinite().all() for weight in loop.model.parameters())


def test_the_same_bits_twice(whole: tuple[Any, Any, Path], tmp_path: Path) -> None:
    result, model = train_tiny(TinyJob(folder=tmp_path))
    assert result == whole[0]
    assert same(model, whole[1])


@pytest.mark.parametrize("stop_at", [1, 6, 13])
def test_sigterm_saves_and_the_rest_is_the_same(whole: tuple[Any, Any, Path], tmp_path: Path, stop_at: int) -> None:
    def stopping(loop: Any) -> None:
        rows = loop.task.train
        read = rows.row

        def row(index: int) -> Any:
            if loop.position.step == stop_at - 1:
                os.kill(os.getpid(), signal.SIGTERM)
            return read(index)

        rows.row = row

    job = TinyJob(folder=tmp_path)
    with joined("cpu") as world:
        loop = tiny_loop(job, world)
        stopping(loop)
        with pytest.raises(TransientError, match=f"asked to stop at step {stop_at}"):
            loop.run()
    assert checkpoint.steps(tmp_path / "checkpoints")[-1] == stop_at
    result, model = train_tiny(job)
    assert result == whole[0]
    assert same(model, whole[1])
    assert without_times(tmp_path) == without_times(whole[2])


def test_a_kill_between_checkpoints_changes_nothing(whole: tuple[Any, Any, Path], tmp_path: Path) -> None:
    cut_off(TinyJob(folder=tmp_path), at_step=14)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 15, "train_l')
    result, model = train_tiny(TinyJob(folder=tmp_path))
    assert result == whole[0]
    assert same(model, whole[1])
    assert without_times(tmp_path) == without_times(whole[2])


def test_micro_batches_change_only_rounding(whole: tuple[Any, Any, Path], tmp_path: Path) -> None:
    result, _ = train_tiny(TinyJob(folder=tmp_path, micro_rows=3))
    assert result.train_loss == pytest.approx(whole[0].train_loss, rel=1e-4)


def test_bf16_learns_about_the_same_in_fp32_weights(whole: tuple[Any, Any, Path], tmp_path: Path) -> None:
    result, model = train_tiny(TinyJob(folder=tmp_path, precision="bf16"))
    assert result.validation_loss == pytest.approx(whole[0].validation_loss, rel=0.05)
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}


def test_divergence_says_where_and_what_to_do(tmp_path: Path) -> None:
    with joined("cpu") as world:
        loop = tiny_loop(TinyJob(folder=tmp_path), world)
        with torch.no_grad():
            loop.model.model.norm.weight.fill_(float("nan"))
        with pytest.raises(StageError, match=r"diverged at step 1 of 20, learning rate 0\.01: loss nan.*Lower optim"):
            loop.run()


def test_patience_ends_it_and_the_best_weights_are_taken(tmp_path: Path) -> None:
    spec = TRAIN.model_copy(update={"patience_evals": 2, "select": "best", "keep_last": 1})
    with joined("cpu") as world:
        loop = tiny_loop(TinyJob(folder=tmp_path, train=spec), world)
        losses = iter([3.0, 2.0, 2.5, 2.4])
        loop._look_at = lambda max_rows: (next(losses), {})  # type: ignore[method-assign]
        result = loop.run()
    assert (result.num_steps, result.selected_step, result.validation_loss) == (8, 4, 2.0)
    assert checkpoint.steps(tmp_path / "checkpoints") == [4, 8]
    weights = checkpoint.load_file(tmp_path / "checkpoints" / "step-000004" / "model.safetensors")
    assert all(torch.equal(weights[name], weight) for name, weight in loop.model.named_parameters())


def test_best_weights_that_are_damaged_do_not_become_the_model(tmp_path: Path) -> None:
    spec = TRAIN.model_copy(update={"patience_evals": 2, "select": "best"})
    with joined("cpu") as world:
        loop = tiny_loop(TinyJob(folder=tmp_path, train=spec), world)
        losses = iter([3.0, 2.0, 2.5, 2.4])

        def look(max_rows: int | None) -> Any:
            if loop.position.step == 8:
                path = tmp_path / "checkpoints" / "step-000004" / "model.safetensors"
                path.write_bytes(path.read_bytes()[:-1] + b"!")
            return next(losses), {}

        loop._look_at = look  # type: ignore[method-assign, assignment]
        with pytest.raises(ContractError, match=r"step-000004/model.safetensors is damaged"):
            loop.run()


def test_a_learning_rate_of_0_changes_no_weight(tmp_path: Path) -> None:
    with joined("cpu") as world:
        loop = tiny_loop(TinyJob(folder=tmp_path, optim=AdamWSpec(kind="adamw", learning_rate=0.0)), world)
        before = {name: value.clone() for name, value in loop.model.state_dict().items()}
        result = loop.run()
    assert all(torch.equal(value, before[name]) for name, value in loop.model.state_dict().items())
    assert result.validation_loss == result.first_validation_loss


def test_a_batch_that_cannot_be_divided_is_the_recipe_s_error() -> None:
    with pytest.raises(RecipeError, match="batch_rows 32 cannot be divided among 3 processes"):
        World(0, 3, torch.device("cpu")).local_rows(32)


def test_part_of_the_validation_rows_is_spread_evenly(tmp_path: Path) -> None:
    spec = TRAIN.model_copy(update={"eval_rows": 3, "num_tokens": 4 * 32})
    seen: list[int] = []
    with joined("cpu") as world:
        loop = tiny_loop(TinyJob(folder=tmp_path, train=spec), world)
        read = loop.task.validation.row
        loop.task.validation.row = lambda index: seen.append(index) or read(index)  # type: ignore[method-assign, func-returns-value]
        loop.run()
    num_rows = tiny_rows(2, 300).num_rows
    assert num_rows == 10
    assert seen[:3] == [0, 4, 9]
    assert sorted(seen[-10:]) == list(range(10))  # the figure of the model is over all rows


def test_records_are_json_lines(whole: tuple[Any, Any, Path]) -> None:
    lines = (whole[2] / "metrics.jsonl").read_text().splitlines()
    names = {"train_loss", "gradient_norm", "learning_rate", "tokens_per_s", "step"}
    assert [set(json.loads(line)) for line in lines[1:3]] == [names, names | {"mfu"}]
