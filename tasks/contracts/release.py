"""A model in the registry and behind a server."""

from typing import Annotated

from pydantic import Field

from tasks.core.artifact import Artifact


class ModelVersion(Artifact):
    """A registered version: `version.json`, `card.md`.

    Attributes:
        is_champion: The alias `champion` points at it.
        run_id: MLflow run that holds its reports.
    """

    name: str
    version: Annotated[int, Field(ge=1)]
    model_digest: str
    is_champion: bool
    run_id: str

    def summary(self) -> str:
        """One line for a person."""
        return f"{self.name} version {self.version}" + (" (champion)" if self.is_champion else " (candidate)")


class Deployment(Artifact):
    """What was rolled out: `answers.json` (prompts and the served model's greedy answers), `deployment.json`.

    Attributes:
        engine: Program that served it.
    """

    name: str
    version: Annotated[int, Field(ge=1)]
    model_digest: str
    engine: str
    num_checks: Annotated[int, Field(ge=1)]

    def summary(self) -> str:
        """One line for a person."""
        return f"{self.name} version {self.version} is live ({self.engine}, {self.num_checks} checks)"
