"""Text, conversations, labels and base from the Hugging Face hub, by its own libraries, over HTTP; the hub is a stand-in here."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.servers import free_port
from tasks.labelled.glue import HUB_NAME, HUB_REVISION
from tests.bases.kit import save_folder
from tests.chain import ROOT, environment, textmill
from tests.data.test_glue import write_parquet
from tests.served import served

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

COMMIT = "c" * 40
SHIPPED = ROOT / "flows" / "recipes" / "data"

RECIPE = f"""
extends = "smollm-lora"
name = "of-the-hub"

[base.source]
kind = "hub"
name = "some/tiny"
revision = "{COMMIT}"
licence = "MIT"

[[ingest.sources]]
kind = "hub"
name = "commands"
dataset = "some/texts"
revision = "{COMMIT}"
licence = "MIT"

[[ingest.sources]]
kind = "files"
name = "poems"
paths = ["hf://datasets/some/texts@{COMMIT}/more/*.gz"]
licence = "MIT"

[[instructions.train]]
name = "chats"
hub = {{dataset = "some/chats", revision = "{COMMIT}"}}
licence = "MIT"

[tune]
row_tokens = 128

[tune.train]
num_tokens = 2_048
eval_every_steps = 2
checkpoint_every_steps = 2
"""

GLUE = f"""
kind = "labelled"
name = "rte"

[base]
kind = "adopted"

[base.spec.source]
kind = "hub"
name = "some/tiny"
revision = "{COMMIT}"
licence = "MIT"

[labelled.glue]
name = "rte"

[registry]
name = "rte"
"""


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Serves a hub; gives the variables that lead to it."""
    root = tmp_path_factory.mktemp("hub")
    texts, chats, glue = (root / "datasets" / name for name in ("some/texts", "some/chats", HUB_NAME))
    _copy("corpus/linux_command_zh.jsonl.gz", texts / COMMIT / "train.jsonl.gz")
    _copy("corpus/chinese_poetry.jsonl.gz", texts / COMMIT / "more" / "poems.jsonl.gz")
    _copy("instructions/linux_command_train.jsonl.gz", chats / COMMIT / "train.jsonl.gz")
    save_folder(root / "models" / "some" / "tiny" / COMMIT, max_position_embeddings=256)
    for other_form in ("consolidated.safetensors", "onnx/model.safetensors"):
        _copy("corpus/chinese_poetry.jsonl.gz", root / "models" / "some" / "tiny" / COMMIT / other_form)
    (root / "models" / "some" / "gated" / COMMIT).mkdir(parents=True)
    (root / "models" / "some" / "gated" / COMMIT / ".gated").touch()
    (glue / HUB_REVISION / "rte").mkdir(parents=True)
    write_parquet(glue / HUB_REVISION / "rte", "rte")
    (glue / HUB_REVISION / "README.md").write_text(
        "---\nconfigs:\n- config_name: rte\n  data_files:\n  - split: train\n    path: rte/train-*\n"
        "  - split: validation\n    path: rte/validation-*\n---\n"
    )
    port = free_port("127.0.0.1")
    with served("tests.hub_server", [str(root), str(port)], port, root / "log"):
        yield {"HF_ENDPOINT": f"http://127.0.0.1:{port}", "HF_HUB_OFFLINE": "0", "HF_HOME": str(root / "cache")}


def _copy(name: str, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(SHIPPED / name, path)


def test_text_conversations_and_base_come_from_the_hub(hub: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(RECIPE, encoding="utf-8")
    run = textmill(tmp_path / ".textmill", "run", str(tmp_path / "mine.toml"), "--until", "tune", **hub)
    assert run.code == 0, run.output
    documents = run.manifests("ingest")[0].facts["documents_by_source"]
    assert documents["commands"] > 100 < documents["poems"]
    base = run.manifests("base")[0]
    assert (base.facts["method"], base.facts["licence"]) == ("adopted", "MIT")
    assert not list(Path(hub["HF_HOME"]).rglob("*consolidated*")), "fetched for nothing"
    assert not list(Path(hub["HF_HOME"]).rglob("onnx"))
    assert run.manifests("tune")[0].facts["base_digest"] == base.digest


def test_a_task_of_glue_comes_from_the_hub(hub: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(GLUE, encoding="utf-8")
    run = textmill(tmp_path / ".textmill", "run", str(tmp_path / "mine.toml"), "--until", "labelled", **hub)
    assert run.code == 0, run.output
    assert run.manifests("labelled")[0].facts["items_by_label"] == {"entailment": 33, "not_entailment": 33}


def _said(folder: Path, hub: dict[str, str], *questions: str) -> dict[str, list[str]]:
    """Returns the error of each question of `hub_questions`: its class and its words."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.flows.hub_questions", COMMIT, str(folder / "errors.json"), *questions],
        env=environment(folder, **hub),
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, list[str]] = json.loads((folder / "errors.json").read_text(encoding="utf-8"))
    return found


def test_what_the_hub_does_not_have_is_the_users_error(hub: dict[str, str], tmp_path: Path) -> None:
    errors = _said(tmp_path, hub, "")
    assert {kind for kind, _ in errors.values()} == {"RecipeError"}
    said = {question: words for question, (_, words) in errors.items()}
    assert "the hub has no model some/other of commit cccc" in said["model: another name"]
    assert "the hub has no model some/tiny of commit dddd" in said["model: another commit"]
    assert "or not for this account (hf auth login)" in said["model: gated"]
    for question, revision in {"model": None, "model of a branch": "main", "rows": None}.items():
        assert f'revision is {revision!r}, which may move under a run; set revision = "{COMMIT}"' in said[f"commit: {question}"]
    assert "the hub has no some/other" in said["rows: another name"]
    assert "Bad split: dev. Available splits: ['train']" in said["rows: another split"]
    assert "hf://datasets/some/other/x matches no file" in said["files: another name"]


def test_a_hub_that_does_not_answer_is_passing_trouble_and_one_not_to_be_asked_is_not(
    hub: dict[str, str], tmp_path: Path
) -> None:
    hub = hub | {"HF_HOME": str(tmp_path / "cache")}
    once = ("model: another name", "rows: another name", "files")
    gone = _said(tmp_path, hub | {"HF_ENDPOINT": f"http://127.0.0.1:{free_port('127.0.0.1')}"}, *once)
    assert {kind for kind, _ in gone.values()} == {"TransientError"}
    offline = _said(tmp_path, hub | {"HF_HUB_OFFLINE": "1"}, *once)
    assert {kind for kind, _ in offline.values()} == {"RecipeError"}
    assert all("HF_HUB_OFFLINE is set" in words for _, words in offline.values())
