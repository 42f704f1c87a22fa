"""LoRA over sharded weights: frozen and trained ones side by side, updates smaller than the number of processes."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tasks.contracts import Checkpoint
from tasks.core.site import Site
from tasks.modeling.specs import OptimSpec, TrainSpec
from tasks.pretrain import pretrain
from tasks.tuning import LoraSpec, TuneSpec, tune
from tests.modeling.kit import ToySpec, in_process, toy_conversations, toy_tokenizer, toy_tokens
from tests.modeling.test_pretrain import SPEC as BASE

TRAIN = TrainSpec(batch_rows=4, num_epochs=4, eval_every_steps=4, checkpoint_every_steps=4, select="best")
SPEC = TuneSpec(
    method=LoraSpec(kind="lora", rank=1), train=TRAIN, optim=OptimSpec(learning_rate=1e-2, weight_decay=0.0), precision="fp32"
)


@pytest.mark.slow
def test_two_processes_leave_the_adapter_and_the_model_that_one_leaves(tmp_path: Path) -> None:
    site = Site(state_dir=tmp_path / "alone")
    tokenizer = toy_tokenizer.build(ToySpec(), site=site)
    conversations = toy_conversations.build(ToySpec(size=120), site=site)
    with in_process():
        base = pretrain.build(BASE, toy_tokens.build(ToySpec(size=200), tokenizer, site=site), tokenizer, site=site)
        alone = tune.build(SPEC, base, conversations, site=site)
    two = Site(state_dir=tmp_path / "two", num_processes=2, num_threads=1, sharding="fsdp2")
    together = tune.build(SPEC, base, conversations, site=two)
    assert together.fingerprint == alone.fingerprint
    assert together.num_trained_parameters == alone.num_trained_parameters
    assert together.validation_loss == pytest.approx(alone.validation_loss, rel=1e-4)
    assert list((together.path / "extra" / "checkpoints").glob("step-*/shard-00002-*"))
    for name in ("adapter/adapter_model.safetensors", "model/model.safetensors"):
        assert_same(alone, together, name)


def assert_same(alone: Checkpoint, together: Checkpoint, name: str) -> None:
    expected, found = (load_file(one.path / name) for one in (alone, together))
    assert expected.keys() == found.keys()
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=0, atol=1e-3, msg=f"{name}: {key}")
