"""Memory: what happens where it runs out, what recomputing changes, and fp16's scaler."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from flows.presets import load_recipe
from tasks.core.errors import RecipeError, StageError
from tasks.core.site import Site
from tasks.modeling.batches import Batch, Row
from tasks.modeling.compute import computed
from tasks.modeling.job import Compute, TrainResult
from tasks.modeling.loop import Loop
from tasks.modeling.memory import MicroBatches, where_it_fits
from tasks.modeling.model import build_model
from tasks.modeling.parallel import World, joined
from tasks.modeling.records import read_records
from tests.modeling.training import MODEL, SPECIAL, TRAIN, Killed, TinyJob, cut_off, tiny_loop, train_tiny

CPU_ERROR = "[enforce fail at alloc_cpu.cpp:128] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate ..."


def train_within(folder: Path, max_rows: int, error: Exception, micro_rows: int = 4) -> tuple[TrainResult, Loop]:
    """Trains where more than `max_rows` rows at once do not fit."""
    with joined("cpu") as world:
        loop = tiny_loop(TinyJob(folder=folder, micro_rows=micro_rows), world)
        fine = loop.task.loss

        def loss(model: Any, batch: Batch) -> torch.Tensor:
            if model.training and len(batch.ids_BT) > max_rows:
                raise error
            return fine(model, batch)

        loop._losses.loss = loss
        return loop.run(), loop


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory."), RuntimeError(CPU_ERROR)], ids=["cuda", "cpu"])
def test_where_memory_runs_out_half_the_rows_go_twice_as_often(
    error: Exception, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    small, model = train_tiny(TinyJob(folder=tmp_path / "small", micro_rows=1))
    result, loop = train_within(tmp_path / "large", 1, error)
    assert (result.notes["micro_batch_halvings"], loop._micro.rows) == (2, 1)
    assert (result.train_loss, result.validation_loss) == (small.train_loss, small.validation_loss)
    assert all(torch.equal(value, loop.model.state_dict()[name]) for name, value in model.state_dict().items())
    assert "memory ran out; 2 rows at a time from now on" in caplog.text


def test_a_look_that_runs_out_of_memory_takes_half_the_rows_too(tmp_path: Path) -> None:
    """The first one comes before the first step."""
    job = TinyJob(folder=tmp_path / "small", train=TRAIN.model_copy(update={"num_tokens": 4 * 32 * 2}), micro_rows=1)
    small, _ = train_tiny(job)
    with joined("cpu") as world:
        loop = tiny_loop(job.model_copy(update={"folder": tmp_path / "large", "micro_rows": 4}), world)
        fine = loop.task.loss

        def loss(model: Any, batch: Batch) -> torch.Tensor:
            if not model.training and len(batch.ids_BT) > 1:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return fine(model, batch)

        loop._losses.loss = loss
        result = loop.run()
    assert result.notes["micro_batch_halvings"] == 2
    assert (result.first_validation_loss, result.validation_loss) == (small.first_validation_loss, small.validation_loss)


def test_a_resumed_training_takes_as_few_rows_at_once_as_before(tmp_path: Path) -> None:
    """What ran out early may fit later on; how many rows go at once is in the bits of their sum."""

    def within(folder: Path, cut_at: int | None = None) -> tuple[TrainResult, Any]:
        job = TinyJob(folder=folder, train=TRAIN.model_copy(update={"num_tokens": 4 * 32 * 8}), micro_rows=4)
        with joined("cpu") as world:
            loop = tiny_loop(job, world)
            fine, read = loop.task.loss, loop.task.train.row

            def loss(model: Any, batch: Batch) -> torch.Tensor:
                if model.training and loop.position.step < 3 and len(batch.ids_BT) > 2:
                    raise torch.OutOfMemoryError("CUDA out of memory.")
                return fine(model, batch)

            def row(index: int) -> Row:
                if loop.position.step == cut_at:
                    raise Killed
                return read(index)

            loop._losses.loss, loop.task.train.row = loss, row  # type: ignore[method-assign]
            return loop.run(), loop.model

    whole, model = within(tmp_path / "whole")
    with pytest.raises(Killed):
        within(tmp_path / "cut", cut_at=5)
    resumed, again = within(tmp_path / "cut")
    assert resumed.notes["micro_batch_halvings"] == 1
    assert resumed == whole
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())


def test_one_row_that_does_not_fit_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"with 1 row at a time: CUDA out.*TEXTMILL_LOSS_CHUNK_TOKENS.*model\.context_tokens"):
        train_within(tmp_path, 0, torch.OutOfMemoryError("CUDA out of memory."))


def test_one_of_several_processes_does_not_change_its_rows_alone() -> None:
    def attempt() -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    with pytest.raises(StageError, match=r"TEXTMILL_MICRO_BATCH_ROWS=2 and run again"):
        MicroBatches(4, can_halve=False).run(attempt, lambda: None)


def test_what_a_device_has_no_room_for_is_looked_at_on_the_host(caplog: pytest.LogCaptureFixture) -> None:
    """A training over shards ends with a model that no device alone had to hold."""
    errors = [torch.OutOfMemoryError("CUDA out of memory."), RuntimeError("shapes do not match")]

    def look(model: torch.nn.Module) -> str:
        if (device := next(model.parameters()).device.type) == "meta":
            raise errors.pop(0)
        return device

    class Model(torch.nn.Linear):
        def to(self, device: Any) -> Any:
            return torch.nn.Linear(2, 2, device=device)

    assert where_it_fits(Model(2, 2), torch.device("meta"), look) == "cpu"
    assert "its figures are computed on the host" in caplog.text
    with pytest.raises(RuntimeError, match="shapes"):
        where_it_fits(Model(2, 2), torch.device("meta"), look)


def test_another_error_is_not_taken_for_it(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="shapes"):
        train_within(tmp_path, 1, RuntimeError("shapes do not match"))


def losses(folder: Path) -> list[float]:
    return [record["train_loss"] for record in read_records(folder / "metrics.jsonl") if "train_loss" in record]


def train_computed(folder: Path, compute: Compute) -> Loop:
    with joined("cpu") as world:
        loop = tiny_loop(
            TinyJob(folder=folder, train=TRAIN.model_copy(update={"num_tokens": 4 * 32 * 6}), compute=compute), world
        )
        loop.run()
        return loop


def test_chunks_and_recomputing_learn_the_same(tmp_path: Path) -> None:
    plain = train_computed(tmp_path / "plain", Compute())
    saving = train_computed(tmp_path / "saving", Compute(recompute_activations=True, loss_chunk_tokens=16))
    assert saving.model.head_loss.chunk_tokens == 16
    assert losses(tmp_path / "saving") == pytest.approx(losses(tmp_path / "plain"), rel=1e-5)
    assert saving.model.config.to_dict() == plain.model.config.to_dict()


def test_recomputing_keeps_less_and_only_as_long_as_it_is_asked_for() -> None:
    def num_kept(model: Any) -> int:
        kept: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda value: kept.append(value.numel()) or value, lambda value: value):
            model(input_ids=torch.arange(8)[None], attention_mask=torch.zeros(1, 1, 8, 8), use_cache=False)
        return sum(kept)

    model = build_model(MODEL, 64, SPECIAL, 0).train()
    before = num_kept(model)
    with computed(model, Compute(recompute_activations=True)):
        assert num_kept(model) < before / 2
    assert num_kept(model) == before


def test_what_the_site_says_reaches_the_training() -> None:
    site = Site(compile=True, recompute_activations=True, loss_chunk_tokens=5)
    assert Compute.of(site) == Compute(compile=True, recompute_activations=True, loss_chunk_tokens=5)


def test_fp16_without_a_gpu_ends_a_run_before_its_first_stage() -> None:
    recipe = load_recipe("demo", ["pretrain.precision=fp16"])
    with pytest.raises(RecipeError, match="fp16 needs a GPU, but the device is cpu"):
        recipe.check_site(Site(device="cpu"))
    recipe.check_site(Site(device="cuda"))


def test_gradients_that_overflow_fp16_at_every_scale_end_it(tmp_path: Path) -> None:
    with joined("cpu") as world:
        loop = tiny_loop(TinyJob(folder=tmp_path, precision="fp16"), world)
        loop._scaler.load_state_dict(loop._scaler.state_dict() | {"scale": 4.0})
        loop.model.model.norm.weight.register_hook(lambda gradient: gradient * math.inf)
        with pytest.raises(StageError, match=r"diverged at step 4: gradients overflow fp16"):
            loop.run()


@pytest.mark.slow
def test_fp16_scales_its_losses_and_a_kill_changes_no_bit(tmp_path: Path) -> None:
    """On a CPU only this test asks for fp16. The first scale is too large for some gradients: those steps change nothing."""
    job = TinyJob(folder=tmp_path / "whole", precision="fp16")
    with joined("cpu") as world:
        loop = tiny_loop(job, world)
        assert isinstance(world, World)
        loop._scaler.load_state_dict(loop._scaler.state_dict() | {"scale": 2.0**24})
        result = loop.run()
    assert 1 < loop.position.scaler["scale"] < 2.0**24
    assert result.validation_loss < result.first_validation_loss - 0.5
    cut = job.model_copy(update={"folder": tmp_path / "cut"})
    whole, _ = train_tiny(cut.model_copy(update={"folder": tmp_path / "again"}))
    cut_off(cut, at_step=14)
    resumed, _ = train_tiny(cut)
    assert resumed == whole
