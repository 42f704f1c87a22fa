"""A `textmill ui` for the tests of a file, on what one run of the chain left."""

import shutil
from collections.abc import Iterator

import pytest

from tests.chain import ChainRun
from tests.running_ui import RunningUi, serving_ui


@pytest.fixture(scope="module")
def ui(chain: ChainRun, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningUi]:
    """`textmill ui` on a copy of the state that one run of the chain left."""
    state = tmp_path_factory.mktemp("ui") / ".textmill"
    shutil.copytree(chain.state, state)
    with serving_ui(state) as running:
        yield running
