"""The model registry: versions by alias, number or digest, and the aliases that say which one counts.

In: a site and a registered name. Out: frozen values. Invariants: a version is known by the digest of the checkpoint it holds
(tag `textmill.digest`); reading never makes anything.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import filelock

from tasks.core.site import Site
from tasks.core.text import text_safe
from tasks.core.tracking.client import answering, is_missing, mlflow_client

DIGEST = "textmill.digest"
BASE_DIGEST = "textmill.base_digest"
CORPUS_DIGEST = "textmill.corpus_digest"
ROLLED_BACK = "textmill.rolled_back"
BASES = "textmill-bases"  # the registered model whose versions are the bases of adapters

_PAGE_MODELS = 1_000


@dataclass(frozen=True, slots=True)
class RegisteredVersion:
    """A version in the registry.

    Attributes:
        digest: Digest of the checkpoint it holds.
        source: Where MLflow keeps its files.
        aliases: Aliases that point at it.
    """

    name: str
    version: int
    digest: str | None
    run_id: str | None
    source: str
    tags: dict[str, str] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()

    @property
    def rolled_back(self) -> str | None:
        """Why it was taken back, if it was; it is never promoted again by a run."""
        return self.tags.get(ROLLED_BACK)

    @property
    def corpus_digest(self) -> str | None:
        """Digest of the corpus that its model was made from."""
        return self.tags.get(CORPUS_DIGEST)

    @property
    def uri(self) -> str:
        """Address for `mlflow.pyfunc.load_model`."""
        return f"models:/{self.name}/{self.version}"

    def __str__(self) -> str:
        return f"{self.name} version {self.version}"


def champion(site: Site, name: str) -> RegisteredVersion | None:
    """Returns the version the alias `champion` points at."""
    return find_alias(site, name, "champion")


def find_alias(site: Site, name: str, alias: str) -> RegisteredVersion | None:
    """Returns the version an alias points at, or None where there is no such model or alias."""
    number = aliases(site, name).get(alias)
    return find_version(site, name, number) if number is not None else None


def aliases(site: Site, name: str) -> dict[str, int]:
    """Returns the aliases of a model and the versions they point at; none where there is no such model."""
    with answering(site):
        try:
            model = mlflow_client(site).get_registered_model(name)
        except Exception as error:
            if is_missing(error):
                return {}
            raise
    return {alias: int(number) for alias, number in model.aliases.items()}


def find_version(site: Site, name: str, number: int) -> RegisteredVersion | None:
    """Returns a version by its number."""
    with answering(site):
        try:
            return _version(mlflow_client(site).get_model_version(name, str(number)))
        except Exception as error:
            if is_missing(error):
                return None
            raise


def versions(site: Site, name: str) -> list[RegisteredVersion]:
    """Returns all versions of a model, the oldest first."""
    with answering(site):
        client, found, token = mlflow_client(site), [], None
        while token != "":
            page = client.search_model_versions(f"name = '{_quoted(name)}'", page_token=token)
            found += [_version(entity) for entity in page]
            token = page.token or ""
    by_alias: dict[int, list[str]] = {}
    for alias, number in aliases(site, name).items():  # a search does not say them
        by_alias.setdefault(number, []).append(alias)
    found.sort(key=lambda version: version.version)
    return [replace(version, aliases=tuple(sorted(by_alias.get(version.version, ())))) for version in found]


def version_by_digest(site: Site, name: str, digest: str) -> RegisteredVersion | None:
    """Returns the version that holds a checkpoint of this digest; the oldest where there are several."""
    return next((version for version in versions(site, name) if version.digest == digest), None)


def last_with_corpus(site: Site, name: str) -> RegisteredVersion | None:
    """Returns the newest version that names the corpus its model was made from."""
    return next((version for version in reversed(versions(site, name)) if version.corpus_digest), None)


def aliased_digests(site: Site) -> set[str]:
    """Returns the digests of all checkpoints that any alias of any model points at: what a clean-up must keep."""
    with answering(site):
        names = list(_model_names(site))
    found = {version.digest for name in names for version in versions(site, name) if version.aliases}
    return {digest for digest in found if digest}


def _model_names(site: Site) -> Iterator[str]:
    page = None
    while page is None or page.token:
        page = mlflow_client(site).search_registered_models(max_results=_PAGE_MODELS, page_token=page and page.token)
        yield from (model.name for model in page)


@contextmanager
def moving_aliases(site: Site, name: str) -> Iterator[None]:
    """Holds the right to move a name's aliases, which one process of a state folder has at a time."""
    path = site.root / "serving" / f"{name}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with filelock.UnixFileLock(path):
        yield


def set_alias(site: Site, version: RegisteredVersion, alias: str) -> None:
    """Points an alias at a version."""
    with answering(site):
        mlflow_client(site).set_registered_model_alias(version.name, alias, str(version.version))


def delete_alias(site: Site, name: str, alias: str) -> None:
    """Removes an alias, if it is there."""
    with answering(site):
        mlflow_client(site).delete_registered_model_alias(name, alias)


def set_tags(site: Site, version: RegisteredVersion, tags: dict[str, str]) -> None:
    """Sets those tags of a version that differ."""
    with answering(site):
        for key, value in tags.items():
            if version.tags.get(key) != (clean := text_safe(value, 5_000)):
                mlflow_client(site).set_model_version_tag(version.name, str(version.version), key, clean)


def delete_tag(site: Site, version: RegisteredVersion, key: str) -> None:
    """Removes a tag of a version, if it is there."""
    if key in version.tags:
        with answering(site):
            mlflow_client(site).delete_model_version_tag(version.name, str(version.version), key)


def _version(entity: Any) -> RegisteredVersion:
    tags = dict(entity.tags)
    return RegisteredVersion(
        name=entity.name,
        version=int(entity.version),
        digest=tags.get(DIGEST),
        run_id=entity.run_id,
        source=entity.source,
        tags=tags,
        aliases=tuple(sorted(entity.aliases or ())),
    )


def _quoted(name: str) -> str:
    return name.replace("'", "''")
