"""Two gloo processes under torchrun learn every objective as one does, on whole and on sharded weights.

Tolerance: sums of gradients in another order. Losses and norms agree to 1e-3 of their value, weights to 1e-3.
"""

from pathlib import Path
from typing import Any

import pytest

from tasks.core import child
from tasks.core.site import Site
from tasks.modeling.specs import MuonSpec
from tasks.pretrain import PretrainSpec, pretrain
from tests.data.kit import no_base
from tests.modeling.kit import ToySpec, in_process, toy_tokenizer, toy_tokens
from tests.modeling.test_parallel import assert_same_training

pytestmark = pytest.mark.slow

MASKED, PAIRS = {"kind": "masked"}, {"kind": "masked_next_sentence"}
SPANS = {"kind": "span_corruption", "noise_density": 0.3, "mean_span_tokens": 4, "num_sentinels": 12}
TRAINED: dict[str, dict[str, Any]] = {
    "llama": {"objective": {"kind": "causal"}, "model": {"family": "llama"}},
    "gpt2": {"objective": {"kind": "causal"}, "model": {"family": "gpt2"}},
    "middle": {"objective": {"kind": "fill_in_the_middle"}, "model": {"family": "qwen3"}},
    "bert": {"objective": MASKED, "model": {"family": "bert"}},
    "modernbert": {"objective": MASKED, "model": {"family": "modernbert"}},
    "pairs": {"objective": PAIRS, "model": {"family": "bert"}},
    "t5": {"objective": SPANS, "model": {"family": "t5"}},
    "bart": {"objective": {"kind": "text_infilling"}, "model": {"family": "bart"}},
    "z_loss": {"objective": {"kind": "causal"}, "model": {"family": "qwen3"}, "train": {"z_loss": 1e-3, "ema_decay": 0.9}},
}
SIZES = {"depth": 2, "width": 32, "num_heads": 2, "ffn_width": 64, "context_tokens": 64}
BUDGET = {"batch_rows": 8, "num_tokens": 8 * 64 * 12, "eval_every_steps": 6, "checkpoint_every_steps": 6}
MUON = MuonSpec(kind="muon", learning_rate=3e-3).model_dump()
ADAMW = {"kind": "adamw", "learning_rate": 3e-3}


def spec(trained: dict[str, Any], optim: dict[str, Any]) -> PretrainSpec:
    """A few steps of it."""
    return PretrainSpec.model_validate(
        {
            "objective": trained["objective"],
            "model": SIZES | trained["model"],
            "train": BUDGET | trained.get("train", {}),
            "optim": optim,
            "precision": "fp32",
        }
    )


@pytest.mark.parametrize("sharding", ["ddp", "fsdp2"])
@pytest.mark.parametrize("name", [*TRAINED, "muon"])
def test_an_objective_is_learned_the_same_in_two_processes(name: str, sharding: str, tmp_path: Path) -> None:
    alone, two = (
        Site(state_dir=tmp_path / "alone"),
        Site(state_dir=tmp_path / "two", num_processes=2, num_threads=1, sharding=sharding),
    )
    tokenizer = toy_tokenizer.build(ToySpec(extra=True), site=alone)
    inputs = toy_tokens.build(ToySpec(size=200, extra=True), tokenizer, site=alone), tokenizer, no_base(alone)
    asked = spec(TRAINED["middle"], MUON) if name == "muon" else spec(TRAINED[name], ADAMW)
    with in_process():
        expected = pretrain.build(asked, *inputs, site=alone)
    assert child.run_child.__module__ == "tasks.core.child"
    assert_same_training(expected, pretrain.build(asked, *inputs, site=two))
