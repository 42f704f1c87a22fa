"""Labelled versions for real: MLflow's scoring server serves them, the trial asks what was scored, a rollback goes back."""

import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from deploy import scoring
from deploy.live import (
    Target,
    _announced,
    _asking,
    _column,
    _entry,
    live_record,
    open_chat,
    record_file,
    start_detached,
    stop_detached,
)
from deploy.rollout import DeployLabelledSpec, deploy_labelled, rollback
from deploy.scoring import trial_questions, version_folder
from deploy.serve import Server, served
from tasks.core.errors import ContractError, GateError, RecipeError
from tasks.core.site import Site
from tasks.core.tracking import TRIAL, aliases, find_alias, find_version, served_folder
from tests.registry.conftest import _mlflow_tables, empty_mlflow  # noqa: F401 fixtures
from tests.registry.labelled_kit import LabelChain, make_label_chain, register_labels

NAME = "toy-labels"


def deploy(site: Site, chain: LabelChain):
    version = register_labels(site, chain).artifact
    return deploy_labelled.outcome(DeployLabelledSpec(), version, chain.tuned, site=site)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_labelled_champion_is_served_replaced_and_taken_back(site: Site) -> None:
    first, second = make_label_chain(site), make_label_chain(site, seed=1)
    outcome = deploy(site, first)
    assert (outcome.artifact.engine, outcome.artifact.num_checks) == ("mlflow", 7)
    answers = json.loads((outcome.artifact.path / "answers.json").read_text(encoding="utf-8"))
    assert re.match(r'\{"text": ".*"\}', answers[0]["prompt"])
    assert re.match(r'\{"label": "(zh|en)", "scores": ', answers[0]["answer"])
    assert deploy(site, first).result == "reused"
    deploy(site, second)
    assert aliases(site, NAME) == {"candidate": 2, "champion": 2, "live": 2, "previous": 1}
    url = start_detached(site, NAME)
    try:
        assert live_record(site, NAME)["version"] == 2
        assert (
            httpx.post(f"{url}/invocations", json={"dataframe_records": [{"text": "the model"}]}, timeout=60).json()[
                "predictions"
            ][0]["label"]
            == "en"
        )
        with open_chat(site, NAME) as ask:
            assert json.loads(ask("文件 命令", 1))["label"] == "zh"
    finally:
        assert stop_detached(site, NAME)
    assert rollback(site, NAME, reason="test").version == 1
    assert find_alias(site, NAME, "live").digest == first.tuned.digest


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_labels_that_differ_leave_the_previous_live(site: Site) -> None:
    first, second = make_label_chain(site), make_label_chain(site, seed=1)
    deploy(site, first)
    version = register_labels(site, second).artifact
    path = version_folder(served_folder(site, find_version(site, NAME, version.version))) / TRIAL
    questions = json.loads(path.read_text(encoding="utf-8"))
    questions[2]["expected"]["label"] = "other"
    path.write_text(json.dumps(questions), encoding="utf-8")
    with pytest.raises(GateError, match=r"version 2 is not rolled out.*when served and said .*other.* when it was scored"):
        deploy_labelled.build(DeployLabelledSpec(), version, second.tuned, site=site)
    assert find_alias(site, NAME, "live").version == 1


@pytest.mark.parametrize(
    ("record", "shown"),
    [
        ({"text": "one", "text_pair": "two"}, '{"dataframe_records": [{"text": "...", "text_pair": "..."}]}'),
        ({"words": ["one", "two"]}, '{"dataframe_records": [{"words": ["..."]}]}'),
    ],
)
def test_where_a_server_is_asked_is_said_with_the_columns_its_model_takes(
    tmp_path: Path, record: dict[str, Any], shown: str
) -> None:
    (tmp_path / "MLmodel").touch()
    (tmp_path / TRIAL).write_text(json.dumps([{"record": record, "expected": {}}]), encoding="utf-8")
    server = Server("http://127.0.0.1:1", NAME, "mlflow", labels=True, process=None, log=tmp_path)  # type: ignore[arg-type]
    assert _entry(server, tmp_path / "artifacts" / "model") == f"http://127.0.0.1:1/invocations (POST {shown})"


@pytest.mark.parametrize(
    ("record", "said", "asked"),
    [
        ({"text": ""}, "one two", {"text": "one two"}),
        ({"words": []}, "one two", {"words": ["one", "two"]}),
        ({"text": "", "text_pair": ""}, "one two ||| three", {"text": "one two", "text_pair": "three"}),
    ],
)
def test_a_talk_asks_in_the_columns_the_model_takes(
    tmp_path: Path, record: dict[str, Any], said: str, asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "MLmodel").touch()
    (tmp_path / TRIAL).write_text(json.dumps([{"record": record, "expected": {}}]), encoding="utf-8")
    server = Server("http://127.0.0.1:1", NAME, "mlflow", labels=True, process=None, log=tmp_path)  # type: ignore[arg-type]
    monkeypatch.setattr(scoring, "label_at", lambda url, records: records)
    ask = _asking(server.url, server.model, server.engine, _column(server, tmp_path / "artifacts" / "model"))
    assert json.loads(ask(said, 1)) == asked


@pytest.mark.parametrize("said", ["one", "one |||", "||| two"])
def test_a_talk_with_a_model_of_pairs_says_how_to_write_one(said: str) -> None:
    with pytest.raises(RecipeError, match=r"compares two texts: write FIRST \|\|\| SECOND"):
        _asking("http://127.0.0.1:1", NAME, "mlflow", "text_pair")(said, 1)


def test_a_running_server_says_which_column_its_model_takes(site: Site, tmp_path: Path) -> None:
    (tmp_path / "MLmodel").touch()
    (tmp_path / TRIAL).write_text(json.dumps([{"record": {"words": ["one"]}, "expected": {}}]), encoding="utf-8")
    server = Server("http://127.0.0.1:1", NAME, "mlflow", labels=True, process=None, log=tmp_path)  # type: ignore[arg-type]
    with _announced(site, NAME, Target(tmp_path / "artifacts" / "model"), server):
        assert json.loads(record_file(site, NAME).read_text())["column"] == "words"


def test_a_labelled_folder_outside_the_registry_is_not_served(site: Site) -> None:
    chain = make_label_chain(site)
    with pytest.raises(ContractError, match="no registered version"), served(chain.tuned.path / "model", site):
        pass
    version = register_labels(site, chain).artifact
    folder = served_folder(site, find_version(site, NAME, version.version))
    assert len(trial_questions(folder)) == 6
