"""A labelled model in the registry: its card, its trial questions, and what it says where Textmill is not installed."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from deploy.scoring import agrees, scoring_command, trial_questions, version_folder
from tasks.core.errors import ContractError
from tasks.core.site import Site, service_environment
from tasks.core.tracking import download, find_alias, find_version, served_folder
from tasks.modeling.architecture import says_labels
from tasks.registry import upload
from tests.registry.labelled_kit import make_label_chain, register_labels

# Passed with -c, so that the process has no way to our code.
LABEL = """
import json, sys
import mlflow, pandas
questions = json.load(open(sys.argv[2]))
for uri, one in zip(json.loads(sys.argv[1]), questions):
    model = mlflow.pyfunc.load_model(uri)
    answers = model.predict(pandas.DataFrame([question["record"] for question in one])).to_dict(orient="records")
    print("ANSWERS", json.dumps(answers))
assert not any(name.split(".")[0] in ("tasks", "flows", "deploy") for name in sys.modules)
"""


@pytest.mark.slow
def test_versions_of_every_task_say_what_was_scored_without_textmill(site: Site, tmp_path: Path) -> None:
    made = {"classification": True, "multi_label": False, "regression": False, "token_classification": False}
    versions, questions = [], []
    for task, pairs in made.items():
        record = register_labels(site, make_label_chain(site, task=task, pairs=pairs), name=f"toy-{task.replace('_', '-')}")
        version = find_version(site, record.artifact.name, record.artifact.version)
        assert version.tags["textmill.task"] == task
        folder = served_folder(site, version)
        assert says_labels(folder)
        versions.append(version.uri)
        questions.append(trial_questions(folder))
    (tmp_path / "questions.json").write_text(json.dumps(questions))
    command = [sys.executable, "-c", LABEL, json.dumps(versions), str(tmp_path / "questions.json")]
    environment = os.environ | service_environment(site) | {"HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2_000:]
    said = [json.loads(line.removeprefix("ANSWERS ")) for line in done.stdout.splitlines() if line.startswith("ANSWERS ")]
    assert len(said) == len(questions) == 4
    for answers, asked in zip(said, questions, strict=True):
        assert len(asked) == 6
        assert all(agrees(answer, one["expected"]) for answer, one in zip(answers, asked, strict=True))
    assert {"text", "text_pair"} == set(questions[0][0]["record"])


def test_a_passed_model_becomes_champion_and_its_card_says_what_it_is(site: Site) -> None:
    chain = make_label_chain(site)
    record = register_labels(site, chain)
    champion = find_alias(site, "toy-labels", "champion")
    assert (record.artifact.is_champion, champion.version, champion.digest) == (True, 1, chain.tuned.digest)
    card = (record.artifact.path / "card.md").read_text(encoding="utf-8")
    for text in ("| says | zh, en |", "ModernBertForSequenceClassification", "tuned/macro_f1", "few items of zh", "/invocations"):
        assert text in card
    assert register_labels(site, chain).result == "reused"
    told = register_labels(site, chain, purpose="Sorts mail.").artifact
    assert (told.path / "card.md").read_text(encoding="utf-8").startswith("# toy-labels\n\nSorts mail.\n")
    asked = r"toy-labels version 1 holds this model with registry\.trial_items = 6, and 4 is asked for"
    with pytest.raises(ContractError, match=asked):
        register_labels(site, chain, trial_items=4)
    other = make_label_chain(site, seed=1)
    with pytest.raises(ContractError, match="the scored model is "):
        register_labels(site, replace(chain, scores=other.scores))


def test_a_model_of_pairs_asks_for_both_texts(site: Site) -> None:
    from mlflow.exceptions import MlflowException
    from mlflow.pyfunc import load_model

    record = register_labels(site, make_label_chain(site, pairs=True))
    assert '"text": "...", "text_pair": "..."' in (record.artifact.path / "card.md").read_text(encoding="utf-8")
    model = load_model(download(site, find_alias(site, "toy-labels", "champion")).as_uri())
    assert len(model.predict([{"text": "a", "text_pair": "b"}])) == 1
    with pytest.raises(MlflowException, match="text_pair"):
        model.predict([{"text": "a"}])


def test_a_killed_upload_with_other_trial_items_is_not_gone_on_with(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    chain = make_label_chain(site)

    class Killed(BaseException):
        pass

    def die(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(upload, "_create_version", die)
        with pytest.raises(Killed):
            register_labels(site, chain)
    register_labels(site, chain, trial_items=4)
    assert len(trial_questions(served_folder(site, find_alias(site, "toy-labels", "champion")))) == 4


def test_the_server_is_started_on_the_version_folder(site: Site, tmp_path: Path) -> None:
    folder = tmp_path / "artifacts" / "model"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"architectures": ["LlamaForCausalLM"]}')
    assert not says_labels(folder)
    with pytest.raises(ContractError, match=r"no registered version, which MLflow's server needs .*; give a registered name"):
        version_folder(folder)
    (tmp_path / "MLmodel").touch()
    command = scoring_command(folder, site, 8123)
    assert command[command.index("--model-uri") + 1] == str(tmp_path)
    assert command[command.index("--port") + 1] == "8123"


@pytest.mark.parametrize(
    ("said", "same"),
    [
        ({"label": "a", "scores": {"a": 0.9004, "b": 0.0996}}, True),
        ({"label": "b", "scores": {"a": 0.9, "b": 0.1}}, False),
        ({"label": "a", "scores": {"a": 0.902, "b": 0.098}}, False),
        ({"label": "a", "scores": {"a": 0.9}}, False),
        ({"label": "a"}, False),
    ],
)
def test_labels_agree_exactly_and_probabilities_nearly(said: dict, same: bool) -> None:
    assert agrees(said, {"label": "a", "scores": {"a": 0.9, "b": 0.1}}) == same


def test_values_agree_by_their_size() -> None:
    assert agrees({"value": 1000.5}, {"value": 1000.0})
    assert not agrees({"value": 1.5}, {"value": 1.0})
    assert agrees({"labels": ["a", None], "scores": [1.0, None]}, {"labels": ["a", None], "scores": [1.0, None]})
    assert not agrees({"labels": ["a"]}, {"labels": ["a", "b"]})
