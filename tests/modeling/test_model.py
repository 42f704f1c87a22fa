"""Models: nobody sees a neighbour, nobody sees the future, what is saved loads."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tasks.core.errors import ContractError
from tasks.modeling.attention import packed_mask
from tasks.modeling.batches import Example, ExampleRows, make_batch
from tasks.modeling.model import build_model, load_model, num_parameters, save_model, token_losses
from tasks.modeling.specs import ModelSpec
from tasks.modeling.words import SpecialIds, chat_ids, load_tokenizer, model_special_ids, special_ids
from tests.modeling.kit import SPECIAL

CPU = torch.device("cpu")
SMALL = {"depth": 2, "width": 32, "num_heads": 4, "ffn_width": 64, "context_tokens": 32}


def small(special: SpecialIds, family: str = "llama", **changes: Any) -> Any:
    return build_model(ModelSpec(family=family, **(SMALL | changes)), 320, special, seed=3).eval()


def example(length: int, seed: int) -> Example:
    return Example.of(np.random.default_rng(seed).integers(4, 320, length + 1).tolist(), [True] * (length + 1))


@pytest.mark.parametrize(("family", "kv_heads"), [("llama", 4), ("qwen3", 2)])
def test_packed_texts_get_the_losses_they_get_alone(special: SpecialIds, family: str, kv_heads: int) -> None:
    model = small(special, family, num_kv_heads=kv_heads)
    examples = [example(11, 1), example(9, 2), example(8, 3)]
    rows = ExampleRows(examples, 32, special.pad)
    assert rows.members == [[0, 1, 2]]
    together = token_losses(model, make_batch(rows, np.array([0]), CPU))
    alone = torch.cat(
        [token_losses(model, make_batch(ExampleRows([one], 32, special.pad), np.array([0]), CPU)) for one in examples]
    )
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_our_attention_equals_the_library_s(special: SpecialIds, family: str) -> None:
    model = small(special, family, num_kv_heads=2)
    ids = torch.arange(4, 24)[None]
    ours = model(input_ids=ids, attention_mask=packed_mask(torch.zeros_like(ids), torch.float32), use_cache=False).logits
    model.set_attn_implementation("eager")
    torch.testing.assert_close(ours, model(input_ids=ids, use_cache=False).logits, rtol=1e-5, atol=1e-5)


def test_a_later_token_changes_no_earlier_logit(special: SpecialIds) -> None:
    model = small(special)
    ids = torch.arange(4, 24)[None]
    changed = ids.clone()
    changed[0, 12] = 99
    mask = packed_mask(torch.zeros_like(ids), torch.float32)
    before, after = (model(input_ids=one, attention_mask=mask, use_cache=False).logits for one in (ids, changed))
    assert torch.equal(before[0, :12], after[0, :12])
    assert not torch.equal(before[0, 12:], after[0, 12:])


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
