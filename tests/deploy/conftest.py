"""Fixtures of the roll-out's tests: those of the registry, and two registered versions."""

import pytest

from tasks.contracts import ModelVersion
from tasks.core.site import Site
from tests.registry.conftest import _mlflow_tables, empty_mlflow  # noqa: F401 fixtures
from tests.registry.kit import Chain, make_chain, register


@pytest.fixture
def first(site: Site, _mlflow_tables: None) -> tuple[ModelVersion, Chain]:  # noqa: F811
    chain = make_chain(site, seed=1)
    return register(site, chain).artifact, chain


@pytest.fixture
def second(site: Site, first: tuple[ModelVersion, Chain]) -> tuple[ModelVersion, Chain]:
    chain = make_chain(site, seed=2)
    return register(site, chain).artifact, chain
