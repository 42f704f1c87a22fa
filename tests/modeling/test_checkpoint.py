"""Checkpoints: whole or not used."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor, Shard
from torch.testing._internal.distributed.fake_pg import FakeStore

from tasks.core.errors import ContractError
from tasks.modeling import checkpoint, sharded
from tasks.modeling.checkpoint import MARKER, Look, Position
from tasks.modeling.model import build_model, load_model
from tasks.modeling.optim import build_optimizer
from tasks.modeling.parallel import World
from tasks.modeling.specs import AdamWSpec
from tests.modeling.training import MODEL, SPECIAL

ALONE = World(0, 1, torch.device("cpu"))


@pytest.fixture
def trained(tmp_path: Path) -> tuple[Path, Any, Any]:
    """A model after two steps, with a checkpoint after each, at steps 1 and 2."""
    model = build_model(MODEL, 64, SPECIAL, 0)
    optimizer = build_optimizer(model, AdamWSpec(kind="adamw", learning_rate=1e-2))
    for step in (1, 2):
        model(input_ids=torch.arange(8)[None], labels=torch.arange(8)[None], attention_mask=_mask()).loss.backward()
        optimizer.step()
        checkpoint.save(tmp_path, model, optimizer, Position(step=step, recent_losses=(0.1 + 0.2,)), ALONE)
    return tmp_path, model, optimizer


def _mask() -> torch.Tensor:
    from tasks.modeling.attention import packed_mask

    return packed_mask(torch.zeros(1, 8, dtype=torch.long), torch.float32)


def fresh() -> tuple[Any, Any]:
    model = build_model(MODEL, 64, SPECIAL, 99)
    return model, build_optimizer(model, AdamWSpec(kind="adamw", learning_rate=1e-2))


def test_everything_comes_back_to_the_bit(trained: tuple[Path, Any, Any]) -> None:
    root, model, optimizer = trained
    again, its_optimizer = fresh()
    assert checkpoint.latest(root) == root / "step-000002"
    position = checkpoint.load(root / "step-000002", again, its_optimizer)
    assert position == Position(step=2, recent_losses=(0.1 + 0.2,))
    for one, other in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)
        for moment in ("exp_avg", "exp_avg_sq", "step"):
            assert torch.equal(optimizer.state[one][moment], its_optimizer.state[other][moment])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize("harm", [flip, truncate, Path.unlink])
@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "position.json", MARKER])
def test_a_damaged_one_is_refused_and_the_one_before_used(
    trained: tuple[Path, Any, Any], harm: Callable[[Path], None], name: str, caplog: pytest.LogCaptureFixture
) -> None:
    root, _, _ = trained
    harm(root / "step-000002" / name)
    with pytest.raises(ContractError, match="step-000002"):
        checkpoint.check(root / "step-000002")
    assert checkpoint.latest(root) == root / "step-000001"
    assert "not resuming from step-000002" in caplog.text
    assert checkpoint.steps(root) == [1]


def test_a_half_written_one_is_swept_away(trained: tuple[Path, Any, Any]) -> None:
    root, _, _ = trained
    (root / ".step-000003.123").mkdir()
    (root / ".step-000003.123" / "model.safetensors").write_bytes(b"half")
    assert checkpoint.latest(root) == root / "step-000002"
    assert not list(root.glob(".step-*"))


def test_nothing_to_resume_from(tmp_path: Path) -> None:
    assert checkpoint.latest(tmp_path) is None


def test_the_latest_and_the_best_are_kept(trained: tuple[Path, Any, Any]) -> None:
    root, model, optimizer = trained
    for step in (3, 4, 5):
        checkpoint.save(root, model, optimizer, Position(step=step), ALONE)
    checkpoint.prune(root, keep_last=2, best=1)
    assert checkpoint.steps(root) == [1, 4, 5]


def test_the_best_look_is_the_first_of_the_lowest() -> None:
    looks = (Look(step=0, loss=3.0), Look(step=5, loss=1.0), Look(step=10, loss=1.0))
    assert Position(step=10, looks=looks).best == looks[1]


def test_weights_that_do_not_count_are_never_the_best() -> None:
    untrained, trained = Look(step=0, loss=1.0, counts=False), Look(step=5, loss=2.0)
    assert Position(step=5, looks=(untrained, trained)).best == trained
    assert Position(step=0, looks=(untrained,)).best is None
    assert not Position(step=0, looks=(untrained,)).is_stuck(0)


def test_any_kept_one_loads_as_a_model(trained: tuple[Path, Any, Any]) -> None:
    root, model, _ = trained
    again = load_model(root / "step-000002")
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())


@contextmanager
def second_of_two() -> Iterator[DeviceMesh]:
    """Two processes, of which only the second is there; what it reads of files it reads alone."""
    dist.init_process_group("fake", store=FakeStore(), rank=1, world_size=2)
    try:
        yield init_device_mesh("cpu", (2,))
    finally:
        dist.destroy_process_group()


def test_the_steps_of_a_weight_of_one_number_are_no_shard_of_it(tmp_path: Path) -> None:
    sharded.write(tmp_path, {"optimizer/exp_avg/bias": torch.tensor([0.5]), "optimizer/step/bias": torch.tensor(3.0)})
    with second_of_two() as mesh:
        weight = DTensor.from_local(torch.empty(0), mesh, [Shard(0)], shape=torch.Size([1]), stride=(1,))
        found = sharded.read(tmp_path, "optimizer", {"bias": weight})
    assert torch.equal(found["step/bias"], torch.tensor(3.0))
    assert found["exp_avg/bias"].placements == weight.placements


def test_weights_of_another_model_are_refused(trained: tuple[Path, Any, Any]) -> None:
    root, _, _ = trained
    other = build_model(MODEL.model_copy(update={"depth": 1}), 64, SPECIAL, 0)
    with pytest.raises(ContractError, match="holds other weights than the model"):
        checkpoint.load(root / "step-000002", other, build_optimizer(other, AdamWSpec(kind="adamw", learning_rate=1e-2)))
