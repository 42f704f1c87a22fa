"""The way to MLflow: one client per address, short patience, errors in our own words.

In: the site. Out: an `MlflowClient` and the experiment's id. Invariants: MLflow is imported here, inside functions; no global
state of MLflow is used (its active run is thread-local), every call names its run.
"""

import logging
import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import lru_cache
from pathlib import Path
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
_DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
_SAY_WHERE_FILES_LIE = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "storage_location"),
)
_NOT_LET_IN = ("UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED", "PERMISSION_DENIED")


def mlflow_client(site: Site) -> "MlflowClient":
    """Returns the client of the site's MLflow."""
    for name, value in (_HTTP | service_environment(site)).items():
        if name.startswith("MLFLOW_"):
            os.environ[name] = os.environ.get(name, value) if name in _HTTP else value
    make_database(site)
    return _client(site.tracking_uri)


def make_database(site: Site) -> None:
    """Makes the site's own database, where it has one, whole or not at all; one that came with a moved folder is of this folder.

    MLflow makes it in some sixty steps that are not one transaction: killed between them, it could never open it again.
    """
    path = site.root / "mlflow.db"
    if site.mlflow_uri is not None:
        return
    if not path.exists():
        with _making_database(site.root) as partial:
            if not path.exists():
                for left in partial.parent.glob(f"{partial.name}*"):
                    left.unlink()
                _client(f"sqlite:///{partial}")
                partial.replace(path)
    _settle(site.root)


@contextmanager
def _making_database(root: Path) -> Iterator[Path]:
    """Lets one process at a time make or change the database; yields where it is made."""
    partial = root / "cache" / "mlflow.partial"
    partial.parent.mkdir(parents=True, exist_ok=True)
    with filelock.UnixFileLock(partial.with_suffix(".lock")):
        yield partial


@lru_cache
def _settle(root: Path) -> None:
    """Points the database at the files of its own state folder: MLflow notes absolute paths, and a folder is moved or copied."""
    new = _artifacts(root)
    with _making_database(root), closing(sqlite3.connect(root / "mlflow.db", timeout=60)) as database, database:
        found = database.execute("SELECT artifact_location FROM experiments WHERE name = ?", (EXPERIMENT,)).fetchone()
        old = found[0] if found else new
        if old == new or not re.fullmatch("file:.*/mlartifacts", old):  # a server was asked to keep them
            return
        for table, column in _SAY_WHERE_FILES_LIE:
            database.execute(
                f"UPDATE {table} SET {column} = :new || substr({column}, length(:old) + 1) "
                f"WHERE substr({column}, 1, length(:old)) = :old",
                {"old": old, "new": new},
            )


def _artifacts(root: Path) -> str:
    return (root / "mlartifacts").as_uri()


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
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except SQLAlchemyError as error:  # as it comes from a database that cannot be opened
        raise _no_answer(site, error) from error
    except MlflowException as error:
        if getattr(error, "error_code", "") in _NOT_LET_IN:
            raise RecipeError(
                f"MLflow at {shown(site.tracking_uri)} did not let us in ({_first_line(error)}). Correct its credentials: "
                "mlflow_token in textmill.toml or TEXTMILL_MLFLOW_TOKEN, or user and password in mlflow_uri; what is built stays."
            ) from error
        if is_refusal(error):
            raise StageError(f"MLflow at {shown(site.tracking_uri)} refused: {shown(str(error))}") from error
        raise _no_answer(site, error) from error


def _no_answer(site: Site, error: Exception) -> TransientError:
    return TransientError(
        f"MLflow at {shown(site.tracking_uri)} does not answer ({_first_line(error)}). Start it (`textmill ui`), or correct "
        "mlflow_uri in textmill.toml or TEXTMILL_MLFLOW_URI; what is built stays, run again afterwards."
    )


def _first_line(error: Exception) -> str:
    return shown((str(error).splitlines() or [type(error).__name__])[0])[:300]


def experiment_id(site: Site, name: str = EXPERIMENT) -> str:
    """Returns the id of the experiment, made where it is missing, and brought back where it was deleted."""
    from mlflow.exceptions import MlflowException

    client = mlflow_client(site)
    if (found := client.get_experiment_by_name(name)) is not None:
        if found.lifecycle_stage == "deleted":  # it keeps its name, and takes no run
            client.restore_experiment(found.experiment_id)
        return str(found.experiment_id)
    # Beside a database, artifacts would go to the working folder of whoever comes first; a server knows its own place.
    location = _artifacts(site.root) if site.tracking_uri.startswith(_DATABASES) else None
    try:
        return str(client.create_experiment(name, artifact_location=location))
    except MlflowException as error:
        if getattr(error, "error_code", "") != "RESOURCE_ALREADY_EXISTS":
            raise
        return str(client.get_experiment_by_name(name).experiment_id)
