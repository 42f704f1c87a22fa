"""Models: equal seeds give equal weights, what is saved loads."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tasks.core.errors import ContractError
from tasks.modeling.model import build_model, load_model, num_parameters, save_model
from tasks.modeling.specs import ModelSpec
from tasks.modeling.words import SpecialIds, chat_ids, load_tokenizer, model_special_ids, special_ids
from tests.modeling.kit import SPECIAL

SMALL = {"depth": 2, "width": 32, "num_heads": 4, "ffn_width": 64, "context_tokens": 32}


def small(special: SpecialIds, family: str = "llama", **changes: Any) -> Any:
    return build_model(ModelSpec(family=family, **(SMALL | changes)), 320, special, seed=3).eval()


def test_equal_seeds_give_equal_weights(special: SpecialIds) -> None:
    one, two = small(special).state_dict(), small(special).state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize(("how", "std"), [("scaled", 0.025), ("zero", 0.0)])
def test_what_writes_to_the_residual_stream_can_start_smaller(how: str, std: float, special: SpecialIds) -> None:
    """Two layers: the outputs of attention and feed-forward over sqrt(4) or at zero, all else as it was."""
    sizes = {"width": 128, "ffn_width": 256, "init_std": 0.05}
    same, smaller = (small(special, residual_init=one, **sizes) for one in ("same", how))
    for name, weight in smaller.named_parameters():
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            assert float(weight.detach().std()) == pytest.approx(std, rel=0.03), name
        else:
            assert torch.equal(weight, same.get_parameter(name)), name


def test_a_saved_model_loads_with_all_it_needs(special: SpecialIds, tokenizer_folder: Path, tmp_path: Path) -> None:
    model = small(special)
    save_model(model, tokenizer_folder, special, tmp_path / "model")
    again = load_model(tmp_path / "model")
    assert num_parameters(again) == num_parameters(model) == 320 * 32 + 2 * (4 * 32 * 32 + 3 * 32 * 64 + 2 * 32) + 32
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())
    assert again.generation_config.eos_token_id == [special.turn_end, special.end_of_text]
    assert model_special_ids(again) == special
    tokenizer = load_tokenizer(tmp_path / "model")
    prompt = tokenizer.decode(chat_ids(tokenizer, [{"role": "user", "content": "text"}], to_answer=True))
    assert prompt == "<|im_start|>user\ntext<|im_end|>\n<|im_start|>assistant\n"


def test_saving_twice_gives_the_same_bytes(special: SpecialIds, tokenizer_folder: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_model(small(special), tokenizer_folder, special, tmp_path / name)
    assert {p.name: p.read_bytes() for p in (tmp_path / "a").iterdir()} == {
        p.name: p.read_bytes() for p in (tmp_path / "b").iterdir()
    }


def test_a_tokenizer_without_the_tokens_of_a_chat_is_refused(tokenizer: Any) -> None:
    with pytest.raises(ContractError, match="no token for turn_end"):
        special_ids(tokenizer, {"end_of_text": SPECIAL["end_of_text"], "pad": SPECIAL["pad"]})
