"""The way to MLflow: one client per address, short patience, errors in our own words.

In: the site. Out: an `MlflowClient` and the experiment's id. Invariants: MLflow is imported here, inside functions; no global
state of MLflow is used (its active run is thread-local), every call names its run.
"""

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING

import filelock

from tasks.core.errors import RecipeError, StageError, TransientError
from tasks.core.site import Site, service_environment

if TYPE_CHECKING:
    from mlflow import MlflowClient

EXPERIMENT = "textmill"
# By itself MLflow tries 8 times for 120 s each: a dead server would hold a call for minutes.
_HTTP = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
}
_OUR_FAULT = ("INVALID_PARAMETER_VALUE", "BAD_REQUEST", "MALFORMED_REQUEST", "ENDPOINT_NOT_FOUND", "NOT_IMPLEMENTED")
_NOT_LET_IN = ("UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED", "PERMISSION_DENIED")


def mlflow_client(site: Site) -> "MlflowClient":
    """Returns the client of the site's MLflow."""
    for name, value in (_HTTP | service_environment(site)).items():
        if name.startswith("MLFLOW_"):
            os.environ[name] = os.environ.get(name, value) if name in _HTTP else value
    make_database(site)
    return _client(site.tracking_uri)


def make_database(site: Site) -> None:
    """Makes the site's own database, where it has one, whole or not at all.

    MLflow makes it in some sixty steps that are not one transaction: killed between them, it could never open it again.
    """
    path = site.root / "mlflow.db"
    if site.mlflow_uri is not None or path.exists():
        return
    partial = site.root / "cache" / "mlflow.partial"
    partial.parent.mkdir(parents=True, exist_ok=True)
    with filelock.UnixFileLock(partial.with_suffix(".lock")):
        if path.exists():
            return
        for left in partial.parent.glob(f"{partial.name}*"):
            left.unlink()
        _client(f"sqlite:///{partial}")
        partial.replace(path)


@lru_cache
def _client(uri: str) -> "MlflowClient":
    from mlflow import MlflowClient

    for name in ("mlflow", "alembic"):  # table creation is told line by line
        logging.getLogger(name).setLevel(logging.WARNING)
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def shown(text: str, instead: str = "***@") -> str:
    """Returns an address, or a text with addresses, without the users and passwords in it."""
    return re.sub(r"//[^/\s]*@", f"//{instead}", text)


def is_missing(error: Exception) -> bool:
    """Whether MLflow says that what was asked for is not there."""
    code = getattr(error, "error_code", "")
    return code == "RESOURCE_DOES_NOT_EXIST" or (code == "INVALID_PARAMETER_VALUE" and "not found" in str(error))


def is_refusal(error: Exception) -> bool:
    """Whether MLflow answered and trying again would not help."""
    return is_missing(error) or getattr(error, "error_code", "") in _OUR_FAULT


@contextmanager
def answering(site: Site) -> Iterator[None]:
    """Turns what MLflow raises into our errors.

    Raises:
        TransientError: MLflow did not answer.
        RecipeError: It did not let us in.
        StageError: It refused what was asked.
    """
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        if getattr(error, "error_code", "") in _NOT_LET_IN:
            raise RecipeError(
                f"MLflow at {shown(site.tracking_uri)} did not let us in ({_first_line(error)}). Correct its credentials: "
                "mlflow_token in textmill.toml or TEXTMILL_MLFLOW_TOKEN, or user and password in mlflow_uri; what is built stays."
            ) from error
        if is_refusal(error):
            raise StageError(f"MLflow at {shown(site.tracking_uri)} refused: {shown(str(error))}") from error
        raise TransientError(
            f"MLflow at {shown(site.tracking_uri)} does not answer ({_first_line(error)}). Start it (`textmill ui`), or correct "
            "mlflow_uri in textmill.toml or TEXTMILL_MLFLOW_URI; what is built stays, run again afterwards."
        ) from error


def _first_line(error: Exception) -> str:
    return shown((str(error).splitlines() or [type(error).__name__])[0])[:300]


def experiment_id(site: Site, name: str = EXPERIMENT) -> str:
    """Returns the id of the experiment, made where it is missing."""
    from mlflow.exceptions import MlflowException

    client = mlflow_client(site)
    if (found := client.get_experiment_by_name(name)) is not None:
        return str(found.experiment_id)
    # Beside SQLite, artifacts would go to the working folder of whoever comes first; a server knows its own place.
    location = (site.root / "mlartifacts").as_uri() if site.mlflow_uri is None else None
    try:
        return str(client.create_experiment(name, artifact_location=location))
    except MlflowException as error:
        if getattr(error, "error_code", "") != "RESOURCE_ALREADY_EXISTS":
            raise
        return str(client.get_experiment_by_name(name).experiment_id)
