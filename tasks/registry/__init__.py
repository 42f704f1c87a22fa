"""The registry as stages: which model is champion, and a new version with its card, tags and aliases.

In: the tuned model with what was found out about it. Out: a `Champion` to compare with, a `ModelVersion`. Invariants: both are
effects, reconciled with the registry and idempotent by the model's digest; MLflow must answer here and nowhere else.
"""

from tasks.registry.champion import ChampionSpec, resolve_champion
from tasks.registry.labelled import RegisterLabelledSpec, register_labelled
from tasks.registry.register import RegisterSpec, register_model

__all__ = ["ChampionSpec", "RegisterLabelledSpec", "RegisterSpec", "register_labelled", "register_model", "resolve_champion"]
