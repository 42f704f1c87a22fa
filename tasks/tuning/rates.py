"""The peak learning rate of a tuning where the recipe sets none, and what a set one is measured against.

In: a method and the base's own peak. Out: a rate, or a warning. Rule, stated here once: methods that move the base's weights
take 0.15 of the peak that the base was trained at, the middle of the usual 1/10 to 1/5; where Muon trained it, of the peak that
AdamW would have had (`tasks.modeling.scaling`). Methods of few weights have a rate of their own.
"""

from collections.abc import Mapping
from typing import Any, Protocol, Self, TypeVar

from tasks.core.errors import RecipeError
from tasks.core.store import Manifest
from tasks.modeling.scaling import adamw_peak
from tasks.modeling.specs import AdamWSpec, MuonSpec
from tasks.tuning.prepared import Method

_LOW, _DEFAULT, _HIGH = 0.1, 0.15, 0.2


class Tuning(Protocol):
    """A spec with a method and an optimiser."""

    @property
    def method(self) -> Method:
        """What is trained."""

    @property
    def optim(self) -> AdamWSpec | MuonSpec:
        """How it moves."""

    def model_copy(self, *, update: Mapping[str, Any] | None = None) -> Self:
        """Returns the same with some fields changed."""


S = TypeVar("S", bound=Tuning)


def peak_of(base: Manifest) -> float | None:
    """Returns the peak learning rate of a checkpoint's training, as its manifest records it; none of one that others made."""
    if base.facts.get("method") == "adopted":
        return None
    figures, optim = base.facts.get("figures", {}), base.spec.get("optim", {})
    recorded = figures.get("learning_rate") or optim.get("learning_rate")
    return adamw_peak(optim.get("kind", "adamw"), None if recorded is None else float(recorded), figures.get("hidden_flops"))


def peak_rate(method: Method, set_rate: float | None, base_rate: float | None) -> float:
    """Returns the peak learning rate of a tuning.

    Raises:
        RecipeError: Neither recipe nor base says any.
    """
    if set_rate is not None:
        return set_rate
    if method.own_rate is not None:
        return method.own_rate
    if not base_rate:
        raise RecipeError("the base records no peak learning rate to derive the tuning's from; set tune.optim.learning_rate")
    return _DEFAULT * base_rate


def with_rate(spec: S, base_rate: float | None) -> S:
    """Returns a tuning's spec with the peak learning rate derived where none is set.

    Raises:
        RecipeError: Neither recipe nor base says any.
    """
    rate = peak_rate(spec.method, spec.optim.learning_rate, base_rate)
    return spec.model_copy(update={"optim": spec.optim.model_copy(update={"learning_rate": rate})})


def matrix_rate_warning(method: Method, optim: AdamWSpec | MuonSpec) -> str | None:
    """Says where Muon moves the base's matrices at a rate of pretraining: it has one of its own, which no rule derives."""
    if not isinstance(optim, MuonSpec) or method.own_rate is not None:
        return None
    usual: float = MuonSpec.model_fields["matrix_learning_rate"].default
    if optim.matrix_learning_rate <= _HIGH * usual * (1 + 1e-9):
        return None
    lowest, highest = (f"{part * usual:.3g}" for part in (_LOW, _HIGH))
    return (
        f"tune.optim.matrix_learning_rate {optim.matrix_learning_rate:g} is a rate of pretraining, and what hidden matrices are "
        f"tuned by, whatever tune.optim.learning_rate says; {lowest} to {highest} is {_LOW:g} to {_HIGH:g} of pretraining's"
    )


def rate_warning(method: Method, set_rate: float | None, base_rate: float | None) -> str | None:
    """Says where a set rate lies outside of what is usual for a method that moves the base's weights."""
    if set_rate is None or not base_rate or method.own_rate is not None:
        return None
    share = set_rate / base_rate
    if _LOW * (1 - 1e-9) <= share <= _HIGH * (1 + 1e-9):
        return None
    lowest, default, highest = (f"{part * base_rate:.3g}" for part in (_LOW, _DEFAULT, _HIGH))
    return (
        f"tune.optim.learning_rate {set_rate:g} is {share:.3g} of the base's peak by AdamW, {base_rate:.3g}; usual is "
        f"{_LOW:g} to {_HIGH:g} ({lowest} to {highest}), and off takes {default}"
    )
