"""The peak learning rate of a tuning where the recipe sets none, and what a set one is measured against.

In: a method and the base's own peak. Out: a rate, or a warning. Rule, stated here once: methods that move the base's weights
take 0.15 of the peak that the base was first trained at, the middle of the usual 1/10 to 1/5; where Muon trained it, of the peak
that AdamW would have had (`tasks.modeling.scaling.peak_of`). Methods of few weights have a rate of their own.
"""

from collections.abc import Mapping
from typing import Any, Protocol, Self, TypeVar

from tasks.core.errors import RecipeError
from tasks.modeling import scaling
from tasks.modeling.scaling import HIGH_SHARE, LOW_SHARE
from tasks.modeling.specs import AdamWSpec, MuonSpec
from tasks.tuning.prepared import Method

_DEFAULT = 0.15


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


def matrix_rate_warning(method: Method, optim: AdamWSpec | MuonSpec, *, where: str = "tune") -> str | None:
    """Says where a method that moves the base's matrices lets Muon do so at a rate of pretraining.

    Args:
        method: What is trained.
        optim: How it moves.
        where: The part of the recipe that asks for it.
    """
    return None if method.own_rate is not None else scaling.matrix_rate_warning(optim, where)


def rate_warning(method: Method, set_rate: float | None, base_rate: float | None) -> str | None:
    """Says where a set rate lies outside of what is usual for a method that moves the base's weights."""
    if set_rate is None or not base_rate or method.own_rate is not None:
        return None
    share = set_rate / base_rate
    if LOW_SHARE * (1 - 1e-9) <= share <= HIGH_SHARE * (1 + 1e-9):
        return None
    lowest, default, highest = (f"{part * base_rate:.3g}" for part in (LOW_SHARE, _DEFAULT, HIGH_SHARE))
    return (
        f"tune.optim.learning_rate {set_rate:g} is {share:.3g} of the base's peak by AdamW, {base_rate:.3g}; usual is "
        f"{LOW_SHARE:g} to {HIGH_SHARE:g} ({lowest} to {highest}), and off takes {default}"
    )
