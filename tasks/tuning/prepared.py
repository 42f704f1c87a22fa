"""What every tuning method is, and what it makes of a base model.

In: nothing. Out: `Method`, `Prepared`. Invariants: a method says only how it differs; the loop trains whatever weights want a
gradient, as the plan says.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from tasks.core.artifact import Spec
from tasks.core.site import Site
from tasks.modeling.plan import WeightPlan


@dataclass(frozen=True, slots=True)
class Prepared:
    """A model ready to be trained, and how it becomes a plain model again.

    Attributes:
        model: A causal model of `transformers`; what is to be trained requires a gradient.
        finish: Given a folder that is not there yet, writes into it what the method keeps beside the weights, if anything, and
            returns the plain model; none where the method has no plain form.
        plan: Which weights learn how fast, and when.
        notes: What a reader of the log should know, one line each.
    """

    model: Any
    finish: Callable[[Path], Any | None]
    plan: WeightPlan = field(default_factory=WeightPlan)
    notes: tuple[str, ...] = ()


class Method(Spec):
    """A tuning method.

    Attributes:
        own_rate: Peak learning rate where the recipe sets none; none: by the base's peak (see `tasks.tuning.rates`).
        has_plain_form: Whether the tuned model is a plain `transformers` folder, which servers load.
    """

    own_rate: ClassVar[float | None] = None
    has_plain_form: ClassVar[bool] = True

    @property
    def num_virtual(self) -> int:
        """Positions of the base's context that it takes for itself."""
        return 0

    def check_model(self, model: Any) -> None:
        """Raises RecipeError where this base cannot be tuned so, as far as that is seen before anything is read."""

    def check_site(self, site: Site) -> None:
        """Raises RecipeError where this machine cannot do it; asked before any work."""

    def load(self, folder: Path) -> Any:
        """Loads the base."""
        from tasks.modeling.model import load_model

        return load_model(folder)

    def prepare(self, model: Any, seed: int) -> Prepared:
        """Returns what is trained.

        Raises:
            RecipeError: The method does not fit this base; the message says what does.
        """
        raise NotImplementedError


def unchanged(model: Any) -> Callable[[Path], Any]:
    """Returns the end of a method that keeps nothing beside the weights."""

    def finish(folder: Path) -> Any:
        return model

    return finish


def train_only(model: Any, names: set[str]) -> None:
    """Lets the named weights want a gradient, and no others."""
    for name, weight in model.named_parameters():
        weight.requires_grad_(name in names)
