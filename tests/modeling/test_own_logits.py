"""Models of others: in packed rows they say what they say of each text alone, or are refused; a wrong attention is noticed."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tasks.core.errors import RecipeError
from tasks.modeling import attention
from tasks.modeling.architecture import first_position, num_positions, shortest_window, takes_types
from tasks.modeling.attention import Documents, with_packed_attention
from tasks.modeling.model import load_model
from tasks.modeling.own_logits import require_own_logits
from tests.architectures import tiny_of

DECODERS = (
    *(
        "llama",
        "qwen2",
        "qwen3",
        "mistral",
        "mixtral",
        "gemma",
        "gemma2",
        "gemma3_text",
        "phi",
        "phi3",
        "gpt2",
        "gpt_neox",
        "gptj",
    ),
    *("opt", "falcon", "olmo2", "olmo3", "cohere", "granite", "stablelm", "starcoder2", "exaone4", "gpt_oss"),
)
ENCODERS = ("bert", "ernie", "roberta", "xlm-roberta", "camembert", "modernbert")
WITH_WINDOWS = ("mistral", "mixtral", "gemma2", "gemma3_text", "phi3", "olmo3", "starcoder2", "exaone4", "gpt_oss")


def saved(model: Any, folder: Path) -> Path:
    model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("by_mask", [False, True])
@pytest.mark.parametrize("architecture", DECODERS)
def test_decoders_of_others_read_packed_texts_as_they_read_each_alone(
    architecture: str, by_mask: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if by_mask:  # as on a device, or compiled
        monkeypatch.setattr(Documents, "of", lambda *_: None)
    model = load_model(saved(tiny_of(architecture), tmp_path))
    assert not model.training
    assert (shortest_window(model) == 8) == (architecture in WITH_WINDOWS)


@pytest.mark.parametrize("architecture", ENCODERS)
def test_encoders_of_others_do_too(architecture: str, tmp_path: Path) -> None:
    model = load_model(saved(tiny_of(architecture, "AutoModelForMaskedLM"), tmp_path), "AutoModelForMaskedLM")
    offset = 2 if "bert" in architecture and architecture not in ("bert", "modernbert") else 0
    assert (first_position(model), num_positions(model)) == (offset, 128 - offset)
    assert takes_types(model) == (architecture in ("bert", "ernie"))


@pytest.mark.parametrize("architecture", ["t5", "mt5", "bart", "mbart", "marian"])
def test_encoder_decoders_of_others_do_too(architecture: str, tmp_path: Path) -> None:
    load_model(saved(tiny_of(architecture, "AutoModelForSeq2SeqLM"), tmp_path), "AutoModelForSeq2SeqLM")


@pytest.mark.parametrize(
    ("architecture", "auto_class", "why"),
    [
        ("bart", "AutoModelForCausalLM", "its logits would be off by"),  # a decoder alone, with learned positions
        ("bloom", "AutoModelForCausalLM", "ValueError"),  # knows no masks of texts
        ("distilbert", "AutoModelForMaskedLM", "its logits would be off by"),  # no positions can be given
        ("electra", "AutoModelForMaskedLM", "its logits would be off by"),
    ],
)
def test_what_we_would_read_wrong_is_refused(architecture: str, auto_class: str, why: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=rf"cannot be trained or scored on packed rows \({why}.*or tune this one on labels"):
        load_model(saved(tiny_of(architecture, auto_class), tmp_path), auto_class)


@pytest.mark.parametrize(
    ("lost", "architecture"),
    [("softcap", "gemma2"), ("sliding_window", "gemma2"), ("scaling", "gemma2"), ("s_aux", "gpt_oss")],
)
def test_an_attention_that_passes_over_an_argument_is_noticed(
    lost: str, architecture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = attention._packed_attention

    def forgetful(*arguments: Any, **options: Any) -> Any:
        return ours(*arguments, **(options | {lost: 1.0 if lost == "scaling" else None}))

    monkeypatch.setattr(attention, "_packed_attention", forgetful)
    with pytest.raises(RecipeError, match="its logits would be off"):
        require_own_logits(with_packed_attention(tiny_of(architecture)))


def test_output_layers_that_change_the_logits_are_noticed() -> None:
    model = with_packed_attention(tiny_of("cohere"))
    require_own_logits(model)
    model.config.logit_scale = 1.0  # what we read; the model itself keeps what it was built with
    with pytest.raises(RecipeError, match="its logits would be off"):
        require_own_logits(model)


def test_the_check_leaves_the_model_as_it_was() -> None:
    model = with_packed_attention(tiny_of("mistral")).train()
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    require_own_logits(model)
    assert model.training
    assert model.config._attn_implementation == attention.PACKED_ATTENTION
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())
