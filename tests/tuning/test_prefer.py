"""Preference learning: the losses by hand, the reference, what a model comes to prefer, what is refused."""

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file

from tasks.contracts import SPLITS, Checkpoint, Preferences
from tasks.core.errors import ContractError, RecipeError
from tasks.core.site import Site
from tasks.core.stage import StageContext, stage
from tasks.instructions import InstructionsSpec
from tasks.modeling.batches import Example, make_batch
from tasks.modeling.infer import Reader, example_nats
from tasks.modeling.specs import AdamWSpec, TrainSpec
from tasks.tuning import FullSpec, LoraSpec
from tasks.tuning.prefer import PreferSpec, prefer
from tasks.tuning.preference_losses import DpoSpec, OrpoSpec
from tasks.tuning.preference_rows import Pair, PairRows, answer_sums, pair_numbers, read_pairs
from tasks.tuning.virtual_tokens import PrefixSpec
from tests.modeling.kit import WORDS, ToySpec, out_of_memory_once

SPEC = PreferSpec(
    method=FullSpec(kind="full"),
    optim=AdamWSpec(kind="adamw", learning_rate=2e-3, weight_decay=0.0),
    train=TrainSpec(batch_rows=8, num_epochs=3, eval_every_steps=8, checkpoint_every_steps=8, select="best"),
    precision="fp32",
)


@stage(version=1)
def toy_preferences(spec: ToySpec, *, ctx: StageContext) -> Preferences:
    """The better answer repeats the word asked about, the worse one another."""
    items = []
    for number in range(spec.size):
        word, other = WORDS[number % len(WORDS)], WORDS[(number + 5) % len(WORDS)]
        split = ("train", "train", "train", "validation", "test")[number % 5]
        prompt = [{"role": "user", "content": f"about {word}"}]
        texts = {"prompt": prompt, "chosen": f"the {word}", "rejected": f"the {other} reads"}
        items.append({"id": f"p{number}", "group": f"g{number}", "source": "toy", "split": split} | texts)
    lines = [json.dumps(item, ensure_ascii=False) + "\n" for item in items]
    (ctx.dir / "preferences.jsonl").write_text("".join(lines), encoding="utf-8")
    count = {split: sum(item["split"] == split for item in items) for split in SPLITS}
    return ctx.commit(
        Preferences,
        form="paired",
        num_items_in=len(items),
        num_items=len(items),
        dropped_by_reason={},
        items_by_split=count,
        items_by_source={"toy": len(items)},
    )


@pytest.fixture(scope="module")
def preferences(shared_site: Site) -> Preferences:
    return toy_preferences.build(ToySpec(size=80), site=shared_site)


@pytest.fixture(scope="module")
def preferred(base: Checkpoint, preferences: Preferences, shared_site: Site) -> Checkpoint:
    return prefer.build(SPEC, base, preferences, site=shared_site)


def result(model: Checkpoint) -> dict[str, Any]:
    return json.loads((model.path / "extra" / "result.json").read_text())


def test_dpo_by_hand() -> None:
    logp, reference, counts = torch.tensor([[-1.0, -3.0]]), torch.tensor([[-2.0, -2.0]]), torch.ones(1, 2)
    spec = DpoSpec(kind="dpo", beta=0.5)
    assert spec.margins(logp, counts, reference).item() == 0.5 * ((-1 + 2) - (-3 + 2)) == 1.0
    assert spec.losses(logp, counts, reference).item() == pytest.approx(math.log(1 + math.exp(-1)), rel=1e-6)
    assert spec.losses(reference, counts, reference).item() == pytest.approx(math.log(2), rel=1e-6)


def test_orpo_by_hand() -> None:
    logp, counts = torch.tensor([[-2.0, -4.0]]), torch.tensor([[2.0, 2.0]])
    odds = [math.exp(mean) / (1 - math.exp(mean)) for mean in (-1.0, -2.0)]
    margin = math.log(odds[0] / odds[1])
    spec = OrpoSpec(kind="orpo", weight=0.1)
    assert spec.margins(logp, counts, counts).item() == pytest.approx(margin, rel=1e-5)
    expected = 1.0 + 0.1 * math.log(1 + math.exp(-margin))
    assert spec.losses(logp, counts, counts).item() == pytest.approx(expected, rel=1e-6)
    certain = spec.losses(torch.tensor([[0.0, -50.0]]), counts, counts)
    assert torch.isfinite(certain).all()


