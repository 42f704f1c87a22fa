"""What the converting child is told, and what it leaves behind.

In: where a base lies. Out: a `ConvertJob` that crosses as JSON, and `Converted` read back. Nothing here imports torch.
"""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from tasks.modeling.roles import ChatTemplate

RESULT_NAME = "base.json"


class ConvertJob(BaseModel):
    """Which files, and the folder of the artifact that is being made."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: Path
    gguf: str | None
    weights: Literal["fp32", "bf16"]
    chat_template: ChatTemplate
    dir: Path


class Converted(BaseModel):
    """What the base is.

    Attributes:
        context_tokens: Positions it was made for; none where it counts none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    architecture: str
    num_parameters: int
    context_tokens: int | None
