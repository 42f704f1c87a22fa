"""What a tuning method makes of a base model.

In: nothing. Out: `Prepared`. Invariant: the loop trains whatever weights want a gradient.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Prepared:
    """A model ready to be trained, and how it becomes a plain model again.

    Attributes:
        model: A causal model of `transformers`; what is to be trained requires a gradient.
        finish: Given the artifact's folder, writes what the method keeps beside the model and returns the plain model.
    """

    model: Any
    finish: Callable[[Path], Any]