def test_a_row_is_a_pair_and_its_sums_are_those_of_each_answer_alone(base: Checkpoint) -> None:
    reader = Reader.load(base.path / "model", "cpu", "fp32")
    texts = [Example.of(range(10, 10 + length), [False] * 4 + [True] * (length - 4)) for length in (9, 7, 6, 12)]
    rows = PairRows([Pair(*texts[:2]), Pair(*texts[2:])], reader.special.pad, first_number=5)
    assert (rows.row_tokens, rows.num_targets(np.array([0, 1])), rows.num_answer_tokens) == (5 + 11, 2, 5 + 3 + 2 + 8)
    batch = make_batch(rows, np.array([1, 0]), torch.device("cpu"))
    with torch.no_grad():
        logp, counts = answer_sums(reader.model, batch)
    assert pair_numbers(batch).tolist() == [6, 5]
    assert counts.tolist() == [[2, 8], [5, 3]]
    alone = -example_nats(reader, texts)
    np.testing.assert_allclose(logp.numpy(), [[alone[2], alone[3]], [alone[0], alone[1]]], rtol=1e-5)


def test_dpo_starts_at_the_reference_and_learns_to_prefer(
    preferred: Checkpoint, base: Checkpoint, preferences: Preferences
) -> None:
    assert (preferred.method, preferred.base_digest) == ("dpo, full", base.digest)
    assert result(preferred)["first_validation_loss"] == pytest.approx(math.log(2), rel=1e-5)
    assert preferred.validation_loss < 0.5
    assert preferred.figures["preference_accuracy"] >= 0.9
    reference = load_file(preferred.path / "extra" / "reference.safetensors")["logp"]
    assert reference.shape == (48 + 16, 2)
    reader = Reader.load(base.path / "model", "cpu", "fp32")
    pairs = read_pairs(preferences.path, "validation", reader.tokenizer, reader.special.turn_end, 64, Counter())
    nats = example_nats(reader, [text for pair in pairs for text in (pair.chosen, pair.rejected)])
    np.testing.assert_allclose(reference[48:].numpy().ravel(), -nats, rtol=1e-4)


def job_of(base: Checkpoint, preferences: Preferences, folder: Path, **changes: Any) -> Any:
    from tasks.modeling.job import Execution
    from tasks.tuning.job import PreferJob

    return PreferJob(
        execution=Execution(dir=folder, device="cpu", sharding="ddp", micro_batch_rows=None),
        base_dir=base.path / "model",
        base_digest=base.digest,
        preferences_dir=preferences.path,
        **SPEC.model_copy(update=changes).model_dump(),
    )


def test_virtual_tokens_take_their_room_before_pairs_are_measured(
    base: Checkpoint, preferences: Preferences, tmp_path: Path
) -> None:
    from tasks.tuning.prefer_train import _rows

    reader, left = Reader.load(base.path / "model", "cpu", "fp32"), 30
    method = PrefixSpec(kind="prefix", num_tokens=reader.model.config.max_position_embeddings - left)
    found, asked = Counter[str](), Counter[str]()
    _rows(job_of(base, preferences, tmp_path, method=method), reader.model, reader.special, found)
    _rows(job_of(base, preferences, tmp_path, row_tokens=left), reader.model, reader.special, asked)
    assert found == asked
    assert found["dropped"] > 0
    with pytest.raises(RecipeError, match=r"^preference\.learn\.row_tokens is 31, but the base's context has 30"):
        _rows(job_of(base, preferences, tmp_path, method=method, row_tokens=31), reader.model, reader.special, found)
    with pytest.raises(ContractError, match=r"fits 16 tokens a text; raise preference\.learn\.row_tokens, or take a base"):
        _rows(job_of(base, preferences, tmp_path, row_tokens=16), reader.model, reader.special, found)


def test_the_reference_is_computed_once_and_kept(base: Checkpoint, preferences: Preferences, tmp_path: Path) -> None:
    from tasks.modeling.parallel import World
    from tasks.tuning.prefer_train import _reference, _rows

    job = job_of(base, preferences, tmp_path)
    reader = Reader.load(base.path / "model", "cpu", "fp32")
    parts = _rows(job, reader.model, reader.special, Counter())
    world = World(0, 1, torch.device("cpu"))
    first = _reference(job, reader.model, parts, world)
    with torch.no_grad():
        reader.model.get_input_embeddings().weight.add_(1.0)  # as after some steps
    assert torch.equal(_reference(job, reader.model, parts, world), first)


