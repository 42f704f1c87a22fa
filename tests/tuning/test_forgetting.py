"""Against forgetting: the penalty and the Fisher information by hand, what replay and noise do to a tuning."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from tasks.contracts import Checkpoint, Conversations
from tasks.core.errors import ContractError, RecipeError
from tasks.core.site import Site
from tasks.modeling.batches import Batch, ExampleRows, make_batch
from tasks.modeling.infer import Reader
from tasks.modeling.model import load_model, token_losses
from tasks.modeling.specs import AdamWSpec, TrainSpec
from tasks.tuning import EwcSpec, FisherSpec, FullSpec, LoraSpec, ReplaySpec, TuneSpec, estimate_fisher, tune
from tasks.tuning.curvature import diagonal_fisher
from tasks.tuning.ewc import penalty
from tasks.tuning.noise import add_noise
from tasks.tuning.old_text import old_rows
from tests.architectures import tiny_of, writer
from tests.modeling.kit import Old
from tests.modeling.training import tiny_rows
from tests.tuning.kit import tiny

FULL = TuneSpec(
    method=FullSpec(kind="full"),
    train=TrainSpec(batch_rows=4, num_epochs=6, eval_every_steps=50, checkpoint_every_steps=50),
    optim=AdamWSpec(kind="adamw", learning_rate=1e-2, weight_decay=0.0),
    precision="fp32",
)


@pytest.fixture(scope="module")
def free(base: Checkpoint, conversations: Conversations, old: Old, shared_site: Site) -> Checkpoint:
    return tune.build(FULL, base, conversations, *old, site=shared_site)


def old_loss(model: Checkpoint, old: Old) -> float:
    """Mean loss on the old text."""
    reader = Reader.load(model.path / "model", "cpu", "fp32")
    rows = old_rows(old[0].path, old[0].tokenizer_digest, reader.tokenizer, reader.special, 64)
    with torch.no_grad():
        return float(token_losses(reader.model, make_batch(rows, np.arange(8), reader.device)).mean())


def distance(model: Checkpoint, base: Checkpoint, scale: dict[str, torch.Tensor] | None = None) -> float:
    one, other = (load_file(each.path / "model" / "model.safetensors") for each in (model, base))
    return float(sum((((one[name] - other[name]) ** 2) * (1 if scale is None else scale[name])).sum() for name in other))


def test_the_penalty_by_hand() -> None:
    weights, start = {"w": torch.tensor([3.0, 1.0])}, {"w": torch.tensor([1.0, 1.0])}
    fisher = {"w": torch.tensor([0.5, 2.0]), "other": torch.tensor([9.0])}
    assert penalty(weights, start, fisher, strength=4.0).item() == 4 / 2 * (0.5 * 2**2 + 2 * 0**2)


class _Two(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w = torch.nn.Parameter(torch.tensor([1.0, 1.0]))


def test_the_penalty_counts_once_a_step_and_in_training_only(tmp_path: Path) -> None:
    model = _Two()
    save_file({"w": torch.tensor([0.5, 2.0])}, tmp_path / "fisher.safetensors")
    ewc = EwcSpec(strength=4.0)
    held = ewc.held(lambda model, batch: model.w.sum() * batch.num_targets, model, tmp_path)
    with torch.no_grad():
        model.w.copy_(torch.tensor([3.0, 1.0]))
    batches = [Batch(*[torch.zeros(1, 1)] * 4, num_targets=count) for count in (3, 5)]
    assert sum(held(model, batch).item() for batch in batches) / 8 == pytest.approx(4.0 + 4.0)
    assert sum(held(model.eval(), batch).item() for batch in batches) / 8 == pytest.approx(4.0)
    model.requires_grad_(False)
    with pytest.raises(RecipeError, match=r"this tune.method moves none of them.*tune.method.kind to full"):
        ewc.held(lambda model, batch: model.w.sum(), model, tmp_path)


def test_the_fisher_information_is_the_mean_of_squared_gradients_of_rows() -> None:
    model, rows = tiny("llama").eval(), tiny_rows(3, 32 * 3)
    rows.row_tokens = 32
    model.resize_token_embeddings(64)
    found = diagonal_fisher(model, rows, np.array([0, 2]), torch.device("cpu"))
    expected = {name: torch.zeros_like(weight) for name, weight in model.named_parameters()}
    for index in (0, 2):
        row = rows.row(index)
        mask = torch.tensor(row.segments_T[:, None] == row.segments_T[None]).tril()[None, None]
        logits = model(
            input_ids=torch.tensor(row.ids_T)[None],
            position_ids=torch.tensor(row.positions_T)[None],
            attention_mask=torch.where(mask, 0.0, -1e30),
        ).logits[0]
        gradients = torch.autograd.grad(F.cross_entropy(logits, torch.tensor(row.targets_T)), list(model.parameters()))
        for name, gradient in zip(expected, gradients, strict=True):
            expected[name] += gradient**2 / 2
    for name, value in found.items():
        torch.testing.assert_close(value, expected[name], rtol=1e-3, atol=1e-9, msg=name)


def test_ewc_holds_the_weights_that_matter(
    base: Checkpoint, conversations: Conversations, old: Old, free: Checkpoint, shared_site: Site
) -> None:
    spec = FULL.model_copy(update={"ewc": EwcSpec(strength=3e4, num_rows=16), "row_tokens": 64})
    fisher = estimate_fisher.build(spec.fisher, base, old[0], site=shared_site)
    assert (fisher.num_rows, fisher.num_weights, fisher.base_digest) == (16, base.num_parameters, base.digest)
    assert (fisher.trace > 0, old[1].summary()) == (True, "not asked for")
    held = tune.build(spec, base, conversations, old[0], fisher, site=shared_site)
    scale = load_file(fisher.path / "fisher.safetensors")
    assert distance(held, base, scale) < 0.2 * distance(free, base, scale)
    assert old_loss(held, old) < old_loss(free, old) - 0.3
    assert held.train_loss > held.validation_loss - held.figures["train_validation_gap"] + 0.1, "the gap knows no penalty"
    with pytest.raises(ContractError, match=r"of 0 rows and checkpoint .* but tune.ewc asks for that of"):
        tune.fn(spec, base, conversations, *old, ctx=None)
    adapter = spec.model_copy(update={"method": LoraSpec(kind="lora")})
    with pytest.raises(RecipeError, match="moves none of them"):
        tune.build(adapter, base, conversations, old[0], fisher, site=shared_site)


def test_ewc_is_refused_where_no_process_has_whole_weights() -> None:
    spec = FULL.model_copy(update={"ewc": EwcSpec(strength=1.0)})
    spec.check_site(Site(num_processes=2))
    with pytest.raises(RecipeError, match="set TEXTMILL_SHARDING to ddp"):
        spec.check_site(Site(num_processes=2, sharding="fsdp2"))


def test_replay_keeps_the_old_text(
    base: Checkpoint, conversations: Conversations, old: Old, free: Checkpoint, shared_site: Site
) -> None:
    spec = FULL.model_copy(update={"replay": ReplaySpec(share=0.5)})
    made = tune.build(spec, base, conversations, *old, site=shared_site)
    assert old_loss(made, old) < old_loss(free, old) - 0.3
    assert json.loads((made.path / "extra" / "result.json").read_text())["notes"]["rows_replayed_a_pass"] > 0
    other = old[0].model_copy(update={"tokenizer_digest": "f" * 64})
    with pytest.raises(ContractError, match="give the corpus that was encoded for this base"):
        tune.fn(spec, base, conversations, other, old[1], ctx=None)


def test_the_share_of_replay_is_one_of_targets() -> None:
    from tasks.modeling.batches import Example

    answers = [Example.of(range(10, 30), [False] * 15 + [True] * 5) for _ in range(32)]
    rows = ExampleRows(answers, 32, 1)
    mixed = ReplaySpec(share=0.5).mixed(rows, tiny_rows(1))
    assert rows.num_targets(np.arange(rows.num_rows)) == 32 * 5
    assert mixed.notes == {"rows_replayed_a_pass": 5}  # 5 rows of 32 targets, as many as the answers have


def test_noise_is_there_while_training_only_and_within_its_bound() -> None:
    model = tiny("llama")
    ids, embed = torch.arange(20)[None], model.get_input_embeddings()
    plain = embed(ids).detach()
    (handle,) = add_noise(model, 5.0)
    model.train()
    torch.manual_seed(0)
    noise = (embed(ids) - plain).detach()
    limit = 5.0 / (20 * 16) ** 0.5
    assert 0.9 * limit < noise.abs().max() <= limit
    torch.manual_seed(0)
    assert torch.equal(embed(ids) - plain, noise)
    model.eval()
    assert torch.equal(embed(ids), plain)
    handle.remove()
    assert torch.equal(model.train().get_input_embeddings()(ids), plain)


@pytest.mark.parametrize("architecture", ["t5", "bart"])
def test_what_encoder_and_decoder_read_is_noisy_too(architecture: str) -> None:
    model, ids = tiny_of(architecture, writer(architecture)), torch.arange(20)[None]
    stacks = (model.base_model.encoder, model.base_model.decoder)
    plain = [stack.get_input_embeddings()(ids) for stack in stacks]
    handles = add_noise(model, 5.0)
    model.train()
    assert not any(torch.equal(stack.get_input_embeddings()(ids), one) for stack, one in zip(stacks, plain, strict=True))
    for handle in handles:
        handle.remove()
    assert all(torch.equal(stack.get_input_embeddings()(ids), one) for stack, one in zip(stacks, plain, strict=True))


@pytest.mark.slow
def test_noise_changes_what_is_learned(
    base: Checkpoint, conversations: Conversations, old: Old, free: Checkpoint, shared_site: Site
) -> None:
    short = {"train": FULL.train.model_copy(update={"num_epochs": 0.5})}
    plain, noisy = (
        tune.build(FULL.model_copy(update=short | change), base, conversations, *old, site=shared_site)
        for change in ({}, {"embedding_noise": 5.0})
    )
    assert plain.digest != noisy.digest
    assert load_model(noisy.path / "model").config.vocab_size == load_model(base.path / "model").config.vocab_size


def test_nothing_is_measured_where_nothing_is_asked(base: Checkpoint, old: Old, shared_site: Site) -> None:
    assert FULL.fisher == FisherSpec()
    assert [path.name for path in old[1].path.iterdir()] == ["manifest.json"]
