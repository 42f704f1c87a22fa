"""Adapters that do not merge: registered without their base, loaded from it by address and digest, refused on other weights."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tasks.contracts import Checkpoint
from tasks.core.errors import ContractError
from tasks.core.site import Site, service_environment
from tasks.core.tracking import BASES, aliases, base_folder, champion, download, served_folder, versions
from tasks.core.tracking.client import mlflow_client
from tasks.modeling.adapted import adapter_of
from tasks.registry import ChampionSpec, resolve_champion
from tasks.tuning import LoraSpec
from tasks.tuning.bottleneck import BottleneckSpec
from tasks.tuning.virtual_tokens import PrefixSpec, PromptSpec
from tests.registry.kit import Chain, make_chain, register

METHODS: dict[str, Any] = {
    "bottleneck": BottleneckSpec(kind="bottleneck", size=4),
    "prefix": PrefixSpec(kind="prefix", num_tokens=5),
    "prefix-network": PrefixSpec(kind="prefix", num_tokens=5, hidden_size=8),
    "prompt": PromptSpec(kind="prompt", num_tokens=5),
    "lora": LoraSpec(kind="lora", rank=4),
}
PROMPTS = ["the quick brown fox", "今天天气"]
LOAD = """
import json, sys
import mlflow
model = mlflow.pyfunc.load_model("models:/toy@champion")
answers = model.predict(json.loads(sys.argv[1]), params={"max_new_tokens": 12})
assert not {name for name in sys.modules if name.split(".")[0] in ("tasks", "flows", "deploy")}
json.dump(answers, sys.stdout)
"""


def answers_of(name: str, base: Path | None = None) -> list[str]:
    """Returns what a registered model answers, on the base it names or on another one."""
    import mlflow

    model = mlflow.pyfunc.load_model(f"models:/{name}@champion", model_config=base and {"base": str(base)})
    return [answer.strip() for answer in model.predict(PROMPTS, params={"max_new_tokens": 12})]


def scored_answers(tuned: Checkpoint) -> list[str]:
    """Returns what scoring generates."""
    import torch

    from tasks.modeling.infer import Reader, greedy_answers
    from tasks.modeling.model import load_model
    from tasks.modeling.words import SpecialIds, chat_ids, load_tokenizer

    folder = tuned.path / "model"
    tokenizer = load_tokenizer(folder)
    reader = Reader(load_model(folder).eval(), tokenizer, SpecialIds(0, 3, 1), torch.device("cpu"), "fp32")
    questions = [chat_ids(tokenizer, [{"role": "user", "content": prompt}], to_answer=True) for prompt in PROMPTS]
    return greedy_answers(reader, questions, 12)


def num_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_versions_hold_adapters_alone_and_answer_as_they_were_scored(site: Site) -> None:
    base, seen = None, set()
    for seed, (name, method) in enumerate(METHODS.items(), start=1):
        chain = make_chain(site, seed, base=base, method=method)
        base = chain.base
        register(site, chain, name, holds="adapter")
        folder = download(site, champion(site, name))
        assert sorted(path.name for path in (folder / "artifacts").iterdir()) == ["adapter", "profile"]
        assert served_folder(site, champion(site, name)) == folder / "artifacts" / "adapter"
        assert num_bytes(folder / "artifacts" / "adapter") == num_bytes(adapter_of(chain.tuned.path))
        assert "It is an adapter: its base is the version of `textmill-bases`" in (folder / "card.md").read_text()
        found = answers_of(name)
        assert found == scored_answers(chain.tuned), name
        seen.add(tuple(found))
    assert len(seen) == len(METHODS), "each has answers of its own"
    (known,) = versions(site, BASES)
    assert (known.digest, aliases(site, BASES)) == (base.digest, {})


def test_on_other_weights_it_does_not_load(site: Site, chain: Chain) -> None:
    register(site, chain)
    other = make_chain(site, 2).tuned.path / "model"
    with pytest.raises(ValueError, match=f"trained on base {chain.base.digest[:12]}, and .* holds other weights; load it with"):
        answers_of("toy", other)
    assert answers_of("toy", chain.base.path / "model") == answers_of("toy"), "a folder that holds the base does as well"


@pytest.mark.slow
def test_it_loads_in_a_fresh_process_without_textmill(site: Site, chain: Chain, tmp_path: Path) -> None:
    register(site, chain)
    expected = scored_answers(chain.tuned)
    shutil.rmtree(site.store_dir)  # the registry has what it needs
    environment = os.environ | service_environment(site) | {"HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", LOAD, json.dumps(PROMPTS)], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert [answer.strip() for answer in json.loads(done.stdout.splitlines()[-1])] == expected


@pytest.fixture
def chain(site: Site) -> Chain:
    return make_chain(site, 1, method=METHODS["bottleneck"])


def test_a_base_lies_there_once_and_a_rerun_changes_nothing(site: Site, chain: Chain) -> None:
    assert (register(site, chain).result, register(site, chain).result) == ("built", "reused")
    register(site, make_chain(site, 2, base=chain.base, method=METHODS["prompt"]))
    assert [len(versions(site, name)) for name in ("toy", BASES)] == [2, 1]


def test_a_base_that_was_removed_is_said_so(site: Site, chain: Chain) -> None:
    register(site, chain)
    assert base_folder(site, champion(site, "toy")).name == "model"
    mlflow_client(site).delete_model_version(BASES, "1")
    with pytest.raises(ContractError, match=rf"adapter on base {chain.base.digest[:12]}.*run its recipe again"):
        base_folder(site, champion(site, "toy"))
    register(site, make_chain(site, 2, base=chain.base, method=METHODS["prompt"]))
    assert base_folder(site, champion(site, "toy")).name == "model"


def test_an_adapter_on_another_base_than_the_judged_one_is_refused(site: Site, chain: Chain) -> None:
    note = chain.tuned.path / "model" / "adapter" / "base.json"
    about = json.loads(note.read_text()) | {"base_digest": "f" * 64}
    note.write_text(json.dumps(about))
    from tasks.registry.bases import register_base

    with pytest.raises(ContractError, match=r"trained on ffffffffffff, the model was judged against .*set the method"):
        register_base(chain.base, chain.tuned, ctx=None)


def test_a_model_that_merges_is_registered_whole_unless_its_adapter_is_asked_for(site: Site) -> None:
    chain = make_chain(site, 1, method=METHODS["lora"])
    register(site, chain)
    register(site, make_chain(site, 2, base=chain.base, method=METHODS["lora"]), holds="adapter")
    whole, alone = (download(site, version) / "artifacts" for version in versions(site, "toy"))
    assert (whole / "model" / "model.safetensors").exists()
    assert not (alone / "model").exists()
    assert (alone / "adapter" / "base.json").read_bytes() == (adapter_of(chain.tuned.path) / "base.json").read_bytes()


def test_a_version_of_the_whole_model_does_not_say_that_it_is_an_adapter(site: Site) -> None:
    chain = make_chain(site, 1, method=METHODS["lora"])
    register(site, chain)
    with pytest.raises(
        ContractError, match=r"as its model with registry\.holds = model, and adapter is asked for; .*another name"
    ):
        register(site, chain, holds="adapter")
    assert "It is an adapter" not in mlflow_client(site).get_model_version("toy", "1").description
    register(site, chain, "other", holds="adapter")
    assert not (download(site, champion(site, "other")) / "artifacts" / "model").exists()
    with pytest.raises(ContractError, match=r"as its adapter with registry\.holds = adapter, and model is asked for"):
        register(site, chain, "other")


def test_a_model_without_an_adapter_is_said_so(site: Site) -> None:
    chain = make_chain(site, 1)
    with pytest.raises(ContractError, match=r"keeps no adapter: set registry\.holds to model"):
        register(site, chain, holds="adapter")


def test_the_champion_is_put_together_with_its_base(site: Site, chain: Chain) -> None:
    register(site, chain)
    other = make_chain(site, 2)
    found = resolve_champion.build(ChampionSpec(name="toy"), other.tuned, site=site)
    for path in (chain.tuned.path / "model").rglob("*.safetensors"):
        assert (found.path / "model" / path.relative_to(chain.tuned.path / "model")).read_bytes() == path.read_bytes()
    assert scored_answers(Checkpoint.model_construct(uri=found.uri)) == scored_answers(chain.tuned)
