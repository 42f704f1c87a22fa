"""One shared run of the whole chain from preset `ci`: what it made, that it is reused, and what a change rebuilds."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from flows.pipeline import STAGES
from flows.plan import plan_recipe
from flows.presets import load_recipe
from tasks.core.run import Run, running
from tests.chain import ChainRun, environment, processes_on, textmill

pytestmark = [pytest.mark.chain, pytest.mark.timeout(900)]
MODEL = "textmill-ci"


@pytest.fixture(scope="module")
def again(chain: ChainRun) -> ChainRun:
    """The same command once more."""
    return textmill(chain.state, "run", "ci")


def test_every_stage_is_built_in_order_and_the_summary_shows_it(chain: ChainRun) -> None:
    names = [name for name, _ in chain.results]
    assert list(dict.fromkeys(names)) == list(STAGES)
    assert names.count("score_model") == 2
    assert {result for name, result in chain.results} == {"built", "reused"} or {result for _, result in chain.results} == {
        "built"
    }
    for part in ("documents", "kept", "entries", "bits per byte", "yes:", "is live", "textmill chat", "done in"):
        assert part in chain.output, part
    assert "Traceback" not in chain.output
    assert "Warning" not in chain.output


def test_three_sample_answers_are_shown(chain: ChainRun) -> None:
    answers = chain.read("deploy", "answers.json")
    assert len(answers) >= 3
    assert chain.output.count("  Q ") >= 3
    assert answers[0]["prompt"].split()[0] in chain.output


def test_a_second_run_reuses_every_stage_and_starts_no_server(chain: ChainRun, again: ChainRun) -> None:
    assert again.code == 0, again.output
    assert {result for _, result in again.results} == {"reused"}
    assert [name for name, _ in again.results] == [name for name, _ in chain.results]
    assert "  Q " in again.output


def test_the_mask_of_a_preset_is_shown(chain: ChainRun) -> None:
    shown = textmill(chain.state, "inspect", "ci", "--show-mask", "--n", "2")
    assert shown.code == 0, shown.output
    assert shown.output.count("tokens are learned") == 2
    assert shown.output.count("<|im_start|>assistant") == 2


def test_nothing_is_left_running(chain: ChainRun, again: ChainRun) -> None:
    assert processes_on(chain.state) == []


def test_counts_add_up_from_raw_records_to_tokens(chain: ChainRun) -> None:
    stages = ("ingest", "clean", "dedup", "decontaminate", "encode")
    raw, clean, dedup, corpus, encode = (chain.manifests(name)[0].facts for name in stages)
    assert raw["num_records"] == 254 + 535 + 3308
    assert raw["num_documents"] == clean["num_documents_in"]
    assert clean["num_documents"] == dedup["num_documents_in"]
    assert corpus["num_documents"] + sum(corpus["contaminated_by_reason"].values()) == dedup["num_documents"]
    assert corpus["documents_by_split"] == encode["documents_by_split"]
    assert sum(dedup["removed_by_reason"].values()) > 0
    assert sum(clean["drops_by_reason"].values()) > 0


def plan(chain: ChainRun, *overrides: str) -> dict[str, tuple[str, str]]:
    steps = plan_recipe(load_recipe("ci", overrides), chain.site)
    return {step.stage: (step.action, step.reason) for step in steps}


def test_the_plan_of_a_finished_run_builds_nothing(chain: ChainRun) -> None:
    assert {action for action, _ in plan(chain).values()} == {"reuse", "ask"}


@pytest.mark.parametrize(
    ("override", "first", "reason"),
    [
        ("dedup.near.threshold=0.93", "dedup", "near.threshold"),
        ("decontaminate.overlap.words_per_ngram=9", "decontaminate", "overlap.words_per_ngram"),
        ("tokenizer.source.vocab_size=700", "tokenizer", "vocab_size: "),
        ("pretrain.seed=5", "pretrain", "seed: 0 -> 5"),
        ("tune.optim.learning_rate=0.5", "tune", "optim.learning_rate"),
        ("gate.min_items=7", "gate", "min_items"),
    ],
)
def test_the_plan_names_the_field_that_rebuilds(chain: ChainRun, override: str, first: str, reason: str) -> None:
    steps = plan(chain, override)
    building = [name for name, (action, _) in steps.items() if action == "build"]
    assert building[0] == first
    assert reason in steps[first][1]
    untouched = STAGES[: STAGES.index(first)]
    assert all(steps[name][0] != "build" for name in untouched if name != "instructions")


def test_one_changed_field_rebuilds_only_what_is_below(chain: ChainRun, again: ChainRun) -> None:
    """The smallest margin the gate knows changes nothing of the verdict but is another question."""
    run = textmill(chain.state, "run", "ci", "--set", "gate.min_items=5", "--until", "gate")
    assert run.code == 0, run.output
    assert [name for name, result in run.results if result == "built"] == ["gate"]


def test_every_stage_survives_a_transient_error_in_the_same_run(
    chain: ChainRun, prefect_api: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real stages and their policies on a real server; attempt 2 finds the work done in the store."""
    from prefect import flow, get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

    from flows import pipeline as chains
    from tasks.core.errors import TransientError
    from tasks.core.stage import Stage

    original, calls, flow_runs = Stage.outcome, [], []

    def fails_first(self, spec, *inputs, **options):
        calls.append((self.name, repr(spec)))
        if calls.count(calls[-1]) == 1:
            raise TransientError("the network went away")
        return original(self, spec, *inputs, **options)

    @flow
    def once() -> None:
        from prefect.runtime import flow_run

        flow_runs.append(flow_run.get_id())
        with running(Run(chain.site)):
            chains.pipeline(load_recipe("ci").resolved())

    monkeypatch.setattr(Stage, "outcome", fails_first)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", chain.site.tracking_uri)
    once()
    with get_client(sync_client=True) as client:
        tasks = client.read_task_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[flow_runs[0]])))
    assert {task.name.rsplit("-", 1)[0] for task in tasks} == set(STAGES)
    assert {(task.run_count, task.state_name) for task in tasks} == {(2, "Reused")}


