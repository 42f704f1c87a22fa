"""The running mean of the weights: by hand, where it is used, and that a cut changes nothing."""

from pathlib import Path

import pytest
import torch

from tasks.modeling.average import adopt_average, averaged, update_average
from tasks.modeling.checkpoint import checkpoint_folder, load_file, steps
from tasks.modeling.parallel import joined
from tests.modeling.training import TRAIN, TinyJob, cut_off, tiny_loop, train_tiny

AVERAGED = TRAIN.model_copy(update={"ema_decay": 0.5})


def test_by_hand() -> None:
    """The weight is 1, 2, 4 after three updates; decays 2/11 and 3/12 where the warm-up holds, 0.2 at most."""
    weight = torch.nn.Parameter(torch.zeros(2))
    weights, optimizer = {"w": weight}, torch.optim.AdamW([weight])
    update_average(optimizer, weights, 0.2, 0)
    assert "average" not in optimizer.state[weight]  # not updated yet
    optimizer.state[weight]["step"] = torch.tensor(1.0)
    for step, value in enumerate((1.0, 2.0, 4.0)):
        with torch.no_grad():
            weight.fill_(value)
        update_average(optimizer, weights, 0.2, step)
    first = 1 + (1 - 2 / 11) * (2 - 1)
    expected = first + (1 - 0.2) * (4 - first)
    with averaged(optimizer, weights):
        assert weight.tolist() == pytest.approx([expected] * 2)
    assert weight.tolist() == [4.0, 4.0]
    adopt_average(optimizer, weights)
    assert weight.tolist() == pytest.approx([expected] * 2)


@pytest.mark.slow
def test_looks_and_the_model_are_of_the_mean_and_the_training_is_as_without(tmp_path: Path) -> None:
    plain, model = train_tiny(TinyJob(folder=tmp_path / "plain"))
    with joined("cpu") as world:
        loop = tiny_loop(TinyJob(folder=tmp_path / "mean", train=AVERAGED), world)
        result = loop.run()
    assert result.train_loss == plain.train_loss
    assert result.first_validation_loss == plain.first_validation_loss
    assert result.validation_loss != plain.validation_loss
    assert loop._look_at(None)[0] == result.validation_loss  # of the model that is left
    folder = checkpoint_folder(tmp_path / "mean" / "checkpoints", 20)
    weights, state = (load_file(folder / f"{name}.safetensors") for name in ("model", "optimizer"))
    for name, weight in loop.model.named_parameters():
        assert torch.equal(weight, state[f"average/{name}"])
        assert torch.equal(weights[name], model.get_parameter(name))


def test_where_the_first_look_was_best_no_later_mean_takes_its_place(tmp_path: Path) -> None:
    """The weights of step 0 have no mean."""
    spec = AVERAGED.model_copy(update={"select": "best"})
    with joined("cpu") as world:
        loop = tiny_loop(TinyJob(folder=tmp_path, train=spec), world)
        before = {name: weight.detach().clone() for name, weight in loop.model.named_parameters()}
        losses = iter(range(1, 100))
        loop._look_at = lambda max_rows: (float(next(losses)), {})  # type: ignore[method-assign]
        result = loop.run()
    assert (result.selected_step, result.validation_loss) == (0, 1.0)
    assert all(torch.equal(weight, before[name]) for name, weight in loop.model.named_parameters())


def test_a_kill_changes_no_bit_and_the_best_mean_is_taken(tmp_path: Path) -> None:
    best = AVERAGED.model_copy(update={"select": "best"})
    result, model = train_tiny(TinyJob(folder=tmp_path / "whole", train=best))
    cut_off(TinyJob(folder=tmp_path / "cut", train=best), at_step=14)
    again, resumed = train_tiny(TinyJob(folder=tmp_path / "cut", train=best))
    assert steps(tmp_path / "cut" / "checkpoints") == steps(tmp_path / "whole" / "checkpoints")
    assert again == result
    assert all(torch.equal(value, resumed.state_dict()[name]) for name, value in model.state_dict().items())
