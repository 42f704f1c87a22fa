"""Optimisers: which weight is updated how, by which rate, and that a cut changes nothing."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from flows.presets import load_recipe
from tasks.core.errors import RecipeError
from tasks.modeling.model import build_model
from tasks.modeling.muon import _POLYNOMIALS, Muon, orthogonal
from tasks.modeling.optim import build_optimizer, set_learning_rate
from tasks.modeling.specs import AdamWSpec, CosineSchedule, MuonSpec
from tasks.tuning.ia3 import Ia3Spec
from tasks.tuning.lora import LoraSpec
from tests.modeling.training import MODEL, SPECIAL, TinyJob, cut_off, train_tiny

MUON = MuonSpec(kind="muon", learning_rate=1e-2, matrix_learning_rate=2e-2, weight_decay=0.1)


def groups(model: Any, optimizer: torch.optim.Optimizer) -> list[tuple[float, float, set[str]]]:
    """Returns peak, decay and weights of each group; a weight that lies in two groups is an error."""
    names = {id(weight): name for name, weight in model.named_parameters()}
    found = [{names[id(weight)] for weight in group["params"]} for group in optimizer.param_groups]
    assert sum(map(len, found)) == len(set().union(*found))
    return [(group["peak"], group["weight_decay"], part) for group, part in zip(optimizer.param_groups, found, strict=True)]


@pytest.mark.parametrize("tied", [True, False])
def test_each_weight_is_in_the_group_it_belongs_to(tied: bool) -> None:
    model = build_model(MODEL.model_copy(update={"tie_embeddings": tied}), 64, SPECIAL, 0)
    names = {name for name, _ in model.named_parameters()}
    outer = {"model.embed_tokens.weight"} | (set() if tied else {"lm_head.weight"})
    norms = {name for name in names if "norm" in name}
    assert groups(model, build_optimizer(model, AdamWSpec(kind="adamw", learning_rate=3e-3))) == [
        (3e-3, 0.1, names - norms),
        (3e-3, 0.0, norms),
    ]
    assert groups(model, build_optimizer(model, MUON)) == [
        (2e-2, 0.1, names - norms - outer),
        (1e-2, 0.1, outer),
        (1e-2, 0.0, norms),
    ]


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_each_group_of_adamw_has_the_moments_that_are_asked_for(kind: str) -> None:
    own = {"learning_rate": 1e-2, "beta1": 0.8, "beta2": 0.9, "epsilon": 1e-5}
    spec = AdamWSpec(kind="adamw", **own) if kind == "adamw" else MuonSpec(kind="muon", **own)
    optimizer = build_optimizer(build_model(MODEL, 64, SPECIAL, 0), spec)
    found = [(group["betas"], group["eps"]) for group in optimizer.param_groups if "betas" in group]
    assert found == [((0.8, 0.9), 1e-5)] * 2


def test_of_an_adapted_model_only_the_adapter_is_trained() -> None:
    model = LoraSpec(kind="lora", rank=2).prepare(build_model(MODEL, 64, SPECIAL, 0), 0).model
    adapters = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert adapters
    assert all("lora_" in name for name in adapters)
    assert groups(model, build_optimizer(model, MUON)) == [(2e-2, 0.1, adapters)]


def test_scales_are_vectors_whose_neutral_value_is_1() -> None:
    model = Ia3Spec(kind="ia3").prepare(build_model(MODEL, 64, SPECIAL, 0), 0).model
    scales = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert scales
    assert all(".ia3_l." in name for name in scales)
    for spec in (AdamWSpec(kind="adamw", learning_rate=1e-2), MUON):
        assert groups(model, build_optimizer(model, spec)) == [(1e-2, 0.0, scales)]


def test_where_only_vectors_are_trained_there_is_no_muon() -> None:
    model = build_model(MODEL, 64, SPECIAL, 0)
    for name, weight in model.named_parameters():
        weight.requires_grad = "norm" in name
    assert [(peak, decay) for peak, decay, _ in groups(model, build_optimizer(model, MUON))] == [(1e-2, 0.0)]


def test_each_group_follows_the_schedule_from_its_own_peak() -> None:
    optimizer = build_optimizer(build_model(MODEL, 64, SPECIAL, 0), MUON)
    set_learning_rate(optimizer, CosineSchedule(kind="cosine", warmup_share=0.5, final_share=0.0), step=1, num_steps=8)
    assert [group["lr"] for group in optimizer.param_groups] == [1e-2, 5e-3, 5e-3]


def test_muon_steps_in_an_orthogonal_direction_of_adamw_s_size() -> None:
    """By hand: decay by 1 - rate * decay, then a step of 0.2 * rate * sqrt(longer side) along an orthogonal matrix."""
    model = build_model(MODEL, 64, SPECIAL, 0)
    weight = model.model.layers[0].mlp.up_proj.weight
    before = weight.detach().clone()
    for one in model.parameters():
        one.grad = torch.randn(one.shape, generator=torch.Generator().manual_seed(1))
    build_optimizer(model, MUON).step()
    step = ((before * (1 - 2e-2 * 0.1) - weight) / (0.2 * 2e-2 * 64**0.5)).detach()
    lengths = torch.linalg.svdvals(step)
    assert lengths.min() > 0.6
    assert lengths.max() < 1.3
    assert float((step * weight.grad).sum()) > 0


SHAPES = ((32, 64), (64, 32), (32, 32))


def stepped(make: Callable[[Any], torch.optim.Optimizer], num_steps: int = 3) -> list[torch.Tensor]:
    """Steps two matrices of each shape along the same random gradients; returns by how much each moved."""
    random = torch.Generator().manual_seed(0)
    weights = [torch.nn.Parameter(torch.randn(shape, generator=random)) for shape in SHAPES * 2]
    before = [weight.detach().clone() for weight in weights]
    optimizer = make(weights)
    for _ in range(num_steps):
        for weight in weights:
            weight.grad = torch.randn(weight.shape, generator=random)
        optimizer.step()
    return [weight.detach() - start for weight, start in zip(weights, before, strict=True)]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_muon_steps_where_torch_s_does(dtype: torch.dtype) -> None:
    """Decay, momentum and scale are the same; torch's singular values end between 0.68 and 1.13, ours about 1."""
    settings = {"lr": 1e-2, "weight_decay": 0.1, "momentum": 0.95}
    theirs = stepped(lambda weights: torch.optim.Muon(weights, adjust_lr_fn="match_rms_adamw", **settings))
    ours = stepped(lambda weights: Muon(weights, dtype, **settings))
    for one, other in zip(ours, theirs, strict=True):
        assert float(torch.cosine_similarity(one.flatten(), other.flatten(), dim=0)) > 0.97
        assert float(one.norm() / other.norm()) == pytest.approx(1.1, abs=0.1)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("shape", [(48, 48), (48, 128), (128, 48)])
