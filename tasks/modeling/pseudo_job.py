"""What the child that guesses labels is told, and what it leaves behind.

In: texts and a model. Out: a `PseudoJob` that crosses as JSON, and guesses read back. Nothing here imports torch.
"""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, TypeAdapter


class PseudoJob(BaseModel):
    """Which texts, and by which model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    texts: Path
    model_dir: Path
    out: Path
    device: str


class Guess(BaseModel):
    """What a model says of a text, and the least probability that it gives any part of that."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    labels: tuple[str, ...]
    confidence: float


GUESSES: TypeAdapter[list[Guess]] = TypeAdapter(list[Guess])


def read_guesses(path: Path) -> list[Guess]:
    """Returns the guesses in the order of the texts; the file is removed."""
    found = GUESSES.validate_json(path.read_bytes())
    path.unlink()
    return found
