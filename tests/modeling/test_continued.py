"""Pretraining that goes on from a given base: where it starts, what it replays, what it takes as it is, what it refuses."""

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from tasks.bases import BaseSpec, FolderBase, adopt_base
from tasks.contracts import Checkpoint, TokenizedCorpus, Tokenizer
from tasks.core.errors import ContractError, RecipeError
from tasks.core.site import Site
from tasks.modeling import train
from tasks.modeling.batches import make_batch, step_rows
from tasks.modeling.model import load_model, token_losses
from tasks.modeling.objectives.masked import MaskedSpec
from tasks.modeling.objectives.span_corruption import SpanCorruptionSpec
from tasks.modeling.records import read_records
from tasks.modeling.set_rows import SetRows, with_replay
from tasks.modeling.specs import AdamWSpec, BudgetSpec, CosineSchedule, ModelSpec, MuonSpec, TrainSpec
from tasks.modeling.start import AsGiven, Continued, FromScratch, ReplaySpec
from tasks.modeling.text import open_text
from tasks.pretrain import PretrainSpec, pretrain
from tasks.tokenization import BaseTokenizer, TokenizerSpec, make_tokenizer
from tests.bases.kit import save_folder
from tests.data.kit import no_base
from tests.modeling.kit import ToySpec, in_process, toy_corpus, toy_tokens
from tests.modeling.training import tiny_rows

SPEC = PretrainSpec(
    start=Continued(kind="continued"),
    model=ModelSpec(context_tokens=64),
    optim=AdamWSpec(kind="adamw", learning_rate=1e-2, schedule=CosineSchedule(kind="cosine", warmup_share=0.4)),
    train=TrainSpec(batch_rows=4, num_tokens=4 * 64 * 10, eval_every_steps=5, checkpoint_every_steps=5),
    precision="fp32",
)
REPLAYED = ReplaySpec(corpus="tokenized-corpus/000000000000", share=0.25)


@pytest.fixture(scope="module", autouse=True)
def _in_process() -> Iterator[None]:
    with in_process():
        yield


@pytest.fixture(scope="module")
def shared_site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return Site(state_dir=tmp_path_factory.mktemp("state"))