def test_singular_values_come_near_one_and_their_vectors_stay(shape: tuple[int, int], dtype: torch.dtype) -> None:
    random = torch.Generator().manual_seed(0)
    left, _, right = torch.linalg.svd(torch.randn(shape, generator=random), full_matrices=False)
    values = torch.logspace(-2.2, 0, 48)
    values *= values.norm().reciprocal()
    assert 0.0025 < values.min() < 0.003
    found = left.T @ orthogonal(((left * values) @ right).to(dtype)).float() @ right.T
    assert float(found.diagonal().min()) > 0.7
    assert float(found.diagonal().max()) < 1.29
    rounding = 1e-3 if dtype == torch.float32 else 0.1
    assert float((found - torch.diag(found.diagonal())).abs().max()) < rounding


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("noise", [0.0, 1e-3, 1e-2, 0.05, 0.3])
@pytest.mark.parametrize("rank", [1, 2, 4])
def test_a_gradient_of_few_directions_gives_no_larger_step(rank: int, noise: float, dtype: torch.dtype) -> None:
    """Its largest singular value is its norm, where the polynomials end: without room for rounding there, bf16 gave 1e10."""
    random = torch.Generator().manual_seed(0)
    for rows, columns in ((8, 8), (32, 1), (64, 256), (128, 128), (256, 704)):
        few = torch.randn(rows, rank, generator=random) @ torch.randn(rank, columns, generator=random)
        step = orthogonal((few + noise * torch.randn(rows, columns, generator=random)).to(dtype)).float()
        assert 0.7 < float(torch.linalg.matrix_norm(step, 2)) < 1.3


@pytest.mark.parametrize(("rows", "columns", "rank"), [(48, 128, 48), (128, 48, 48), (48, 97, 48), (48, 73, 48), (48, 128, 4)])
def test_long_matrices_take_the_same_iterations_by_their_gram_matrix(rows: int, columns: int, rank: int) -> None:
    random = torch.Generator().manual_seed(0)
    matrix = torch.randn(rows, rank, generator=random) @ torch.randn(rank, columns, generator=random)
    wide = matrix.T if rows > columns else matrix
    found = wide / wide.norm()
    for a, b, c in _POLYNOMIALS:
        gram = found @ found.T
        found = a * found + (b * gram + c * gram @ gram) @ found
    whole = found.T if rows > columns else found
    assert orthogonal(matrix).shape == matrix.shape
    assert float((orthogonal(matrix) - whole).abs().max()) < 1e-4
    assert float(whole.abs().max()) > 0.1


def test_matrices_of_one_shape_step_together_as_they_would_alone() -> None:
    random = torch.Generator().manual_seed(0)
    stack = torch.randn(3, 24, 40, generator=random)
    alone = torch.stack([orthogonal(matrix) for matrix in stack])
    assert torch.allclose(orthogonal(stack), alone, atol=1e-5)


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("fp16", torch.float32), ("bf16", torch.bfloat16)])
def test_muon_orthogonalises_in_the_number_format_of_the_training(
    precision: Any, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = set()
    monkeypatch.setattr("tasks.modeling.muon.orthogonal", lambda matrix: seen.add(matrix.dtype) or orthogonal(matrix))
    model = build_model(MODEL, 64, SPECIAL, 0)
    for one in model.parameters():
        one.grad = torch.randn(one.shape, generator=torch.Generator().manual_seed(1))
    build_optimizer(model, MUON, precision=precision).step()
    assert seen == {dtype}


def test_muon_learns_and_a_kill_changes_no_bit(tmp_path: Path) -> None:
    result, model = train_tiny(TinyJob(folder=tmp_path / "whole", optim=MUON))
    assert result.validation_loss < result.first_validation_loss - 1
    cut_off(TinyJob(folder=tmp_path / "cut", optim=MUON), at_step=14)
    again, resumed = train_tiny(TinyJob(folder=tmp_path / "cut", optim=MUON))
    assert again == result
    assert all(torch.equal(value, resumed.state_dict()[name]) for name, value in model.state_dict().items())


def test_a_recipe_names_its_optimiser_by_kind_and_no_kind_takes_the_other_s_fields() -> None:
    assert load_recipe("gpu-100m").pretrain.optim.kind == "adamw"
    changes = ["pretrain.optim.kind=muon", "pretrain.optim.momentum=0.9"]
    assert load_recipe("gpu-100m", changes).pretrain.optim == MuonSpec(kind="muon", momentum=0.9)
    with pytest.raises(RecipeError, match=r"pretrain\.optim\.adamw\.momentum: no such key"):
        load_recipe("gpu-100m", ["pretrain.optim.momentum=0.9"])
