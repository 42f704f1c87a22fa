"""Families: nobody sees a neighbour, decoders see no future, folders load as users load them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from pydantic import ValidationError

from tasks.modeling.batches import IGNORED, make_batch
from tasks.modeling.model import build_model, hidden_states, save_model, target_logits
from tasks.modeling.objectives import MaskedNextSentenceSpec, MaskedSpec, SpanCorruptionSpec, TextInfillingSpec
from tasks.modeling.objectives.base import Objective
from tasks.modeling.objectives.span_corruption import shift
from tasks.modeling.pieces import Part, PieceRows
from tasks.modeling.specs import ModelSpec
from tasks.modeling.words import SpecialIds

CPU = torch.device("cpu")
SPECIAL = SpecialIds(end_of_text=0, pad=1, turn_end=3)
CASES = {
    "llama": Objective,
    "qwen3": Objective,
    "gpt2": Objective,
    "bert": MaskedSpec,
    "modernbert": MaskedSpec,
    "t5": SpanCorruptionSpec,
    "bart": TextInfillingSpec,
}


def model_of(family: str, auto_class: str | None = None) -> Any:
    shared = {"num_kv_heads": 1} if family in ("llama", "qwen3") else {}
    spec = ModelSpec(family=family, depth=2, width=32, num_heads=2, ffn_width=64, context_tokens=32, **shared)
    return build_model(spec, 64, SPECIAL, 3, auto_class or CASES[family].auto_class).eval()


def rows_of(texts: list[list[int]], family: str) -> PieceRows[list[int]]:
    """Rows of texts that are predicted everywhere; encoder-decoders read them backwards."""

    def make(text: list[int], random: np.random.Generator) -> Part:
        ids = np.array(text)
        if family in ("t5", "bart"):
            return Part(shift(ids, 0), ids, source_ids=ids[::-1].copy())
        return Part(ids, ids)

    return PieceRows(texts, list(map(len, texts)), make, row_tokens=32, pad=1, seed=0)


def logits_of_first(model: Any, texts: list[list[int]], family: str) -> torch.Tensor:
    """Logits at the first text, packed with the others."""
    rows = rows_of(texts, family)
    assert rows.num_rows == 1
    logits, _ = target_logits(model, make_batch(rows, np.array([0]), CPU))
    before = rows.members[0][: rows.members[0].index(0)]
    start = sum(len(texts[member]) for member in before)
    return logits[start : start + len(texts[0])]


TEXT, OTHERS = [10, 11, 12, 13, 14, 15, 16], [list(range(20, 31)), list(range(40, 49))]


@pytest.mark.parametrize("family", [family for family in CASES if family != "bart"])
def test_packed_and_alone_give_equal_logits(family: str) -> None:
    model = model_of(family)
    packed, alone = (logits_of_first(model, texts, family) for texts in ([TEXT, *OTHERS], [TEXT]))
    torch.testing.assert_close(packed, alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", list(CASES))
def test_a_neighbour_changes_no_logit(family: str) -> None:
    """BART counts positions along the row, so there only this holds."""
    model = model_of(family)
    other = [[token + 1 for token in text] for text in OTHERS]
    one, two = (logits_of_first(model, [TEXT, *texts], family) for texts in (OTHERS, other))
    assert torch.equal(one, two)


@pytest.mark.parametrize("family", ["llama", "qwen3", "gpt2", "t5", "bart"])
def test_a_later_token_changes_no_earlier_logit_of_a_decoder(family: str) -> None:
    model = model_of(family)
    batch = make_batch(rows_of([TEXT], family), np.array([0]), CPU)
    before = hidden_states(model, batch)[0]
    batch.ids_BT[0, 4] = 50
    after = hidden_states(model, batch)[0]
    assert torch.equal(before[:4], after[:4])
    assert not torch.equal(before[4], after[4])


@pytest.mark.parametrize("family", ["bert", "modernbert"])
def test_an_encoder_sees_both_sides(family: str) -> None:
    model = model_of(family)
    batch = make_batch(rows_of([TEXT], family), np.array([0]), CPU)
    before = hidden_states(model, batch)[0]
    batch.ids_BT[0, 4] = 50
    after = hidden_states(model, batch)[0]
    assert not torch.allclose(before[0], after[0])


@pytest.mark.parametrize("family", list(CASES))
def test_our_forward_equals_the_library_s(family: str) -> None:
    model = model_of(family)
    batch = make_batch(rows_of([TEXT], family), np.array([0]), CPU)
    ours, _ = target_logits(model, batch)
    model.set_attn_implementation("eager")
    num = len(TEXT)
    if family in ("t5", "bart"):
        theirs = model(input_ids=batch.source_ids_BS[:, :num], decoder_input_ids=batch.ids_BT[:, :num]).logits
    else:
        theirs = model(input_ids=batch.ids_BT[:, :num]).logits
    torch.testing.assert_close(ours, theirs[0], rtol=1e-4, atol=1e-5)


def test_modernbert_looks_no_further_than_its_window_in_some_layers() -> None:
    model = model_of("modernbert")
    batch = make_batch(rows_of([list(range(8, 40))], "modernbert"), np.array([0]), CPU)
    wide = hidden_states(model, batch)
    model.config.local_attention = 4
    assert not torch.allclose(wide, hidden_states(model, batch))


@pytest.mark.parametrize(
    ("family", "auto_class", "loaded"),
    [(family, one.auto_class, one.auto_class) for family, one in CASES.items()]
    + [("bert", MaskedNextSentenceSpec.auto_class, "AutoModelForSequenceClassification")],
)
def test_a_folder_loads_as_users_load_it(
    tmp_path: Path, tokenizer_folder: Path, family: str, auto_class: str, loaded: str
) -> None:
    model = model_of(family, auto_class)
    save_model(model, tokenizer_folder, SPECIAL, tmp_path)
    again = getattr(transformers, auto_class).from_pretrained(tmp_path, local_files_only=True)
    assert all(torch.equal(weight, model.state_dict()[name]) for name, weight in again.state_dict().items())
    getattr(transformers, loaded).from_pretrained(tmp_path, local_files_only=True)
    transformers.AutoModel.from_pretrained(tmp_path, local_files_only=True)
    if again.can_generate():
        assert again.generate(torch.tensor([[5, 6, 7]]), max_new_tokens=3).shape[1] > 1


def test_nothing_is_dropped_in_training() -> None:
    for family in CASES:
        model = model_of(family)
        batch = make_batch(rows_of([TEXT], family), np.array([0]), CPU)
        before = hidden_states(model, batch)
        assert torch.equal(before, hidden_states(model.train(), batch)), family


def test_rows_without_sources_have_none() -> None:
    batch = make_batch(rows_of([TEXT], "bert"), np.array([0]), CPU)
    assert batch.source_ids_BS is None
    assert int((batch.targets_BT != IGNORED).sum()) == len(TEXT)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"family": "bert", "rope_theta": 5e5}, "bert has no rotary positions.*llama, qwen3, modernbert"),
        ({"family": "gpt2", "num_heads": 4, "num_kv_heads": 2}, "gpt2 has a kv_head for each head"),
    ],
)
def test_a_size_that_a_family_does_not_have_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ModelSpec(depth=4, **changes)


def test_feed_forward_layers_cost_the_same_gated_or_not() -> None:
    assert ModelSpec(family="bert", depth=4).sizes.ffn_width == 1024
    assert ModelSpec(family="modernbert", depth=4).sizes.ffn_width == 704
