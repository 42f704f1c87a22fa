"""Fixtures of the registry's tests: MLflow's tables are made once, making them takes a second."""

import shutil
from pathlib import Path

import pytest

from tasks.core.site import Site
from tasks.core.tracking.client import experiment_id


@pytest.fixture(scope="session")
def empty_mlflow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    site = Site(state_dir=tmp_path_factory.mktemp("mlflow"))
    experiment_id(site, "to make the tables")
    return site.root / "mlflow.db"


@pytest.fixture(autouse=True)
def _mlflow_tables(site: Site, empty_mlflow: Path) -> None:
    site.root.mkdir(parents=True, exist_ok=True)
    shutil.copy(empty_mlflow, site.root / "mlflow.db")
