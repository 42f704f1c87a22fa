"""Fixtures shared by all tests: a site of one's own, a Prefect server a session, the shared data."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # a worker a core: two threads each would wait for one another

from tasks.core.site import Site, current_site, service_environment
from tests.chain import ChainRun, textmill

# A suite in the background inherits Ctrl-C ignored, and so would what it starts.
signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parents[1]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Lets the shared run of the chain begin first; other files that look at it come last, when it is there."""
    looking = {item.path for item in items if "chain" in getattr(item, "fixturenames", ())}
    items.sort(key=lambda item: (item.path in looking) * (-1 if item.path.name == "test_pipeline.py" else 1))


@pytest.fixture(scope="session", autouse=True)
def _own_state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keeps every test off the state folder of the checkout, and every service off the network."""
    state = tmp_path_factory.mktemp("state") / ".textmill"
    before = dict(os.environ)
    os.environ["TEXTMILL_STATE_DIR"] = str(state)
    os.environ["TEXTMILL_RETRY_DELAY_S"] = "0.1"
    current_site.cache_clear()
    os.environ.update(service_environment(current_site()))
    yield
    os.environ.clear()
    os.environ.update(before)
    current_site.cache_clear()


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """A site with an empty state folder, also the current one."""
    monkeypatch.setenv("TEXTMILL_STATE_DIR", str(tmp_path / ".textmill"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / '.textmill' / 'mlflow.db'}")
    current_site.cache_clear()
    yield current_site()
    current_site.cache_clear()


@pytest.fixture(scope="session")
def prefect_api(_own_state: None) -> Iterator[str]:
    """The address of a real Prefect server, one a session."""
    from flows.servers import prefect_api, wait_for_prefect

    with prefect_api(current_site()) as url:
        wait_for_prefect(url)
        yield url


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of the real corpora and test sets; skips where it is absent."""
    folder = Path(os.environ.get("TEXTMILL_SHARED_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no shared data at {folder}; set TEXTMILL_SHARED_DATA")
    return folder


@pytest.fixture(scope="session")
def chain(tmp_path_factory: pytest.TempPathFactory) -> ChainRun:
    """One run of the whole chain from preset `ci`, shared by every test that looks at it.

    TEXTMILL_TEST_CHAIN names a folder that keeps the run for further sessions on the same source.
    """
    kept = os.environ.get("TEXTMILL_TEST_CHAIN")
    folder = Path(kept) if kept else session_folder(tmp_path_factory) / "chain"
    state, output = folder / ".textmill", folder / "output.txt"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "lock"):  # the first worker that needs it makes it, the others wait
        if output.exists():
            return ChainRun(state, 0, output.read_text(encoding="utf-8"))
        run = textmill(state, "run", "ci", TEXTMILL_RETRY_DELAY_S="0.5")
        assert run.code == 0, run.output
        output.write_text(run.output, encoding="utf-8")
        return run


def session_folder(factory: pytest.TempPathFactory) -> Path:
    """A folder that all workers of this session share."""
    own = factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