@pytest.fixture(scope="module")
def given(shared_site: Site, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    folder = tmp_path_factory.mktemp("given")
    save_folder(folder)
    spec = BaseSpec(source=FolderBase(kind="folder", path=str(folder), licence="MIT"))
    return adopt_base.build(spec, site=shared_site)


@pytest.fixture(scope="module")
def tokenizer(given: Checkpoint, shared_site: Site) -> Tokenizer:
    spec = TokenizerSpec(source=BaseTokenizer(kind="base"))
    return make_tokenizer.build(spec, toy_corpus.build(ToySpec(size=30), site=shared_site), given, site=shared_site)


@pytest.fixture(scope="module")
def tokens(tokenizer: Tokenizer, shared_site: Site) -> TokenizedCorpus:
    return toy_tokens.build(ToySpec(size=80), tokenizer, site=shared_site)


@pytest.fixture(scope="module")
def continued(tokens: TokenizedCorpus, tokenizer: Tokenizer, given: Checkpoint, shared_site: Site) -> Checkpoint:
    return pretrain.build(SPEC, tokens, tokenizer, given, site=shared_site)


def records(model: Checkpoint) -> list[dict[str, float]]:
    return [record for record in read_records(model.path / "extra" / "metrics.jsonl") if "train_loss" in record]


def weights(model: Checkpoint) -> dict[str, torch.Tensor]:
    return load_model(model.path / "model").state_dict()


def test_the_tokenizer_is_the_base_s_to_the_byte(given: Checkpoint, tokenizer: Tokenizer) -> None:
    assert tokenizer.digest == given.tokenizer_digest
    assert tokenizer.special_tokens["turn_end"] == "<|im_end|>"


def test_the_first_loss_is_the_base_s_on_that_batch(continued: Checkpoint, given: Checkpoint, tokens: TokenizedCorpus) -> None:
    text = open_text(tokens.path, "train", tokens.tokenizer_digest, **_facts(given))
    rows = SPEC.objective.rows(text)
    batch = make_batch(rows, step_rows(SPEC.seed, 0, 4, rows.num_rows), torch.device("cpu"))
    with torch.no_grad():
        expected = float(token_losses(load_model(given.path / "model"), batch).mean())
    assert records(continued)[0]["train_loss"] == pytest.approx(expected, rel=1e-6)
    assert continued.validation_loss < json.loads((continued.path / "extra" / "result.json").read_text())["first_validation_loss"]


def _facts(model: Checkpoint) -> dict[str, Any]:
    from tasks.modeling.words import load_tokenizer, model_special_ids

    special = model_special_ids(load_model(model.path / "model"))
    shared = {"roles": {}, "vocab_size": 320, "context_tokens": 64, "seed": 0}
    return shared | {"special": special, "tokenizer": load_tokenizer(model.path / "model")}


def test_the_rate_warms_up_again_and_the_base_is_recorded(continued: Checkpoint, given: Checkpoint) -> None:
    assert [record["learning_rate"] for record in records(continued)[:5]] == pytest.approx([0.0025, 0.005, 0.0075, 0.01, 0.01])
    assert (continued.method, continued.base_digest, continued.licence) == ("pretrain", given.digest, "MIT")
    assert (continued.context_tokens, continued.num_steps) == (128, 10)
    before, after = weights(given), weights(continued)
    assert before.keys() == after.keys()
    assert not any(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize(("rate", "warned"), [({}, True), ({"matrix_learning_rate": 2e-3}, False)])
def test_muon_at_a_rate_of_new_weights_is_warned_of(rate: dict[str, float], warned: bool) -> None:
    muon = SPEC.model_copy(update={"optim": MuonSpec(kind="muon", learning_rate=1e-3, **rate)})
    told = "pretrain.optim.matrix_learning_rate 0.01 is a rate of pretraining from scratch"
    assert [told in text for text in muon.forewarnings()] == [True] * warned
    assert muon.model_copy(update={"start": FromScratch(kind="scratch")}).forewarnings() == []


def test_a_base_taken_as_it_is_keeps_its_digest_and_reads_no_budget(
    tokens: TokenizedCorpus, tokenizer: Tokenizer, given: Checkpoint, shared_site: Site
) -> None:
    spec = SPEC.model_copy(update={"start": AsGiven(kind="as_given")})
    made = pretrain.build(spec, tokens, tokenizer, given, site=shared_site)
    assert (made.digest, made.method, made.num_steps, spec.peak) == (given.digest, "adopted", 0, None)
    weights_file = Path("model", "model.safetensors")
    assert (made.path / weights_file).samefile(given.path / weights_file)  # no room is taken


def test_replay_changes_what_is_read_and_nothing_else(
    continued: Checkpoint, tokens: TokenizedCorpus, tokenizer: Tokenizer, given: Checkpoint, shared_site: Site
) -> None:
    earlier = toy_tokens.build(ToySpec(size=40, seed=7), tokenizer, site=shared_site)
    replay = ReplaySpec(corpus=earlier.address, share=0.25)
    spec = SPEC.model_copy(update={"start": Continued(kind="continued", replay=replay)})
    made = pretrain.build(spec, tokens, tokenizer, given, site=shared_site)
    assert made.digest != continued.digest
    assert made.num_steps == continued.num_steps
    notes = json.loads((made.path / "extra" / "result.json").read_text())["notes"]
    num_new = -(-tokens.tokens_by_split["train"] // 64)
    assert notes["rows_replayed_a_pass"] == round(num_new / 3)
    passes = spec.model_copy(update={"train": BudgetSpec(batch_rows=4, num_epochs=1)}).scaled(6000)
    assert passes is not None
    assert passes.budget_tokens == 8000, "the old rows of a pass are read too"
    identity = spec.pinned(shared_site).identity()["start"]["replay"]
    assert identity == {"share": 0.25, "digest": earlier.digest}


@pytest.mark.slow
def test_a_cut_off_training_with_replay_ends_with_the_same_bits(tmp_path: Path) -> None:
    from tests.modeling.training import TinyJob, cut_off, joined, tiny_loop

    def mixed(folder: Path, world: Any) -> Any:
        loop = tiny_loop(TinyJob(folder=folder), world)
        rows = SetRows((tiny_rows(1), tiny_rows(9)), (tiny_rows(1).num_rows, 13))
        loop.task = type(loop.task)(loop.task.loss, rows, loop.task.validation, 600)
        return loop

    with joined("cpu") as world, pytest.MonkeyPatch.context() as patch:
        whole = mixed(tmp_path / "whole", world)
        whole.run()
        patch.setattr("tests.modeling.training.tiny_loop", lambda job, world: mixed(job.folder, world))
        cut_off(TinyJob(folder=tmp_path / "cut"), 7)
        resumed = mixed(tmp_path / "cut", world)
        resumed.run()
    assert all(torch.equal(one, two) for one, two in zip(whole.model.parameters(), resumed.model.parameters(), strict=True))


def test_a_pass_takes_every_new_row_once_and_goes_on_in_the_old_text() -> None:
    new, old = tiny_rows(1, 32 * 6), tiny_rows(2, 32 * 4)
    rows = with_replay(new, old, 0.25, 6)
    assert rows.num_rows == 6 + 2
    first = [rows.row(index).ids_T for index in range(8)]
    second = [rows.row(8 + index).ids_T for index in range(8)]
    assert all(np.array_equal(first[n], new.row(n).ids_T) and np.array_equal(second[n], first[n]) for n in range(6))
    assert [np.array_equal(first[6 + n], old.row(n).ids_T) for n in range(2)] == [True, True]
    assert [np.array_equal(second[6 + n], old.row(2 + n).ids_T) for n in range(2)] == [True, True]
    assert rows.num_targets(np.arange(16)) == 16 * 32


def test_what_does_not_belong_together_is_refused(
    tokens: TokenizedCorpus, tokenizer: Tokenizer, given: Checkpoint, shared_site: Site
) -> None:
    def refused(kind: type[Exception], message: str, spec: PretrainSpec = SPEC, base: Checkpoint = given) -> None:
        with pytest.raises(kind, match=message):
            pretrain.build(spec, tokens, tokenizer, base, site=shared_site)

    refused(RecipeError, r"^pretrain\.start\.kind is continued, and no base is given", base=no_base(shared_site))
    refused(RecipeError, "scratch, and checkpoint/.* is given, which it would not use", PretrainSpec())
    refused(RecipeError, r"context_tokens is 256, but .* made for 128", SPEC.model_copy(update={"model": ModelSpec()}))
    masked = SPEC.model_copy(update={"objective": MaskedSpec(kind="masked")})
    refused(RecipeError, "'masked' does not train a llama", masked)
    with pytest.raises(ContractError, match=r"has the tokenizer ffff.*source.kind to base"):
        pretrain.fn(
            SPEC, tokens, tokenizer, given.model_copy(update={"tokenizer_digest": "f" * 64}), ctx=SimpleNamespace(stage=pretrain)
        )
    open_rate = SPEC.model_copy(update={"optim": AdamWSpec(kind="adamw")})
    refused(RecipeError, r"and pretrain\.optim\.learning_rate not set", open_rate)
    with pytest.raises(
        RecipeError, match=r"^unlabelled\.further\.start\.kind is .*, and unlabelled\.further\.optim\.learning_rate not"
    ):
        open_rate.scaled(None, "unlabelled.further")
    gone = SPEC.model_copy(update={"start": Continued(kind="continued", replay=REPLAYED)})
    refused(RecipeError, "has no tokenized-corpus/000000000000; see `textmill ls`", gone)


@pytest.mark.parametrize(
    ("name", "kind", "is_trained"),
    [
        ("Roberta", "causal", False),
        ("Roberta", "masked_next_sentence", False),
        ("Roberta", "masked", True),
        ("Bert", "masked_next_sentence", True),
        ("Electra", "masked", False),
        ("Opt", "masked", False),
        ("Opt", "fill_in_the_middle", True),
    ],
)
def test_a_base_of_another_name_learns_what_those_of_its_kind_do(
    name: str, kind: str, is_trained: bool, tokens: TokenizedCorpus, tokenizer: Tokenizer, given: Checkpoint, tmp_path: Path
) -> None:
    import transformers

    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 320}
    head = "OPTForCausalLM" if name == "Opt" else f"{name}ForMaskedLM"
    config = transformers.OPTConfig() if name == "Opt" else getattr(transformers, f"{name}Config")()
    config.update(sizes | ({"word_embed_proj_dim": 32} if name == "Opt" else {}))
    getattr(transformers, head)(config).save_pretrained(tmp_path / "model")
    spec = PretrainSpec.model_validate(SPEC.model_dump() | {"objective": {"kind": kind}})
    remedy = r"needs tokens that .*: take another base, or set another pretrain\.objective\.kind"
    refusal = (ContractError, remedy) if is_trained else (RecipeError, f"{kind!r} does not train a {name.lower()}")
    with pytest.raises(refusal[0], match=refusal[1]):
        pretrain.fn(spec, tokens, tokenizer, given.model_copy(update={"uri": str(tmp_path)}), ctx=SimpleNamespace(stage=pretrain))


def test_a_decoder_goes_on_from_the_token_its_base_starts_by(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"decoder_start_token_id": 0}')
    assert (train._decoder_start(tmp_path), train._decoder_start(None)) == (0, None)


def test_rows_that_need_more_sentinels_than_there_are_are_refused() -> None:
    dense = SpanCorruptionSpec(kind="span_corruption", noise_density=0.3, mean_span_tokens=1)
    with pytest.raises(ValidationError, match=r"rows of 512 tokens need 154 sentinels, but num_sentinels is 100"):
        PretrainSpec(start=Continued(kind="continued"), objective=dense, model=ModelSpec(context_tokens=512))


def test_a_model_without_the_head_that_is_needed_is_refused(given: Checkpoint, tmp_path: Path) -> None:
    from transformers import AutoModel

    AutoModel.from_pretrained(given.path / "model").save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text()) | {"tie_word_embeddings": False}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ContractError, match=r"lacks weights of a LlamaForCausalLM: lm_head.weight; they would be random"):
        load_model(tmp_path)
