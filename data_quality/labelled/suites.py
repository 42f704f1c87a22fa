"""What is asked of labelled data: a suite of checks, and the search for labels that look wrong.

In: fields of a recipe, and a task. Out: rules, each an expectation of Great Expectations over one table. Invariant: every task
has rules; which sections of the suite are asked hangs on what the task has.
"""

from math import erfc, sqrt
from typing import Annotated, ClassVar

from pydantic import Field

from data_quality.checks import LabelledPart
from data_quality.rules import Rule
from data_quality.suite import LABELLED, Suites, SuiteSpec
from tasks.contracts import LabelledTask
from tasks.core.artifact import Spec


class SuspectsSpec(Spec):
    """Labels that look wrong: those to which a simple model, trained on the other items, gives little probability."""

    folds: Annotated[int, Field(ge=2, le=20, description="Parts; each one is judged by a model of the others.")] = 5
    probability: Annotated[
        float, Field(gt=0, lt=1, description="A given label, or tag of a word, with less probability than this is suspect.")
    ] = 0.1
    deviations: Annotated[
        float,
        Field(gt=0, description="Regression: a score so many standard deviations (robust) off from the model's is suspect."),
    ] = 4.0
    max_items: Annotated[int, Field(ge=10, description="Most items judged, of tagged text words, by the hash of the ids.")] = (
        20_000
    )
    max_chars: Annotated[int, Field(ge=16, description="Characters of an input that the model reads.")] = 1_000
    num_listed: Annotated[int, Field(ge=1, description="Most suspect labels that are listed in suspects.parquet.")] = 200

    def below(self, task: LabelledTask) -> float:
        """Returns the probability below which a label is suspect; of a score, that of being so far off either way."""
        return erfc(self.deviations / sqrt(2)) if task == "regression" else self.probability


class CheckLabelledSpec(SuiteSpec):
    """Which checks labelled data must pass (suite: default). Critical ones stop the run, warnings mark the model."""

    of: ClassVar[Suites] = LABELLED

    suspects: Annotated[SuspectsSpec | None, Field(description="Search for labels that look wrong; off: none.")] = SuspectsSpec()


def rules_for(spec: CheckLabelledSpec, task: LabelledTask) -> list[Rule]:
    """Returns the rules for a task."""
    asked: set[LabelledPart] = {"any_task", "scores" if task == "regression" else "labels"}
    if spec.suspects is not None:
        asked |= {"suspects", "one_label"} if task == "classification" else {"suspects"}
    checks = spec.read() if spec.checks is None else spec.checks
    return [check.rule({}) for check in checks if check.artifact in asked]
