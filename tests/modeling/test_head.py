"""The output layer's loss: by hand, in chunks, with the square of log Z."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tasks.modeling import head
from tasks.modeling.batches import make_batch
from tasks.modeling.head import HeadLoss, set_head_loss, target_losses
from tasks.modeling.model import build_model, token_losses
from tests.modeling.training import MODEL, SPECIAL, TRAIN, TinyJob, tiny_rows, train_tiny


class Two(torch.nn.Module):
    """Two logits a row, equal to its input."""

    def __init__(self) -> None:
        super().__init__()
        self.identity = torch.nn.Identity()


def test_z_loss_by_hand_and_only_while_training() -> None:
    """Logits ln 1 and ln 3: Z is 4, the loss of the second ln 4/3, and a tenth of ln(4)^2 comes on top."""
    model, logits = Two(), torch.tensor([[0.0, math.log(3)]])
    set_head_loss(model, HeadLoss(z_loss=0.1))
    taken = [float(target_losses(model.train(mode), model.identity, logits, torch.tensor([1]))) for mode in (True, False)]
    assert taken == pytest.approx([math.log(4 / 3) + 0.1 * math.log(4) ** 2, math.log(4 / 3)], rel=1e-6)


def test_a_recipe_s_z_loss_is_trained_on_and_not_measured(tmp_path: Path) -> None:
    short = TRAIN.model_copy(update={"num_tokens": 4 * 32})
    plain, result = (
        train_tiny(TinyJob(folder=tmp_path / str(z_loss), train=short.model_copy(update={"z_loss": z_loss})))[0]
        for z_loss in (None, 0.1)
    )
    assert result.first_validation_loss == plain.first_validation_loss
    assert result.train_loss == pytest.approx(plain.train_loss + 0.1 * math.log(64) ** 2, rel=0.02)  # 64 logits near 0
    assert result.validation_loss != plain.validation_loss


def gradients(how: HeadLoss) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    model = build_model(MODEL, 64, SPECIAL, 0)
    set_head_loss(model, how)
    losses = token_losses(model, make_batch(tiny_rows(1), np.arange(3), torch.device("cpu")))
    losses.sum().backward()
    return losses.detach(), {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}


@pytest.mark.parametrize("z_loss", [None, 1e-2])
def test_rows_at_a_time_give_the_losses_and_gradients_of_all_at_once(z_loss: float | None) -> None:
    whole, its_gradients = gradients(HeadLoss(z_loss))
    chunked, others = gradients(HeadLoss(z_loss, chunk_tokens=7))
    assert len(whole) == 96
    torch.testing.assert_close(chunked, whole, rtol=1e-6, atol=1e-6)
    for name, gradient in its_gradients.items():
        torch.testing.assert_close(others[name], gradient, rtol=1e-4, atol=1e-5)


def by_torch(layer: Any, hidden_NW: torch.Tensor, targets_N: torch.Tensor, z_loss: float | None) -> torch.Tensor:
    logits_NV = layer(hidden_NW).float()
    losses_N = F.cross_entropy(logits_NV, targets_N, reduction="none")
    return losses_N if z_loss is None else losses_N + z_loss * logits_NV.logsumexp(dim=-1).square()


@pytest.mark.parametrize("z_loss", [None, 1e-2])
def test_logits_have_the_losses_and_gradients_of_torch_and_are_used_up(
    z_loss: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(head, "_losses", by_torch)
        plain, its_gradients = gradients(HeadLoss(z_loss))
    monkeypatch.setattr(head, "_NUMBERS_AT_ONCE", 7 * 64)
    in_place, others = gradients(HeadLoss(z_loss))
    torch.testing.assert_close(in_place, plain, rtol=1e-6, atol=1e-6)
    for name, gradient in its_gradients.items():
        torch.testing.assert_close(others[name], gradient, rtol=1e-4, atol=1e-5)

    layer, targets_N = torch.nn.Linear(4, 9).train(), torch.tensor([8, 0, 3])
    weights_N = torch.tensor([0.5, -1.0, 2.0])  # each target's loss counts as it will
    hidden_NW = torch.randn(3, 4, requires_grad=True)
    losses_N = target_losses(layer, layer, hidden_NW, targets_N)
    (losses_N * weights_N).sum().backward(retain_graph=True)
    sure_NW = torch.autograd.grad((F.cross_entropy(layer(hidden_NW), targets_N, reduction="none") * weights_N).sum(), hidden_NW)[
        0
    ]
    torch.testing.assert_close(hidden_NW.grad, sure_NW)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        losses_N.sum().backward()


@pytest.mark.parametrize("z_loss", [None, 1e-2])
def test_logits_in_bf16_have_the_losses_and_gradients_of_torch_and_are_not_held_in_fp32(
    z_loss: float | None,
) -> None:
    layer, targets_N = torch.nn.Linear(16, 4096, bias=False).train(), torch.arange(70) * 50
    set_head_loss(layer, HeadLoss(z_loss))
    hidden_NW = torch.randn(70, 16, generator=torch.Generator().manual_seed(0), requires_grad=True)
    kept: list[torch.Tensor] = []

    def keep(value: torch.Tensor) -> torch.Tensor:
        kept.append(value)
        return value

    with torch.autocast("cpu", torch.bfloat16), torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value):
        losses_N = target_losses(layer, layer, hidden_NW, targets_N)
    with torch.autocast("cpu", torch.bfloat16):
        sure_N = by_torch(layer, hidden_NW, targets_N, z_loss)
    assert losses_N.dtype == torch.float32
    torch.testing.assert_close(losses_N, sure_N)
    assert [value.dtype for value in kept if value.numel() == 70 * 4096] == [torch.bfloat16]
    wanted = (hidden_NW, layer.weight)
    sure = torch.autograd.grad(sure_N.square().sum(), wanted)
    torch.testing.assert_close(torch.autograd.grad(losses_N.square().sum(), wanted), sure, rtol=0.01, atol=0.01)


def test_a_sure_answer_in_bf16_still_has_a_gradient() -> None:
    """Logits 7 and 0: the softmax is 0.9991, 1 in bf16; the gradient is that less 1."""
    logits = torch.tensor([[7.0, 0.0]], dtype=torch.bfloat16, requires_grad=True)
    target_losses(Two(), lambda value: value * 1, logits, torch.tensor([0])).sum().backward()
    assert logits.grad is not None
    assert float(logits.grad[0, 0]) == pytest.approx(-1 / (1 + math.exp(7)), rel=0.01)


def kept_bytes(how: HeadLoss) -> int:
    """Bytes that wait for the backward pass of a head with 4,096 entries on 256 targets."""
    layer = torch.nn.Linear(16, 4096, bias=False)
    set_head_loss(layer, how)
    kept: dict[int, int] = {}

    def keep(value: torch.Tensor) -> Any:
        kept[value.data_ptr()] = value.numel() * value.element_size()
        return value

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value):
        losses = target_losses(layer, layer, torch.randn(256, 16, requires_grad=True), torch.arange(256))
    assert losses.requires_grad
    return sum(kept.values())


def test_rows_at_a_time_keep_no_logits() -> None:
    logits = 256 * 4096 * 4
    assert kept_bytes(HeadLoss()) > logits
    assert kept_bytes(HeadLoss(chunk_tokens=32)) < logits / 4
