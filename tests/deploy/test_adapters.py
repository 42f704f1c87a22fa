"""Adapters that do not merge, for real: MLflow's scoring server answers as the registered model does; a rollback goes back."""

import json
from concurrent.futures import ThreadPoolExecutor

import httpx
import mlflow
import pytest

from deploy.live import live_record, open_chat, start_detached, stop_detached
from deploy.rollout import DeploySpec, deploy_model, rollback
from deploy.serve import served
from tasks.core.errors import ContractError, StageError
from tasks.core.site import Site
from tasks.core.tracking import BASES, aliases, champion, served_folder
from tasks.core.tracking.client import mlflow_client
from tasks.tuning.bottleneck import BottleneckSpec
from tasks.tuning.virtual_tokens import PrefixSpec
from tests.registry.conftest import _mlflow_tables, empty_mlflow  # noqa: F401 fixtures
from tests.registry.kit import make_chain, register

SPEC = DeploySpec(prompts=("the quick brown fox", "今天天气"), max_new_tokens=12)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_an_adapter_is_served_replaced_and_taken_back(site: Site) -> None:
    first = make_chain(site, 1, method=BottleneckSpec(kind="bottleneck", size=4))
    second = make_chain(site, 2, base=first.base, method=PrefixSpec(kind="prefix", num_tokens=4))
    found = {}
    for number, chain in enumerate((first, second), start=1):
        deployment = deploy_model.build(SPEC, register(site, chain).artifact, chain.tuned, site=site)
        assert (deployment.engine, deployment.num_checks) == ("mlflow", 3)
        found[number] = [item["answer"] for item in json.loads((deployment.path / "answers.json").read_text(encoding="utf-8"))]
    assert found[1] != found[2]
    assert aliases(site, "toy") == {"candidate": 2, "champion": 2, "live": 2, "previous": 1}
    url = start_detached(site, "toy")
    try:
        assert live_record(site, "toy")["version"] == 2
        body = {"dataframe_records": [{"prompt": prompt} for prompt in SPEC.prompts], "params": {"max_new_tokens": 12}}
        assert httpx.post(f"{url}/invocations", json=body, timeout=60).json()["predictions"] == found[2]
        with open_chat(site, "toy") as ask:
            assert ask(SPEC.prompts[0], 12) == found[2][0]
            assert ask("and then", 4)
    finally:
        assert stop_detached(site, "toy")
    assert rollback(site, "toy", reason="test").version == 1
    assert aliases(site, "toy")["live"] == 1


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_an_adapter_without_its_base_goes_not_live(site: Site) -> None:
    chain = make_chain(site, 1, method=BottleneckSpec(kind="bottleneck", size=4))
    version = register(site, chain).artifact
    mlflow_client(site).delete_model_version(BASES, "1")
    with pytest.raises(StageError, match="textmill-bases"):
        deploy_model.build(SPEC, version, chain.tuned, site=site)
    assert "live" not in aliases(site, "toy")


def test_requests_that_overlap_get_the_answers_of_each_alone(site: Site) -> None:
    register(site, make_chain(site, 1, method=PrefixSpec(kind="prefix", num_tokens=4)))
    model = mlflow.pyfunc.load_model("models:/toy@champion")

    def answers(question: tuple[str, int]) -> list[str]:
        return list(model.predict([question[0]], params={"max_new_tokens": question[1]}))

    questions = [("the quick brown fox", 60), ("今天天气", 3), ("list the files", 40), ("the lazy dog", 5)] * 3
    alone = [answers(question) for question in questions]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(answers, questions)) == alone


def test_an_adapter_outside_the_registry_is_not_served(site: Site) -> None:
    chain = make_chain(site, 1, method=BottleneckSpec(kind="bottleneck", size=4))
    with pytest.raises(ContractError, match="no registered version"), served(chain.tuned.path / "model" / "adapter", site):
        pass
    register(site, chain)
    assert served_folder(site, champion(site, "toy")).name == "adapter"
