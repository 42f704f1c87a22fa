"""`textmill ui` as its users meet it: two servers and a worker, and the pages in a real browser."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
from playwright.sync_api import Page, expect

from flows.pipeline import STAGES
from flows.plan import plan_recipe
from flows.presets import load_recipe
from flows.servers import free_port
from flows.ui import make_pool
from tasks.modeling.specs import Family
from tests.browser import CHROMIUM, browser_page, foreign_hosts
from tests.chain import ROOT, ChainRun, processes_on, textmill, wait_until
from tests.running_ui import CORPUS_STAGES, RunningUi

pytestmark = pytest.mark.slow


@pytest.fixture
def page() -> Iterator[Page]:
    """A browser page; what it shows must come from this machine alone."""
    if CHROMIUM is None:
        pytest.skip("no chromium here: apt-get install chromium")
    with browser_page() as page:
        hosts = foreign_hosts(page)
        yield page
        assert hosts == set()


@pytest.fixture(scope="module")
def whole_run(ui: RunningUi) -> str:
    """A run of the whole chain that a person started in the UI; everything in it was made before."""
    run = ui.run("demo", "ci")
    ui.wait_for(run, "Completed")
    return run


def test_both_addresses_are_printed_and_only_this_machine_can_reach_them(ui: RunningUi) -> None:
    assert ui.prefect in ui.printed
    assert ui.mlflow in ui.printed
    addresses = ui.listening()
    ports = {port for _, port in addresses}
    assert {int(ui.prefect.rsplit(":", 1)[1]), int(ui.mlflow.rsplit(":", 1)[1])} <= ports
    assert {address for address, _ in addresses} == {"127.0.0.1"}


@pytest.mark.parametrize("option", ["--prefect-port", "--mlflow-port"])
def test_a_port_in_use_is_an_error_that_names_the_option(option: str, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ports = {"--prefect-port": free_port("127.0.0.1"), "--mlflow-port": free_port("127.0.0.1")} | {option: port}
        run = textmill(tmp_path / ".textmill", "ui", *(str(word) for pair in ports.items() for word in pair))
    assert run.code == 2, run.output
    assert f"port {port} on 127.0.0.1 is in use" in run.output
    assert option in run.output
    assert processes_on(tmp_path / ".textmill") == []


def test_a_second_one_on_the_same_state_folder_is_refused(ui: RunningUi) -> None:
    run = textmill(ui.state, "ui", "--prefect-port", str(free_port("127.0.0.1")), "--mlflow-port", str(free_port("127.0.0.1")))
    assert run.code == 2, run.output
    assert f"`textmill ui` runs already on {ui.state}: {ui.prefect}" in run.output
    assert ui.process.poll() is None


def test_the_deployments_have_tags_a_limit_of_one_and_a_paused_schedule(ui: RunningUi) -> None:
    found = {deployment["name"]: deployment for deployment in ui.ask("/deployments/filter", {})}
    names = ["compare-labels-toy", "corpus-nightly", "demo", "labels-toy", "model-demo", "own-recipe", "release-demo"]
    assert sorted(found) == names
    for deployment in found.values():
        assert "textmill" in deployment["tags"]
        assert len(deployment["tags"]) > 1
        assert deployment["global_concurrency_limit"]["limit"] == 1
        assert deployment["description"]
    wait_until(lambda: {entry["status"] for entry in ui.ask("/deployments/filter", {})} == {"READY"}, 30)  # the worker has called
    schedules = {name: deployment["schedules"] for name, deployment in found.items()}
    (nightly,) = schedules.pop("corpus-nightly")
    assert nightly["schedule"]["cron"] == "0 3 * * *"
    assert nightly["active"] is False
    assert set(map(len, schedules.values())) == {0}


def test_the_runs_of_the_worker_get_every_setting(ui: RunningUi) -> None:
    """They start in the folder of prefect.yaml, where the settings file of `textmill ui` does not lie."""
    (worker,) = [pid for pid in processes_on(ui.state) if b"worker" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")]
    assert b"TEXTMILL_CONFIG=/dev/null" in Path(f"/proc/{worker}/environ").read_bytes().split(b"\0")


def test_the_runs_of_the_command_line_are_listed(ui: RunningUi, page: Page) -> None:
    flow_runs = ui.ask("/flow_runs/filter", {"flow_runs": {"deployment_id": {"is_null_": True}}})
    assert [run["state_name"] for run in flow_runs if run["name"] == "ci"] == ["Completed"]
    page.goto(f"{ui.prefect}/v2/runs")
    expect(page.get_by_role("link", name="ci", exact=True)).to_be_visible()


def test_the_form_shows_the_recipe_as_controls_with_descriptions_and_its_defaults(ui: RunningUi, page: Page) -> None:
    page.goto(f"{ui.prefect}/v2/deployments/deployment/{ui.deployment('demo')['id']}/run")
    demo = load_recipe("demo")
    expect(page.get_by_label("Name (Optional)", exact=True).or_(page.get_by_label("Name", exact=True)).first).to_have_value(
        "demo"
    )
    for label, value in {
        "Depth (Optional)": demo.pretrain.model.depth,
        "Context Tokens (Optional)": demo.pretrain.model.context_tokens,
        "Test Share (Optional)": demo.dedup.test_share,
        "Forgetting (Optional)": demo.gate.forgetting,
    }.items():
        field = page.get_by_label(label, exact=True)
        expect(field).to_have_value(f"{value:g}")
        assert field.get_attribute("type") == "number", label
    for text in (
        "Layers: the size dial; the other sizes follow from it.",
        "What a model must reach to become champion.",
        "Raw text to read.",
    ):
        expect(page.get_by_text(text, exact=True).first).to_be_visible()
    family = page.get_by_label("Select Family")
    assert family.get_attribute("aria-haspopup") == "listbox"
    family.click()
    assert page.get_by_role("option").all_inner_texts() == list(get_args(Family))


def test_fields_stand_in_the_form_in_the_order_of_the_chain(ui: RunningUi, page: Page) -> None:
    page.goto(f"{ui.prefect}/v2/deployments/deployment/{ui.deployment('demo')['id']}/run")
    parts = ["Ingest", "Clean", "Deduplicate", "Check", "Tokenizer", "Encode", "Pretrain", "Tune", "Evaluate", "Gate", "Deploy"]
    tops = [page.locator("label", has_text=f"{part} (Optional)").or_(page.get_by_text(part, exact=True)).first for part in parts]
    expect(tops[-1]).to_be_visible()
    labels = [top.element_handle() for top in tops]
    heights = page.evaluate("labels => labels.map(label => label.getBoundingClientRect().y)", labels)  # at once: the page moves
    assert heights == sorted(heights)


def test_a_run_started_from_the_form_finishes_and_reuses_what_is_there(ui: RunningUi, page: Page) -> None:
    plan = plan_recipe(load_recipe("demo", ("encode.max_share_gap=0.4321",)), ChainRun(ui.state, 0, "").site)
    page.goto(f"{ui.prefect}/v2/deployments/deployment/{ui.deployment('corpus-nightly')['id']}/run")
    page.get_by_label("Run Name").fill("from the form")
    page.get_by_label("Max Share Gap (Optional)", exact=True).fill("0.4321")
    page.get_by_role("button", name="Submit").click()
    wait_until(lambda: runs_of(ui, "corpus-nightly"), 30)
    (run,) = runs_of(ui, "corpus-nightly")
    assert run["parameters"]["recipe"]["encode"]["max_share_gap"] == 0.4321
    ui.wait_for(run["id"], "Completed")
    expected = {step.stage: "Completed" if step.action == "build" else "Reused" for step in plan if step.stage in CORPUS_STAGES}
    states = ui.states(run["id"])
    assert tuple(states) == CORPUS_STAGES
    assert states | {"require_quality": "Reused"} == expected | {"require_quality": "Reused"}
    assert states["encode"] == "Completed"
    page.goto(f"{ui.prefect}/v2/runs/flow-run/{run['id']}?tab=TaskRuns")
    reused = sum(state == "Reused" for state in states.values())
    expect(page.get_by_text(f"{reused} Reused")).to_be_visible()


def runs_of(ui: RunningUi, deployment: str) -> list[dict[str, object]]:
    """Runs of a deployment that are no scheduled ones."""
    runs = ui.ask("/flow_runs/filter", {"deployments": {"name": {"any_": [deployment]}}})
    return [run for run in runs if not run["auto_scheduled"]]


def test_a_misspelt_key_is_refused_before_any_run(ui: RunningUi) -> None:
    recipe = load_recipe("ci").model_dump(mode="json")
    recipe["gate"]["forgeting"] = recipe["gate"].pop("forgetting")
    before = ui.ask("/flow_runs/count", {})
    path = f"/deployments/{ui.deployment('demo')['id']}/create_flow_run"
    answer = ui.post(path, {"parameters": {"recipe": recipe}})
    assert answer.status_code in (409, 422), answer.text
    assert "forgeting" in answer.text
    assert ui.ask("/flow_runs/count", {}) == before


def test_the_graph_of_a_whole_run_has_one_node_a_stage_and_all_are_reused(ui: RunningUi, whole_run: str) -> None:
    assert ui.nodes(whole_run) == {stage: 2 if stage == "score_model" else 1 for stage in STAGES}
    assert set(ui.states(whole_run).values()) == {"Reused"}
    message = ui.flow_run(whole_run)["state"]["message"]
    assert message == f"0 stages built, {len(STAGES) + 1} reused"


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("clean", ("num_documents", "drops_by_reason")),
        ("check", ("passed",)),
        ("pretrain", ("num_parameters", "validation_loss")),
        ("evaluate", ("bits_per_byte",)),
        ("gate", ("yes", "forgetting")),
    ],
)
def test_an_artifact_page_shows_what_a_stage_made(
    ui: RunningUi, whole_run: str, page: Page, key: str, words: tuple[str, ...]
) -> None:
    page.goto(f"{ui.prefect}/v2/artifacts/artifact/{ui.artifacts(whole_run)[key]['id']}")
    expect(page.get_by_role("cell").first).to_be_visible()
    for word in words:
        expect(page.get_by_text(word).first).to_be_visible()


def test_the_training_curve_is_drawn(ui: RunningUi, whole_run: str, page: Page) -> None:
    page.goto(f"{ui.prefect}/v2/artifacts/artifact/{ui.artifacts(whole_run)['pretrain']['id']}")
    curve = page.locator("img[src^='data:image']").first
    expect(curve).to_be_visible()
    assert curve.evaluate("image => image.complete && image.naturalWidth") > 300


def test_the_links_of_a_run_lead_to_its_mlflow_run_and_model(ui: RunningUi, whole_run: str, page: Page) -> None:
    artifacts = ui.artifacts(whole_run)
    for key, seen in {"mlflow-run": f"ci-{whole_run[:8]}", "mlflow-model": "Version 1"}.items():
        page.goto(f"{ui.prefect}/v2/artifacts/artifact/{artifacts[key]['id']}")
        link = page.locator(f"a[href^='{ui.mlflow}/']").first
        expect(link).to_be_visible()
        answer = page.goto(link.get_attribute("href") or "")
        assert answer is not None
        assert answer.status == 200
        expect(page.get_by_role("heading", name=seen).or_(page.get_by_text(seen, exact=True)).first).to_be_visible()


def test_the_model_page_shows_card_tags_alias_and_source_run(ui: RunningUi, page: Page) -> None:
    page.goto(f"{ui.mlflow}/#/models/textmill-ci/versions/1")
    expect(page.get_by_role("heading", name="What it is")).to_be_visible()
    for text in ("CC-BY-SA-3.0", "textmill.digest", "textmill.recipe"):
        expect(page.get_by_text(text).first).to_be_visible()
    for alias in ("champion", "live"):
        expect(page.get_by_text(f"@ {alias}").first).to_be_visible()
    source = page.locator("a[href*='/runs/']").first
    expect(source).to_be_visible()
    assert source.inner_text().startswith("ci-")


def test_deployments_of_a_clean_clone(prefect_api: str, tmp_path: Path) -> None:
    """As README says it: without the work pool nothing is deployed, with it everything."""
    subprocess.run(["git", "clone", "-q", str(ROOT), str(tmp_path / "clone")], check=True)
    command = [sys.executable, "-m", "prefect", "deploy", "--all", "--no-prompt"]
    options = {
        "cwd": tmp_path / "clone",
        "capture_output": True,
        "text": True,
        "timeout": 120,
        "env": os.environ | {"COLUMNS": "250"},
    }
    without = subprocess.run(command, **options)
    assert without.returncode == 1, without.stdout
    make_pool()
    done = subprocess.run(command, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    names = ("pipeline/demo", "corpus/corpus-nightly", "model/model-demo", "release/release-demo", "labelled/labels-toy")
    for name in (*names, "compare/compare-labels-toy"):
        assert name in done.stdout
