"""Two gloo processes do what one does, with whole weights on each or with a part of them.

Tolerance: sums of gradients in another order. Losses and norms agree to 1e-4 of their value, weights to 2e-4 after 20 steps at
a learning rate of 1e-2.
"""

import contextlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file

from tasks.contracts import Checkpoint
from tasks.core.child import run_child
from tasks.core.errors import ContractError, TransientError
from tasks.core.run import Run, stage_log
from tasks.core.site import Site
from tasks.core.stage import StageContext
from tasks.modeling import checkpoint
from tasks.modeling.job import TrainResult
from tasks.modeling.model import build_model
from tasks.modeling.parallel import World
from tasks.modeling.records import read_records
from tasks.modeling.specs import MuonSpec
from tests.core.toys import count
from tests.modeling.test_checkpoint import flip, truncate
from tests.modeling.training import MODEL, SPECIAL, TRAIN, TinyJob, train_tiny


def test_what_processes_ask_of_each_other_waits_for_no_device() -> None:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        world = World(0, 2, torch.device("meta"))  # a device that answers nothing
        assert (world.any(True), world.any(False)) == (True, False)
    finally:
        dist.destroy_process_group()


WAYS = ("ddp", "fsdp2")


def launch(job: TinyJob, function: str, state: Path, num_processes: int = 2) -> None:
    """Runs a job in children under torchrun, as a stage does."""
    site = Site(state_dir=state, num_processes=num_processes, num_threads=1)
    context = StageContext(count, site.root, stage_log("test"), Run(site), {}, {})
    run_child(f"tests.modeling.training:{function}", job, context, torchrun=True)


def curve(folder: Path, figure: str) -> list[float]:
    return [record[figure] for record in read_records(folder / "metrics.jsonl") if figure in record]


def result(folder: Path) -> TrainResult:
    return TrainResult.model_validate_json((folder / "result.json").read_bytes())


def assert_same_course(folder: Path, alone: Path) -> None:
    for figure in ("train_loss", "gradient_norm", "validation_loss"):
        assert curve(folder, figure) == pytest.approx(curve(alone, figure), rel=1e-4), figure


def assert_same_weights(weights: dict[str, torch.Tensor], model: Any) -> None:
    for name, weight in model.named_parameters():
        torch.testing.assert_close(weights[name], weight.detach(), rtol=0, atol=2e-4, msg=name)


def assert_same_training(alone: Checkpoint, two: Checkpoint) -> None:
    """Compares the courses, and what is kept, of a training in one process and in two."""
    one, other = (list(read_records(model.path / "extra" / "metrics.jsonl")) for model in (alone, two))
    for figure in ("train_loss", "gradient_norm", "validation_loss"):
        course, again = ([record[figure] for record in records if figure in record] for records in (one, other))
        assert len(course) > 1
        assert again == pytest.approx(course, rel=1e-3), figure
    kept = sorted(path.relative_to(alone.path) for path in alone.path.rglob("*.safetensors") if "extra" not in path.parts)
    assert kept
    assert kept == sorted(path.relative_to(two.path) for path in two.path.rglob("*.safetensors") if "extra" not in path.parts)
    for path in kept:
        weights, others = load_file(alone.path / path), load_file(two.path / path)
        assert weights.keys() == others.keys()
        for name, weight in weights.items():
            torch.testing.assert_close(others[name], weight, rtol=0, atol=1e-3, msg=f"{path} {name}")
    assert (alone.num_parameters, alone.num_trained_parameters) == (two.num_parameters, two.num_trained_parameters)


