"""Fixtures of the packages that tune or judge models: a small base model, the text it learned from, and conversations."""

from collections.abc import Iterator

import pytest

from tasks.contracts import Checkpoint, Conversations
from tasks.core.site import Site
from tasks.modeling.specs import AdamWSpec, ModelSpec, TrainSpec
from tasks.pretrain import PretrainSpec, pretrain
from tests.data.kit import no_base
from tests.modeling.kit import Old, ToySpec, in_process, old_text, toy_conversations, toy_tokenizer, toy_tokens


@pytest.fixture(scope="package", autouse=True)
def no_children() -> Iterator[None]:
    with in_process():
        yield


@pytest.fixture(scope="package")
def shared_site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return Site(state_dir=tmp_path_factory.mktemp("state"))


@pytest.fixture(scope="package")
def base(shared_site: Site) -> Checkpoint:
    tokenizer = toy_tokenizer.build(ToySpec(), site=shared_site)
    tokens = toy_tokens.build(ToySpec(size=200), tokenizer, site=shared_site)
    spec = PretrainSpec(
        model=ModelSpec(depth=2, width=32, num_heads=2, ffn_width=64, context_tokens=64),
        optim=AdamWSpec(kind="adamw", learning_rate=1e-2),
        train=TrainSpec(batch_rows=8, num_tokens=8 * 64 * 20, eval_every_steps=20, checkpoint_every_steps=20),
        precision="fp32",
    )
    return pretrain.build(spec, tokens, tokenizer, no_base(shared_site), site=shared_site)


@pytest.fixture(scope="package")
def old(base: Checkpoint, shared_site: Site) -> Old:
    return old_text(base, shared_site)


@pytest.fixture(scope="package")
def conversations(shared_site: Site) -> Conversations:
    return toy_conversations.build(ToySpec(size=120), site=shared_site)
