"""Damage in the store of a finished run: told before anything is built from it, and mended once the damaged part is removed."""

import shutil
from pathlib import Path

import pytest

from tasks.core.errors import ContractError
from tasks.core.site import Site
from tests.chain import ChainRun, textmill

pytestmark = [pytest.mark.chain, pytest.mark.timeout(900)]


def damaged(chain: ChainRun, tmp_path: Path, stage: str, pattern: str) -> Site:
    """Returns a copy of the store in which one byte of one file of a stage is flipped."""
    state = tmp_path / ".textmill"
    shutil.copytree(chain.state / "store", state / "store")
    path = next((state / "store" / chain.manifests(stage)[0].address).rglob(pattern))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    return Site(state_dir=state)


@pytest.mark.parametrize(
    ("stage", "pattern", "override", "until"),
    [
        ("encode", "train-*.tokens", "pretrain.seed=9", "pretrain"),
        ("pretrain", "model.safetensors", "tune.seed=9", "tune"),
        ("decontaminate", "documents/*.parquet", "tokenizer.source.vocab_size=600", "tokenizer"),
    ],
)
def test_one_flipped_byte_stops_what_would_be_built_from_it(
    chain: ChainRun, tmp_path: Path, stage: str, pattern: str, override: str, until: str
) -> None:
    site = damaged(chain, tmp_path, stage, pattern)
    run = textmill(site.root, "run", "ci", "--set", override, "--until", until)
    assert run.code == ContractError.exit_code, run.output
    assert "is damaged: sha256" in run.output
    assert "Remove" in run.output
    assert run.results[-1] == (until, "failed")


def test_a_damaged_artifact_is_rebuilt_once_removed(chain: ChainRun, tmp_path: Path) -> None:
    site = damaged(chain, tmp_path, "tokenizer", "tokenizer.json")
    address = chain.manifests("tokenizer")[0].address
    shutil.rmtree(site.store_dir / address)
    run = textmill(site.root, "run", "ci", "--until", "tokenizer")
    assert run.results[-1] == ("tokenizer", "built")
    assert "textmill chat" not in run.output, "no model was registered"
    assert ChainRun(site.root, 0, "").manifests("tokenizer")[0].digest == chain.manifests("tokenizer")[0].digest