# Of 3 validation rows one process has 2 and the other 1, and each row is a pass; a step is two passes a process.
JOB = TinyJob(folder=Path(), train=TRAIN.model_copy(update={"eval_rows": 3}), micro_rows=1)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainResult, Any, Path]:
    """One process that nobody interrupts: its result, its model, its folder."""
    folder = tmp_path_factory.mktemp("alone")
    return *train_tiny(JOB.model_copy(update={"folder": folder})), folder


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two processes that train once in each way: a folder for each."""
    folder = tmp_path_factory.mktemp("together")
    launch(JOB.model_copy(update={"folder": folder}), "both_ways_main", folder)
    return folder


@pytest.mark.parametrize("way", WAYS)
def test_two_processes_equal_one_within_rounding(together: Path, alone: tuple[TrainResult, Any, Path], way: str) -> None:
    expected, model, folder = alone
    found = result(together / way)
    assert (found.num_steps, found.num_tokens) == (expected.num_steps, expected.num_tokens)
    assert (found.num_parameters, found.num_trained_parameters) == (expected.num_parameters, expected.num_trained_parameters)
    assert found.validation_loss == pytest.approx(expected.validation_loss, rel=1e-4)
    assert_same_course(together / way, folder)
    assert_same_weights(load_file(together / way / "model" / "model.safetensors"), model)


def test_each_way_has_its_format_and_both_have_the_same_facts(together: Path) -> None:
    names = {way: {path.name for path in (together / way / "checkpoints" / "step-000020").iterdir()} for way in WAYS}
    common = {"complete.json", "config.json", "position.json"}
    assert names["ddp"] == common | {"model.safetensors", "optimizer.safetensors"}
    assert names["fsdp2"] == common | {f"shard-0000{rank}-model-00001-of-00001.safetensors" for rank in (1, 2)}
    config = (together / "fsdp2" / "model" / "config.json").read_bytes()
    assert config == (together / "ddp" / "model" / "config.json").read_bytes()


def test_a_kept_sharded_checkpoint_serves_one_process_later(together: Path) -> None:
    model = build_model(MODEL, 64, SPECIAL, 99)
    checkpoint.load_weights(together / "fsdp2" / "checkpoints" / "step-000020", model)
    saved = load_file(together / "fsdp2" / "model" / "model.safetensors")
    assert all(torch.equal(saved[name], weight) for name, weight in model.named_parameters())


@pytest.mark.parametrize("harm", [flip, truncate, Path.unlink])
@pytest.mark.parametrize("rank", [1, 2])
def test_a_damaged_shard_is_refused_and_the_one_before_used(
    together: Path, tmp_path: Path, harm: Callable[[Path], None], rank: int
) -> None:
    root = shutil.copytree(together / "fsdp2" / "checkpoints", tmp_path / "checkpoints")
    harm(root / "step-000020" / f"shard-0000{rank}-model-00001-of-00001.safetensors")
    with pytest.raises(ContractError, match="step-000020"):
        checkpoint.check(root / "step-000020")
    assert checkpoint.latest(root) == root / "step-000018"


@pytest.mark.slow
@pytest.mark.parametrize(
    "course",
    [((2, "fsdp2"), (1, "fsdp2"), (2, "fsdp2")), ((2, "ddp"), (2, "fsdp2"), (2, "ddp"))],
    ids=["2-1-2", "ddp-fsdp2-ddp"],
)
def test_the_number_of_processes_and_the_way_may_change_on_the_way(
    alone: tuple[TrainResult, Any, Path], tmp_path: Path, course: tuple[tuple[int, Any], ...]
) -> None:
    for (num_processes, way), stop_at in zip(course, (7, 13, None), strict=True):
        job = JOB.model_copy(update={"folder": tmp_path / "run", "sharding": way, "stop_at": stop_at})
        stops = pytest.raises(TransientError, match=f"asked to stop at step {stop_at}") if stop_at else contextlib.nullcontext()
        with stops:
            launch(job, "tiny_main", tmp_path, num_processes)
        folder = checkpoint.checkpoint_folder(tmp_path / "run" / "checkpoints", stop_at or 20)
        is_sharded = num_processes > 1 and way == "fsdp2"
        assert (folder / "model.safetensors").exists() != is_sharded
    assert curve(tmp_path / "run", "train_loss") == pytest.approx(curve(alone[2], "train_loss"), rel=1e-4)
    assert result(tmp_path / "run").validation_loss == pytest.approx(alone[0].validation_loss, rel=1e-4)


MUON = JOB.model_copy(update={"optim": MuonSpec(kind="muon", learning_rate=1e-2, matrix_learning_rate=2e-2)})


@pytest.mark.slow
@pytest.mark.parametrize("course", [((2, "ddp"),), ((2, "fsdp2"),), ((2, "fsdp2"), (1, "ddp"), (2, "fsdp2"))], ids=str)
def test_muon_learns_the_same_on_sharded_weights(tmp_path: Path, course: tuple[tuple[int, Any], ...]) -> None:
    """Its steps are orthogonalised in bf16, which makes much of rounding: whole weights on two processes differ as much."""
    expected, model = train_tiny(MUON.model_copy(update={"folder": tmp_path / "alone"}))
    for (num_processes, way), stop_at in zip(course, (7, 13, None)[3 - len(course) :], strict=True):
        job = MUON.model_copy(update={"folder": tmp_path / "run", "sharding": way, "stop_at": stop_at})
        stops = pytest.raises(TransientError, match=f"asked to stop at step {stop_at}") if stop_at else contextlib.nullcontext()
        with stops:
            launch(job, "tiny_main", tmp_path, num_processes)
    for figure in ("train_loss", "validation_loss"):
        assert curve(tmp_path / "run", figure) == pytest.approx(curve(tmp_path / "alone", figure), rel=5e-4), figure
    assert curve(tmp_path / "run", "gradient_norm") == pytest.approx(curve(tmp_path / "alone", "gradient_norm"), rel=1e-2)
    weights = load_file(tmp_path / "run" / "model" / "model.safetensors")
    for name, weight in model.named_parameters():
        torch.testing.assert_close(weights[name], weight.detach(), rtol=0, atol=1e-2, msg=name)
    assert result(tmp_path / "run").validation_loss == pytest.approx(expected.validation_loss, rel=5e-4)
