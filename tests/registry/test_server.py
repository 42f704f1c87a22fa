"""The same against a real MLflow server: files come and go through it, and its page of a run is known."""

import shutil
from collections.abc import Iterator

import httpx
import pytest

from flows.servers import free_port, mlflow_server
from tasks.core.site import Site
from tasks.core.tracking import RunTracker, aliases, champion, registered_answers, served_folder
from tasks.core.tracking.client import mlflow_client
from tasks.registry import RegisterSpec, register_model
from tests.registry.kit import make_chain

pytestmark = pytest.mark.slow


@pytest.fixture
def remote(site: Site) -> Iterator[Site]:
    """A site whose MLflow is a server."""
    server = mlflow_server(site, free_port("127.0.0.1"))
    try:
        server.wait_healthy("/health")
        yield site.model_copy(update={"mlflow_uri": server.url})
    finally:
        server.stop()


def test_a_version_is_made_and_loaded_through_a_server(remote: Site) -> None:
    chain = make_chain(remote, seed=1)
    version = register_model.build(RegisterSpec(name="toy"), *chain.inputs, site=remote)
    assert aliases(remote, "toy") == {"candidate": 1, "champion": 1}
    assert mlflow_client(remote).get_run(version.run_id).info.status == "FINISHED"
    folder = served_folder(remote, champion(remote, "toy"))
    assert folder.is_relative_to(remote.root / "cache"), "its files were fetched"
    for path in (chain.tuned.path / "model").iterdir():
        assert (folder / path.name).read_bytes() == path.read_bytes()
    shutil.rmtree(remote.store_dir)
    assert registered_answers(remote, champion(remote, "toy"), ["the quick"], 4)


def test_the_page_of_a_run_is_known(remote: Site) -> None:
    tracker = RunTracker.start(remote, "with a page")
    url = tracker.url(str(remote.mlflow_uri), wait_s=60)
    assert url is not None
    assert url.startswith(str(remote.mlflow_uri))
    assert tracker.run_id() in url
    assert httpx.get(url).status_code == 200
    assert tracker.close("FINISHED", wait_s=60)
