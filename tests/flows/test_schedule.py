"""Schedules are real: runs nobody started begin by themselves, finish, and leave a log worth reading."""

import re
from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest

from flows.presets import load_recipe
from tests.chain import ChainRun, wait_until
from tests.running_ui import RunningUi, serving_ui

pytestmark = pytest.mark.slow
EVERY = timedelta(seconds=15)


@pytest.fixture(scope="module")
def ui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningUi]:
    """`textmill ui` on an empty state folder."""
    with serving_ui(tmp_path_factory.mktemp("schedule") / ".textmill") as running:
        yield running


@pytest.fixture(scope="module")
def scheduled(ui: RunningUi) -> list[dict[str, object]]:
    """The first two runs of a schedule of a few seconds on the corpus deployment, ended."""
    deployment = ui.deployment("corpus-nightly")
    schedule = {
        "schedule": {"interval": EVERY.total_seconds()},
        "active": True,
        "parameters": {"recipe": load_recipe("ci").model_dump(mode="json"), "until": "ingest"},
    }
    (made,) = ui.ask(f"/deployments/{deployment['id']}/schedules", [schedule])
    try:
        wait_until(lambda: len(ended(ui)) >= 2, 150)
    finally:
        ui.delete(f"/deployments/{deployment['id']}/schedules/{made['id']}")
    return ended(ui)[:2]


def ended(ui: RunningUi) -> list[dict[str, object]]:
    """Runs of a schedule that have ended, oldest first."""
    runs = ui.ask("/flow_runs/filter", {"sort": "START_TIME_ASC", "flow_runs": {"state": {"type": {"not_any_": ["SCHEDULED"]}}}})
    return [run for run in runs if run["auto_scheduled"] and run["end_time"]]


def test_two_unattended_runs_finish_one_after_the_other(ui: RunningUi, scheduled: list[dict[str, object]]) -> None:
    assert [run["state_name"] for run in scheduled] == ["Stopped", "Stopped"]
    assert [ui.states(str(run["id"])) for run in scheduled] == [{"ingest": "Completed"}, {"ingest": "Reused"}]
    planned = [datetime.fromisoformat(str(run["expected_start_time"])) for run in scheduled]
    assert planned[1] > planned[0]
    assert (planned[1] - planned[0]) % EVERY == timedelta(0)
    assert str(scheduled[1]["start_time"]) >= str(scheduled[0]["end_time"])
    assert {run["created_by"]["type"] for run in scheduled} == {"SCHEDULE"}
    assert len(ChainRun(ui.state, 0, "").manifests("ingest")) == 1


def test_a_schedule_taken_back_leaves_no_run_waiting(ui: RunningUi, scheduled: list[dict[str, object]]) -> None:
    waiting = {"flow_runs": {"state": {"type": {"any_": ["SCHEDULED", "PENDING"]}}}}
    wait_until(lambda: ui.ask("/flow_runs/count", waiting) == 0, 60)


def test_the_logs_of_a_normal_run_hold_no_traceback_and_no_idle_warning(
    ui: RunningUi, scheduled: list[dict[str, object]]
) -> None:
    for run in scheduled:
        lines = ui.logs(str(run["id"]))
        assert len(lines) > 3
        assert [line["message"] for line in lines if line["level"] >= 30] == []
        assert "Traceback" not in ui.log_text(str(run["id"]))
    for name in ("textmill.log", "prefect-worker.log", "mlflow-server.log"):
        path = ui.state / "logs" / name
        text = path.read_text(encoding="utf-8")
        assert "Traceback" not in text, path
        assert complaints(text) == [], path


def complaints(text: str) -> list[str]:
    """Lines of a log that warn or report an error."""
    return [line for line in text.splitlines() if re.search(r"\b(WARNING|ERROR|CRITICAL)\b|Warning:", line)]


def test_a_schedule_is_switched_on_as_readme_says(ui: RunningUi) -> None:
    deployment = ui.deployment("corpus-nightly")
    (nightly,) = [schedule for schedule in deployment["schedules"] if "cron" in schedule["schedule"]]
    path = f"/deployments/{deployment['id']}/schedules/{nightly['id']}"
    ui.patch(path, {"active": True})
    waiting = {"flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}}}
    wait_until(lambda: ui.ask("/flow_runs/count", waiting) > 0, 60)
    planned = ui.ask("/flow_runs/filter", waiting | {"sort": "EXPECTED_START_TIME_ASC"})
    assert {datetime.fromisoformat(run["expected_start_time"]).strftime("%H:%M") for run in planned} == {"03:00"}
    ui.patch(path, {"active": False})
    wait_until(lambda: ui.ask("/flow_runs/count", waiting) == 0, 60)
