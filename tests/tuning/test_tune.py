"""The tuning stage: what it learns, what it leaves alone, what it keeps."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tasks.contracts import Checkpoint, Conversations
from tasks.core.errors import ContractError, RecipeError
from tasks.core.site import Site
from tasks.modeling.batches import ExampleRows
from tasks.modeling.infer import Reader, example_nats
from tasks.modeling.sizing import ROW_TOKENS
from tasks.modeling.specs import AdamWSpec, TrainSpec
from tasks.modeling.words import chat_ids, load_tokenizer
from tasks.tuning import FullSpec, LoraSpec, TuneSpec, tune
from tasks.tuning.conversation_rows import read_messages
from tests.modeling.kit import Old

TRAIN = TrainSpec(batch_rows=4, num_epochs=4, eval_every_steps=4, checkpoint_every_steps=4, select="best", patience_evals=3)
OPTIM = AdamWSpec(kind="adamw", learning_rate=1e-2, weight_decay=0.0)
FULL = TuneSpec(method=FullSpec(kind="full"), train=TRAIN, optim=OPTIM, precision="fp32")
LORA = TuneSpec(method=LoraSpec(kind="lora", rank=4), train=TRAIN, optim=OPTIM, precision="fp32")


def weights(model: Checkpoint) -> dict[str, torch.Tensor]:
    return load_file(model.path / "model" / "model.safetensors")


@pytest.fixture(scope="module")
def lora(base: Checkpoint, conversations: Conversations, old: Old, shared_site: Site) -> Checkpoint:
    return tune.build(LORA, base, conversations, *old, site=shared_site)


def first_loss(model: Checkpoint) -> float:
    return float(json.loads((model.path / "extra" / "result.json").read_text())["first_validation_loss"])


def test_full_tuning_learns_the_answers(base: Checkpoint, conversations: Conversations, old: Old, shared_site: Site) -> None:
    tuned = tune.build(FULL, base, conversations, *old, site=shared_site)
    assert (tuned.method, tuned.base_digest, tuned.tokenizer_digest) == ("full", base.digest, base.tokenizer_digest)
    assert tuned.num_parameters == tuned.num_trained_parameters == base.num_parameters
    assert tuned.validation_loss < first_loss(tuned) - 1
    assert first_loss(tuned) == pytest.approx(base_loss(base, conversations), rel=1e-5)


def base_loss(base: Checkpoint, conversations: Conversations) -> float:
    """Mean loss of the base on the validation answers, by another way than the loop's."""
    from tasks.modeling.batches import Example
    from tasks.modeling.chat import mark_answers

    reader = Reader.load(base.path / "model", "cpu", "fp32")
    marked = [
        mark_answers(reader.tokenizer, messages, reader.special.turn_end)
        for messages in read_messages(conversations.path, "validation")
    ]
    nats = example_nats(reader, [Example.of(one.ids, one.is_target) for one in marked])
    return float(nats.sum() / sum(sum(one.is_target) for one in marked))


def test_lora_keeps_its_adapter_and_merges_it(lora: Checkpoint, base: Checkpoint) -> None:
    from peft import PeftModel

    from tasks.modeling.model import load_model

    assert lora.method == "lora"
    assert lora.num_parameters == base.num_parameters
    # Rank 4 beside 7 linear layers of 2 blocks: 4 * (inputs + outputs) each.
    assert lora.num_trained_parameters == 2 * 4 * (4 * (32 + 32) + 3 * (32 + 64))
    assert lora.validation_loss < first_loss(lora) - 0.5
    adapted = PeftModel.from_pretrained(load_model(base.path / "model"), lora.path / "adapter")
    ids = torch.arange(4, 24)[None]
    mask = torch.zeros(1, 1, 20, 20).masked_fill_(~torch.ones(20, 20).tril().bool(), -1e30)
    models = (adapted.get_base_model(), merged(lora))
    one, two = (model(input_ids=ids, attention_mask=mask, use_cache=False).logits for model in models)
    torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-4)


def merged(model: Checkpoint) -> Any:
    from tasks.modeling.model import load_model

    return load_model(model.path / "model")


def test_lora_leaves_embeddings_and_norms_alone(lora: Checkpoint, base: Checkpoint) -> None:
    before, after = weights(base), weights(lora)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {name for name in before if "_proj" in name}


