"""The servers beside a run: where they listen, how they are asked, and what `textmill ui` leaves as it is."""

import os
import threading
import time
import urllib.request
from collections.abc import Iterator
from http.server import HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import yaml

from flows import servers, ui
from flows.__main__ import _keep_from_proxies
from tasks.core.errors import TransientError
from tasks.core.site import Site
from tests.chain import ROOT


@pytest.mark.parametrize(("temporary", "host"), [(True, "127.0.0.1"), (False, "0.0.0.0")])
def test_the_server_of_a_run_is_on_loopback_whatever_the_site_says(
    site: Site, temporary: bool, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[tuple[str, str]] = []

    def spawn(site: Site, name: str, command: list[str], url: str, *_: object) -> servers.Server:
        started.append((command[command.index("--host") + 1], url))
        return servers.Server(name, None, "", url, Path())

    monkeypatch.setattr(servers, "spawn", spawn)
    servers.prefect_server(site.model_copy(update={"host": "0.0.0.0"}), 4201, temporary=temporary)
    assert started == [(host, f"http://{host}:4201")]


def test_a_server_of_a_run_that_dies_at_its_start_is_told_at_once(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.setenv("PREFECT_API_DATABASE_CONNECTION_URL", "nosuch://database")
    start = time.monotonic()
    with (
        pytest.raises(TransientError, match=r"prefect-temporary-[0-9a-f]{8} ended .*\n(.*\n)*.*nosuch"),
        servers.prefect_api(site) as api_url,
    ):
        servers.wait_for_prefect(api_url)
    assert time.monotonic() - start < 90


def test_the_prefect_server_of_the_site_goes_before_that_of_the_environment(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:1/api")
    for own, used in ((None, "http://127.0.0.1:1/api"), ("http://127.0.0.1:2/api", "http://127.0.0.1:2/api")):
        with servers.prefect_api(site.model_copy(update={"prefect_api_url": own})) as api_url:
            assert (api_url, os.environ["PREFECT_API_URL"]) == (used, used)


def test_the_address_of_a_prefect_server_may_end_in_a_slash(prefect_api: str) -> None:
    servers.wait_for_prefect(f"{prefect_api}/")


def test_no_password_stands_on_the_command_line_of_mlflow(site: Site) -> None:
    database = f"sqlite:///{site.root / 'other.db'}"
    server = servers.mlflow_server(site.model_copy(update={"mlflow_uri": database}), servers.free_port("127.0.0.1"))
    try:
        server.wait_healthy("/health")
        assert "sqlite" not in " ".join(psutil.Process(server.process.pid).cmdline())
        found = httpx.post(f"{server.url}/api/2.0/mlflow/experiments/create", json={"name": "here"}, timeout=60)
        assert found.is_success
    finally:
        server.stop()
    assert b"here" in (site.root / "other.db").read_bytes()


def test_another_project_of_prefect_is_not_taken_for_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for text, folder in {
        "name: theirs\n": ROOT,
        "deployments:\n- name: textmill\n  entrypoint: theirs.flows.runs.pipeline\n": ROOT,
        "name: textmill-here\ndeployments:\n- name: nightly\n  entrypoint: flows.runs.pipeline\n": tmp_path,
    }.items():
        (tmp_path / "prefect.yaml").write_text(text)
        assert ui.project_folder() == folder


@pytest.mark.parametrize(
    ("known", "after"),
    [("", "127.0.0.1,10.0.0.7"), ("corp.example, 127.0.0.1", "corp.example,127.0.0.1,10.0.0.7"), ("*", "*")],
)
def test_loopback_is_asked_without_a_proxy(known: str, after: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, known)
    monkeypatch.setattr(urllib.request, "_opener", None)  # it would keep the proxies of its first request
    with HTTPServer(("127.0.0.1", 0), Quiet) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/"
        _keep_from_proxies("127.0.0.1", "10.0.0.7")
        assert (os.environ["no_proxy"], os.environ["NO_PROXY"]) == (after, after)
        assert servers.answers(url)
        assert httpx.get(url).status_code == 200, "and so does Prefect's client"
        server.shutdown()


class Quiet(SimpleHTTPRequestHandler):
    """Answers and logs nothing."""

    def log_message(self, *_: object) -> None:
        """Says nothing."""


def schedules(project: str) -> dict[str, Any]:
    return {one["name"]: one["schedules"] for one in yaml.safe_load(project)["deployments"] if "schedules" in one}


def test_only_a_new_deployment_is_given_the_schedule_of_the_file() -> None:
    project = (ROOT / "prefect.yaml").read_text(encoding="utf-8")
    (nightly,) = schedules(project)["corpus-nightly"]
    assert nightly["active"] is False
    fresh = ui._without_schedules(project, {"model/corpus-nightly"})
    assert yaml.safe_load(fresh) == yaml.safe_load(project)
    known = ui._without_schedules(project, {"corpus/corpus-nightly"})
    assert schedules(known) == {}
    assert len(yaml.safe_load(known)["deployments"]) == 7


@pytest.fixture
def own_pool(prefect_api: str) -> Iterator[str]:
    """A work pool on the session's server, which is gone afterwards with all that was deployed to it."""
    ui.make_pool()
    yield prefect_api
    for one in httpx.post(f"{prefect_api}/deployments/filter", json={}, timeout=60).json():
        httpx.delete(f"{prefect_api}/deployments/{one['id']}", timeout=60).raise_for_status()
    httpx.delete(f"{prefect_api}/work_pools/{ui.POOL}", timeout=60).raise_for_status()


@pytest.mark.slow
def test_what_a_person_did_to_a_schedule_is_there_after_the_next_start(own_pool: str) -> None:
    ui.deploy_all(ROOT)
    found = {one["name"]: one for one in httpx.post(f"{own_pool}/deployments/filter", json={}, timeout=60).json()}
    (nightly,) = found["corpus-nightly"]["schedules"]
    assert nightly["active"] is False
    httpx.patch(
        f"{own_pool}/deployments/{found['corpus-nightly']['id']}/schedules/{nightly['id']}", json={"active": True}, timeout=60
    ).raise_for_status()
    hourly = [{"schedule": {"interval": 3600}, "active": False}]
    httpx.post(f"{own_pool}/deployments/{found['demo']['id']}/schedules", json=hourly, timeout=60).raise_for_status()
    ui.deploy_all(ROOT)
    after = {one["name"]: one["schedules"] for one in httpx.post(f"{own_pool}/deployments/filter", json={}, timeout=60).json()}
    assert [(one["id"], one["active"]) for one in after["corpus-nightly"]] == [(nightly["id"], True)]
    assert [one["schedule"]["interval"] for one in after["demo"]] == [3600]