def test_orpo_needs_no_reference_and_an_adapter_leaves_the_base(
    base: Checkpoint, preferences: Preferences, shared_site: Site
) -> None:
    changes = {"loss": OrpoSpec(kind="orpo", weight=0.5), "method": LoraSpec(kind="lora", rank=4)}
    optim = SPEC.optim.model_copy(update={"learning_rate": 1e-2})
    made = prefer.build(SPEC.model_copy(update=changes | {"optim": optim}), base, preferences, site=shared_site)
    assert not (made.path / "extra" / "reference.safetensors").exists()
    assert (made.path / "adapter" / "adapter_model.safetensors").exists()
    assert made.validation_loss < result(made)["first_validation_loss"] - 0.5
    assert made.figures["preference_accuracy"] >= 0.8


def test_a_model_that_no_device_has_room_for_is_kept_all_the_same(
    base: Checkpoint, preferences: Preferences, shared_site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tasks.tuning.prefer_train import _preferred

    looks = out_of_memory_once(monkeypatch, _preferred, "tasks.tuning.prefer_train._preferred")
    short = SPEC.train.model_copy(update={"num_epochs": 0.25})
    made = prefer.build(SPEC.model_copy(update={"train": short}), base, preferences, site=shared_site)
    assert made.figures.items() >= looks[0].items()
    assert len(looks) == 2


@pytest.mark.parametrize("change", [{"loss": DpoSpec(kind="dpo", beta=0.5)}, {"row_tokens": 30}], ids=["beta", "row_tokens"])
def test_every_setting_changes_the_model(
    change: dict[str, Any], preferred: Checkpoint, base: Checkpoint, preferences: Preferences, shared_site: Site
) -> None:
    made = prefer.build(SPEC.model_copy(update=change), base, preferences, site=shared_site)
    assert made.digest != preferred.digest
    dropped = result(made)["notes"]["dropped"]
    assert (dropped > 0) == ("row_tokens" in change)
    assert any(f"{dropped} of 64 pairs of answers" in warning for warning in made.warnings) == ("row_tokens" in change)


def test_what_does_not_fit_is_refused(base: Checkpoint, preferences: Preferences) -> None:
    def refused(kind: type[Exception], message: str, spec: PreferSpec = SPEC, **facts: Any) -> None:
        with pytest.raises(kind, match=message):
            prefer.fn(spec, base, preferences.model_copy(update=facts), ctx=None)

    refused(ContractError, "is unpaired, but dpo learns from pairs", form="unpaired")
    refused(ContractError, "has no validation pairs", items_by_split={"train": 3, "validation": 0})
    without_rate = SPEC.model_copy(update={"optim": SPEC.optim.model_copy(update={"learning_rate": None})})
    refused(RecipeError, "preference.learn.optim.learning_rate is off", without_rate)


def test_a_loss_that_is_no_likelihood_is_no_recipe() -> None:
    with pytest.raises(ValidationError, match=r"train\.z_loss would change; set it off"):
        PreferSpec(train=TrainSpec(batch_rows=8, num_epochs=1, z_loss=1e-4))


def test_the_chain_keeps_the_base_that_is_judged_against_and_what_is_held_out(
    base: Checkpoint, site: Site, tmp_path: Path
) -> None:
    from flows.preference import NoPreference, PairedPreference

    pairs = tmp_path / "pairs.jsonl"
    rows = [
        {"prompt": f"about {word} {number}", "chosen": f"the {word}", "rejected": f"no {word} at all"}
        for number, word in enumerate(WORDS)
    ]
    pairs.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    held = tmp_path / "held.jsonl"
    asked = rows[0]["prompt"].replace("about", "{{name}}")
    held.write_text(json.dumps({"instruction": asked, "output": "a held-out answer"}) + "\n", encoding="utf-8")
    sets = [{"name": path.stem, "licence": "MIT", "paths": [str(path)]} for path in (pairs, held)]
    part = PairedPreference.model_validate(
        {
            "kind": "pairs",
            "pairs": {"kind": "paired", "train": sets[:1], "validation_share": 0.3},
            "learn": SPEC.model_dump(mode="json") | {"train": SPEC.train.model_dump() | {"num_epochs": 0.5}},
        }
    )
    tuned = base.model_copy(update={"base_digest": "b" * 64})
    told = InstructionsSpec.model_validate({"train": [sets[0] | {"name": "t"}], "heldout": sets[1:], "slots": {"name": "about"}})
    made = part.build(tuned, told)
    assert made.base_digest == "b" * 64
    assert result(made)["notes"]["items"] == len(WORDS) - 1  # the held-out prompt is gone
    assert NoPreference(kind="none").build(tuned, told) is tuned