def test_the_adapter_names_no_place_and_no_order_by_chance(lora: Checkpoint) -> None:
    assert sorted(path.name for path in (lora.path / "adapter").iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
        "base.json",
    ]
    config = json.loads((lora.path / "adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] is None
    assert config["target_modules"] == sorted(config["target_modules"])


@pytest.mark.parametrize("spec", [FULL, LORA], ids=["full", "lora"])
def test_a_learning_rate_of_0_gives_the_base_back(
    spec: TuneSpec, base: Checkpoint, conversations: Conversations, old: Old, site: Site
) -> None:
    changes = {"optim": OPTIM.model_copy(update={"learning_rate": 0.0}), "train": TRAIN.model_copy(update={"num_epochs": 0.5})}
    still = spec.model_copy(update=changes)
    tuned = tune.build(still, base, conversations, *old, site=site)
    assert all(torch.equal(value, weights(base)[name]) for name, value in weights(tuned).items())
    assert tuned.validation_loss == first_loss(tuned)


def test_the_same_tuning_twice_gives_the_same_bytes(
    lora: Checkpoint, base: Checkpoint, conversations: Conversations, old: Old, site: Site
) -> None:
    assert tune.build(LORA, base, conversations, *old, site=site).digest == lora.digest


def test_conversations_without_a_validation_split_are_refused(base: Checkpoint, conversations: Conversations, old: Old) -> None:
    empty = conversations.model_copy(update={"items_by_split": {"train": 3, "validation": 0, "test": 117}})
    with pytest.raises(ContractError, match="no validation conversations"):
        tune.fn(FULL, base, empty, *old, ctx=None)


def test_dropout_is_a_function_of_the_step(base: Checkpoint, tmp_path: Path) -> None:
    """A LoRA training with dropout, cut off and resumed, ends with the bits of one that was not."""
    from tasks.core.errors import TransientError
    from tasks.modeling.loop import Loop
    from tasks.modeling.objectives.causal import CausalSpec
    from tasks.modeling.parallel import joined
    from tasks.modeling.task import Place, Task
    from tests.modeling.training import tiny_rows

    def loop(folder: Path) -> Any:
        folder.mkdir(exist_ok=True)
        prepared = LoraSpec(kind="lora", rank=2, dropout=0.5).prepare(merged(base), 0)
        spec = TrainSpec(batch_rows=2, num_tokens=2 * 32 * 6, eval_every_steps=3, checkpoint_every_steps=3)
        with joined("cpu") as world:
            task = Task(CausalSpec(kind="causal").loss, tiny_rows(1), tiny_rows(2, 200))
            return Loop(prepared.model, task, spec, OPTIM, 0, Place(folder, world, "fp32", 2))

    whole = loop(tmp_path / "whole")
    whole.run()
    cut = loop(tmp_path / "cut")
    cut._leave_if_asked = lambda: (_ for _ in ()).throw(TransientError("cut")) if cut.position.step == 4 else None
    with pytest.raises(TransientError):
        cut.run()
    resumed = loop(tmp_path / "cut")
    resumed.run()
    assert resumed.position == whole.position
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name


def test_a_merge_that_changes_the_logits_is_our_error(base: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    from tasks.core.errors import StageError
    from tasks.tuning import through_peft as module

    answers = iter([torch.ones(1, 4, 8), torch.ones(1, 4, 8) * 1.01])
    monkeypatch.setattr(module, "_logits", lambda model, ids: next(answers))
    prepared = LoraSpec(kind="lora").prepare(merged(base), 0)
    with pytest.raises(StageError, match=r"differ from the adapter's by 0\.01"):
        prepared.finish(base.path.parent / "elsewhere")


def test_only_long_conversations_are_dropped_and_counted(base: Checkpoint, conversations: Conversations, tmp_path: Path) -> None:
    from collections import Counter

    from tasks.modeling.job import Execution
    from tasks.modeling.words import model_special_ids
    from tasks.tuning.conversation_rows import packed_conversations
    from tasks.tuning.job import TuneJob

    model = merged(base)
    tokenizer, special = load_tokenizer(base.path / "model"), model_special_ids(model)
    job = TuneJob(
        execution=Execution(dir=tmp_path, device="cpu", sharding="ddp", micro_batch_rows=None),
        base_dir=base.path / "model",
        base_digest=base.digest,
        conversations_dir=conversations.path,
        corpus_dir=tmp_path,
        fisher_dir=tmp_path,
        tokenizer_digest=base.tokenizer_digest,
        **FULL.model_dump(),
    )
    lengths = sorted(len(chat_ids(tokenizer, one, to_answer=False)) for one in read_messages(conversations.path, "train"))
    model.config.max_position_embeddings = lengths[30] - 1
    notes: Counter[str] = Counter()
    rows = packed_conversations(job, tokenizer, special, "train", model, notes)[""]
    assert isinstance(rows, ExampleRows)
    assert notes["items"] == 60
    assert notes["too_long"] == notes["dropped"] == sum(length > lengths[30] for length in lengths) > 0
    assert len(rows.examples) == 60 - notes["dropped"]
    longer = Counter(items=0)
    shorter = job.model_copy(update={"row_tokens": lengths[5] - 1})
    assert packed_conversations(shorter, tokenizer, special, "train", model, longer)[""].row_tokens == lengths[5] - 1
    assert longer["dropped"] == sum(length > lengths[5] for length in lengths) > notes["dropped"]
    with pytest.raises(RecipeError, match=rf"tune.row_tokens is 999, but the base's context has {lengths[30] - 1}"):
        packed_conversations(job.model_copy(update={"row_tokens": 999}), tokenizer, special, "train", model, longer)
    model.config.max_position_embeddings = 131_072  # a row as long as that would be padding
    assert packed_conversations(job, tokenizer, special, "train", model, Counter())[""].row_tokens == ROW_TOKENS
    model.config.max_position_embeddings = 8
    with pytest.raises(ContractError, match="fits a row of 8 tokens"):
        packed_conversations(job, tokenizer, special, "train", model, notes)
