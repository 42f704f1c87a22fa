"""The hash of a stage's code follows imports and what a child is told to run, and passes over words about the code."""

import pytest

from tasks.core import source
from tasks.core.source import code_hash


def reached(module: str) -> set[str]:
    seen: set[str] = set()
    source._collect(module, seen)
    return seen


def test_what_a_child_runs_belongs_to_the_stage() -> None:
    assert {"tasks.pretrain", "tasks.modeling.train", "tasks.modeling.loop", "tasks.modeling.optim"} <= reached("tasks.pretrain")
    assert "tasks.tuning.train" in reached("tasks.tuning")


def test_core_and_other_people_s_modules_stand_apart() -> None:
    assert {name for name in reached("tasks.pretrain") if name.startswith(("tasks.core", "pydantic", "torch"))} == set()


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("x = 1  # why", "x = 1", True),
        ('def f():\n    """Words."""\n    return 1', 'def f():\n    """Other words."""\n    return 1', True),
        ("x = 1", "x = 2", False),
    ],
)
def test_only_code_counts(one: str, other: str, same: bool) -> None:
    assert (source._read(one) == source._read(other)) is same


def test_the_hash_is_stable() -> None:
    assert code_hash("tasks.pretrain") == code_hash("tasks.pretrain")