def test_lineage_goes_back_to_the_raw_sources(chain: ChainRun) -> None:
    deployed = chain.manifests("deploy")[0]
    run = textmill(chain.state, "show", deployed.address)
    assert run.code == 0
    for part in ("source debian-handbook: CC-BY-SA-3.0", "source linux-command: MIT", "raw-corpus/", "checkpoint/", "commit"):
        assert part in run.output, part


def test_mlflow_holds_the_run_and_the_version(chain: ChainRun) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(chain.site.tracking_uri)
    version = client.get_model_version_by_alias(MODEL, "champion")
    assert version.version == client.get_model_version_by_alias(MODEL, "live").version
    assert version.tags["textmill.digest"] == chain.manifests("tune")[0].digest
    assert "CC-BY-SA-3.0" in version.description
    run = client.get_run(version.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["pretrain.model.depth"] == str(load_recipe("ci").pretrain.model.depth)
    losses = client.get_metric_history(run.info.run_id, "pretrain/train_loss")
    assert [metric.step for metric in losses] == sorted({metric.step for metric in losses})
    assert losses[-1].value < losses[0].value
    stages = {artifact.path for artifact in client.list_artifacts(run.info.run_id)}
    assert {"check", "pretrain", "evaluate", "gate"} <= stages
    assert {dataset.dataset.digest for dataset in run.inputs.dataset_inputs}


_PREDICT = """
import mlflow, sys
model = mlflow.pyfunc.load_model("models:/textmill-ci@champion")
print("ANSWER", repr(list(model.predict(["{prompt}"]))[0]))
print("OURS", [name for name in sys.modules if name.split(".")[0] in ("tasks", "flows", "deploy")])
"""


def test_the_champion_answers_in_a_fresh_process_without_textmill(chain: ChainRun, tmp_path: Path) -> None:
    prompt = chain.read("deploy", "answers.json")[0]["prompt"]
    variables = environment(chain.state) | {
        "MLFLOW_TRACKING_URI": chain.site.tracking_uri,
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "PYTHONPATH": "",
    }
    code = _PREDICT.replace("{prompt}", prompt)
    done = subprocess.run([sys.executable, "-c", code], env=variables, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert "OURS []" in done.stdout, done.stdout + done.stderr
    assert re.search(r"ANSWER '.+'", done.stdout)


@pytest.mark.slow
def test_an_unreachable_tracker_does_not_stop_the_work_but_registration_says_so(chain: ChainRun, tmp_path: Path) -> None:
    state = tmp_path / ".textmill"
    shutil.copytree(chain.state / "store", state / "store")
    down = {"TEXTMILL_MLFLOW_URI": "http://127.0.0.1:9", "TEXTMILL_RETRY_DELAY_S": "0.1", "TEXTMILL_TRACKER_WAIT_S": "2"}
    run = textmill(state, "run", "ci", "--until", "tune", **down)
    assert run.code == 0, run.output
    run = textmill(state, "run", "ci", **down)
    assert run.code == 6, run.output
    assert "http://127.0.0.1:9" in run.output
    assert {result for name, result in run.results if name != "champion"} <= {"reused"}


def test_the_state_folder_is_the_only_place_written_to(chain: ChainRun) -> None:
    expected = {
        "store",
        "mlflow.db",
        "mlartifacts",
        "prefect",
        "logs",
        "cache",
        "spool",
        "children",
        "runs",
        "serving",
        "audit.jsonl",
        "hf",
    }
    assert {path.name for path in chain.state.iterdir()} <= expected
    audit = [json.loads(line) for line in (chain.state / "audit.jsonl").read_text().splitlines()]
    assert audit[-1]["to"] == 1
    assert list((chain.state / "runs").iterdir()) == []
