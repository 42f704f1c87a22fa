"""What the translating child is told, and what it leaves behind.

In: texts and two models. Out: a `TranslateJob` that crosses as JSON, and translations read back. Nothing here imports torch.
"""

import json
from pathlib import Path

from pydantic import BaseModel, ConfigDict


class TranslatorJob(BaseModel):
    """Which model, and how it is told what to do."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    folder: Path
    prefix: str
    is_chat: bool


class TranslateJob(BaseModel):
    """Which texts go where, and how."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    texts: list[str]
    out: Path
    device: str
    there: TranslatorJob
    back: TranslatorJob
    copies: int
    num_beams: int
    max_tokens: int
    batch: int


def read_translations(path: Path) -> list[list[str | None]]:
    """Returns what came back of each text, best first, none where it was too long, or became so; the file is removed."""
    found: list[list[str | None]] = json.loads(path.read_text(encoding="utf-8"))
    path.unlink()
    return found
