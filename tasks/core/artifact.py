"""The two values the pipeline is made of: a `Spec` says what to make, an `Artifact` says what was made.

In: fields. Out: frozen, validated values that cross files, Prefect and the store. Invariant: an artifact holds no live
object, only where it lies, how it was made (`fingerprint`), what its bytes are (`digest`) and typed facts.
"""

import re
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, WithJsonSchema

from tasks.core.site import Site

MANIFEST_NAME = "manifest.json"
EXTRA_DIR = "extra"  # plots, logs, timings: kept and checked, but not part of the digest

# A member of a list whose members are of several kinds: the form of the Prefect UI mixes their fields, so it shows them as JSON.
AS_JSON = WithJsonSchema({"type": "object"})


def _in_order(schema: dict[str, Any]) -> None:
    """Numbers a schema's fields, so that the form in the Prefect UI shows them as they are defined."""
    for position, field in enumerate(schema.get("properties", {}).values()):
        field["position"] = position


class Part(BaseModel):
    """A part of a recipe: frozen, strict about names, its fields in order in the form."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, json_schema_extra=_in_order)


class Spec(Part):
    """What a stage is asked to make. Everything in it is identity, nothing is execution."""

    def pinned(self, site: Site) -> Self:
        """Returns the spec with what depends on the machine or on files' contents made definite."""
        return self

    def identity(self) -> dict[str, Any]:
        """Returns the part that enters the fingerprint."""
        return self.model_dump(mode="json")


class Artifact(BaseModel):
    """A committed folder of the store.

    Attributes:
        uri: Folder that holds the files.
        fingerprint: sha256 of how it was made.
        digest: sha256 of what the bytes are, files under `extra/` apart.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    schema_version: ClassVar[int] = 1

    uri: str
    fingerprint: str
    digest: str

    @classmethod
    def kind(cls) -> str:
        """Name of the kind: `CleanCorpus` is `clean-corpus`."""
        return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", cls.__name__).lower()

    @property
    def path(self) -> Path:
        """Folder of the artifact."""
        return Path(self.uri)

    @property
    def address(self) -> str:
        """Short name in the store, as `textmill show` takes it."""
        return f"{self.kind()}/{self.fingerprint[:12]}"

    def facts(self) -> dict[str, Any]:
        """Returns the typed facts as plain JSON values."""
        return self.model_dump(mode="json", exclude={"uri", "fingerprint", "digest"})

    def summary(self) -> str:
        """One line for a person; each kind says what matters about it."""
        return ""
