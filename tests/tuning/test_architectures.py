"""Bases of others are tuned by every kind of method; what does not fit them is said before the first step."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tasks.contracts import Checkpoint, Conversations, Labelled
from tasks.core.errors import RecipeError
from tasks.core.site import Site
from tasks.modeling.heads import load_headed
from tasks.modeling.infer import Reader, greedy_answers
from tasks.modeling.specs import AdamWSpec, TrainSpec
from tasks.tuning import FisherSpec, TuneSpec, estimate_fisher, tune
from tasks.tuning.labelled import TuneLabelledSpec, tune_labelled
from tasks.tuning.prefer import PreferSpec, prefer
from tests.architectures import adopted, writer
from tests.modeling.kit import Old, ToySpec, old_text, toy_conversations
from tests.tuning.labelled_kit import ToyLabelledSpec, toy_labelled
from tests.tuning.test_prefer import toy_preferences
from tests.tuning.test_sets import read as read_sets

OPTIM = AdamWSpec(kind="adamw", learning_rate=3e-3, weight_decay=0.0)
TRAIN = TrainSpec(batch_rows=4, num_epochs=2, eval_every_steps=50, checkpoint_every_steps=50)
SHARED = {"train": TRAIN, "optim": OPTIM, "precision": "fp32"}
FULL, LORA = {"kind": "full"}, {"kind": "lora", "rank": 4}
DORA, PISSA = LORA | {"variant": "dora"}, LORA | {"rank": 2, "variant": "pissa"}
IA3 = {"kind": "ia3"}
BOTTLENECK, PREFIX, PROMPT = {"kind": "bottleneck"}, {"kind": "prefix"}, {"kind": "prompt"}


@pytest.fixture(scope="module")
def talks(shared_site: Site) -> Conversations:
    return toy_conversations.build(ToySpec(size=24), site=shared_site)


@pytest.fixture(scope="module")
def classes(shared_site: Site) -> Labelled:
    return toy_labelled.build(ToyLabelledSpec(), site=shared_site)


@pytest.fixture(scope="module")
def texts(base: Checkpoint, shared_site: Site) -> Old:
    return old_text(base, shared_site)


@pytest.mark.parametrize(
    ("architecture", "method"),
    [
        ("gpt_neox", FULL),
        ("gemma2", FULL),
        ("gemma2", LORA),
        ("opt", LORA),  # counts positions from a mask of its own where none are given
        ("opt", BOTTLENECK),
        ("opt", PROMPT),
        ("falcon", BOTTLENECK),
        ("olmo2", IA3),  # unknown to peft
        ("mixtral", LORA),
        ("phi3", {"kind": "top_layers"}),
        ("t5", FULL),
        ("t5", LORA),
        ("mt5", DORA),
        ("bart", PISSA),
        ("marian", LORA),
    ],
)
def test_a_base_of_others_is_tuned_and_answers(
    architecture: str, method: dict[str, Any], talks: Conversations, texts: Old, shared_site: Site, tmp_path: Path
) -> None:
    given = adopted(architecture, writer(architecture), shared_site, tmp_path)
    spec = TuneSpec.model_validate(SHARED | {"method": method, "row_tokens": 64})
    made = tune.build(spec, given, talks, *texts, site=shared_site)
    assert made.validation_loss < json.loads((made.path / "extra" / "result.json").read_text())["first_validation_loss"]
    reader = Reader.load(made.path / "model", "cpu", "fp32")
    assert len(greedy_answers(reader, [[20, 30, 40], [5, 6]], 4)) == 2


@pytest.mark.parametrize(
    ("architecture", "method", "why"),
    [
        (
            "mistral",
            PREFIX,
            r"back over 8 tokens of 128, and would lose sight of virtual tokens; set tune.method.kind to lora",
        ),
        ("mistral", PROMPT, r"look back over 8 tokens of 128"),
        ("falcon", PREFIX, r"nothing can stand before the text of a FalconForCausalLM .*; set tune.method.kind to lora"),
        ("mixtral", DORA, r"tune.method.variant is dora, which peft does not have for parts of MixtralForCausalLM"),
        ("t5", PREFIX, r"T5ForConditionalGeneration reads and writes by two parts"),
        ("bart", {"kind": "top_layers"}, r"BartForConditionalGeneration has 2 lists of 2 layers .*: full, lora, ia3"),
        ("bart", BOTTLENECK, r"BartForConditionalGeneration has 2 lists of 2 layers"),
        ("mixtral", PISSA, r"tune.method.variant is pissa, which peft does not have for parts of MixtralForCausalLM"),
    ],
)
def test_a_method_that_does_not_fit_is_said_before_the_first_step(
    architecture: str, method: dict[str, Any], why: str, talks: Conversations, texts: Old, shared_site: Site, tmp_path: Path
) -> None:
    given = adopted(architecture, writer(architecture), shared_site, tmp_path)
    spec = TuneSpec.model_validate(SHARED | {"method": method, "row_tokens": 64})
    with pytest.raises(RecipeError, match=why):
        tune.build(spec, given, talks, *texts, site=shared_site)


@pytest.mark.parametrize(
    ("architecture", "auto_class", "method"),
    [
        ("roberta", "AutoModelForMaskedLM", IA3),  # a head of two layers
        ("electra", "AutoModelForMaskedLM", IA3),
        ("roberta", "AutoModelForMaskedLM", PISSA),
        ("longformer", "AutoModelForMaskedLM", LORA),  # changes what its linear layers return in place
        ("deberta-v2", "AutoModelForMaskedLM", LORA),
        ("bloom", "AutoModelForCausalLM", LORA),  # counts no positions
        ("t5", "AutoModelForSeq2SeqLM", LORA),  # says the label at the end of the text
        ("bart", "AutoModelForSeq2SeqLM", LORA),
        ("bart", "AutoModelForSeq2SeqLM", PISSA),
    ],
)
def test_a_base_of_others_learns_labels(
    architecture: str, auto_class: str, method: dict[str, Any], classes: Labelled, shared_site: Site, tmp_path: Path
) -> None:
    given = adopted(architecture, auto_class, shared_site, tmp_path)
    spec = TuneLabelledSpec.model_validate(SHARED | {"method": method})
    made = tune_labelled.build(spec, given, classes, site=shared_site)
    with torch.no_grad():
        said = load_headed(made.path / "model").eval()(input_ids=torch.tensor([[20, 30, 40, 3]])).logits
    assert said.shape == (1, 2)


@pytest.mark.parametrize("architecture", ["t5", "bart"])
def test_an_encoder_decoder_learns_every_answer_of_sets_by_weight(
    architecture: str, texts: Old, shared_site: Site, tmp_path: Path
) -> None:
    given = adopted(architecture, writer(architecture), shared_site, tmp_path / "given")
    weighted = read_sets(shared_site, tmp_path, files=3.0, short=1.0)
    made = tune.build(
        TuneSpec.model_validate(SHARED | {"method": FULL, "row_tokens": 64}), given, weighted, *texts, site=shared_site
    )
    result = json.loads((made.path / "extra" / "result.json").read_text())
    assert result["notes"]["items"] == weighted.num_items  # one answer each
    assert set(made.held_out) == {"loss/files", "loss/short"}


def test_what_reads_on_and_on_is_refused_where_a_base_writes_answers(
    talks: Conversations, texts: Old, shared_site: Site, tmp_path: Path
) -> None:
    given = adopted("t5", writer("t5"), shared_site, tmp_path)
    spec = TuneSpec.model_validate(SHARED | {"method": FULL, "replay": {"share": 0.5}})
    corpus = texts[0].model_copy(update={"tokenizer_digest": given.tokenizer_digest})
    with pytest.raises(RecipeError, match=r"tune.replay and tune.ewc read text on and on"):
        tune.build(spec, given, talks, corpus, texts[1], site=shared_site)
    with pytest.raises(RecipeError, match=r"tune.ewc reads text on and on, which .*an encoder-decoder, does not: set it to off"):
        estimate_fisher.build(FisherSpec(num_rows=4), given, texts[0], site=shared_site)


def test_preferences_are_refused_where_a_base_writes_answers(shared_site: Site, tmp_path: Path) -> None:
    given = adopted("t5", writer("t5"), shared_site, tmp_path)
    pairs = toy_preferences.build(ToySpec(size=24), site=shared_site)
    with pytest.raises(RecipeError, match=r"is an encoder-decoder, and pairs are learned by models that read on"):
        prefer.build(PreferSpec.model_validate(SHARED | {"method": FULL}), given, pairs, site=shared_site)
