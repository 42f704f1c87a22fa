"""Suites: the quality rules of labelled data, by what its task has.

In: settings and a task. Out: rules, each an expectation of Great Expectations over one table. Invariant: every task has rules;
adding one is one function and one line in a list below.
"""

from collections.abc import Callable
from typing import Annotated

from pydantic import Field

from data_quality.rules import Rule, at_least, at_most, mostly
from tasks.contracts import LabelledTask
from tasks.core.artifact import Spec

Share = Annotated[float, Field(ge=0, le=1)]
MakeRule = Callable[["CheckLabelledSpec"], Rule]


class SuspectsSpec(Spec):
    """Labels that look wrong: those to which a simple model, trained on the other items, gives little probability."""

    folds: Annotated[int, Field(ge=2, le=20, description="Parts; each one is judged by a model of the others.")] = 5
    probability: Annotated[float, Field(gt=0, lt=1, description="A given label with less probability than this is suspect.")] = (
        0.1
    )
    max_share: Annotated[Share, Field(description="Warning: largest share of suspect labels.")] = 0.05
    min_agreement_gain: Annotated[
        Share, Field(description="Warning, one label an item: least share of a label the model finds above guessing, on average.")
    ] = 0.05
    max_items: Annotated[int, Field(ge=10, description="Most items judged, drawn by the hash of their ids.")] = 20_000
    max_chars: Annotated[int, Field(ge=16, description="Characters of an input that the model reads.")] = 1_000
    num_listed: Annotated[int, Field(ge=1, description="Most suspect items that are listed in suspects.parquet.")] = 200


class CheckLabelledSpec(Spec):
    """Bounds of the checks of labelled data. Critical ones stop the run, warnings mark the model."""

    min_items: Annotated[int, Field(ge=1, description="Critical: fewest items.")] = 50
    min_split_items: Annotated[int, Field(ge=1, description="Warning: fewest items of each split.")] = 50
    max_dropped_share: Annotated[Share, Field(description="Warning: largest share of rows that became no item.")] = 0.2
    max_duplicate_share: Annotated[Share, Field(description="Warning: largest share of rows that repeat another.")] = 0.1
    max_conflict_share: Annotated[
        Share, Field(description="Warning: largest share of rows whose input stands with another label too.")
    ] = 0.02
    max_long_chars: Annotated[
        int, Field(ge=1, description="Info: most characters of an input; one in a hundred may be longer.")
    ] = 4_000
    max_broken_share: Annotated[
        Share, Field(description="Warning: largest share of items with replacement or control characters.")
    ] = 0.02
    min_label_items: Annotated[int, Field(ge=1, description="Warning: fewest training items (words of a tag) of each label.")] = (
        10
    )
    min_label_share: Annotated[Share, Field(description="Warning: smallest share of each label.")] = 0.01
    max_label_share: Annotated[Share, Field(description="Warning: largest share of one label.")] = 0.9
    max_equal_scores_share: Annotated[Share, Field(description="Warning, regression: largest share of one score.")] = 0.5
    min_scores: Annotated[int, Field(ge=2, description="Warning, regression: fewest different scores.")] = 5
    max_outside_share: Annotated[
        Share, Field(description="Warning, regression: largest share of held-out scores outside the range of training.")
    ] = 0.01
    suspects: Annotated[
        SuspectsSpec | None, Field(description="Search for labels that look wrong (one label or many an item); off: none.")
    ] = SuspectsSpec()


def rules_for(spec: CheckLabelledSpec, task: LabelledTask) -> list[Rule]:
    """Returns the rules for a task."""
    chosen = [*COMMON, *(SCORES if task == "regression" else LABELS)]
    rules = [rule(spec) for rule in chosen]
    if spec.suspects is None or not can_judge(task):
        return rules
    judging = SUSPECTS if task == "classification" else SUSPECTS[:1]
    return [*rules, *(rule(spec.suspects) for rule in judging)]


def can_judge(task: LabelledTask) -> bool:
    """Says whether wrong labels of a task can be looked for: those of whole texts."""
    return task in ("classification", "multi_label")


def enough_items(spec: CheckLabelledSpec) -> Rule:
    """There are enough items."""
    return at_least("enough items", "data", "critical", "num_items", spec.min_items, "add sets")


def ids_unique(spec: CheckLabelledSpec) -> Rule:
    """No id stands twice."""
    return Rule(
        "ids unique", "items", "critical", "ExpectColumnValuesToBeUnique", {"column": "id_key"}, "no id twice", "report this"
    )


def inputs_not_empty(spec: CheckLabelledSpec) -> Rule:
    """No input is empty."""
    return at_least("no empty input", "items", "critical", "num_chars", 1, "report this")


def no_item_twice(spec: CheckLabelledSpec) -> Rule:
    """No input stands twice with the same label."""
    return at_most("no item twice", "data", "critical", "num_same_items", 0, "report this")


def no_input_leaks(spec: CheckLabelledSpec) -> Rule:
    """No input stands in two splits."""
    return at_most("no input in two splits", "data", "critical", "num_inputs_in_two_splits", 0, "report this")


def no_group_leaks(spec: CheckLabelledSpec) -> Rule:
    """No group lies in two splits."""
    return at_most("no group in two splits", "data", "critical", "num_groups_in_two_splits", 0, "report this")


def splits_filled(spec: CheckLabelledSpec) -> Rule:
    """Each split has items."""
    return at_least("each split filled", "splits", "critical", "num_items", 1, "raise the shares of the labelled data")


def enough_held_out(spec: CheckLabelledSpec) -> Rule:
    """The smallest split has enough items to tell models apart."""
    remedy = "raise validation_share and test_share, or add items"
    return at_least("enough in each split", "splits", "warning", "num_items", spec.min_split_items, remedy)


def rows_used(spec: CheckLabelledSpec) -> Rule:
    """Most rows became items."""
    remedy = "look at the reasons: a column may be named wrong"
    return at_most("most rows used", "data", "warning", "dropped_share", spec.max_dropped_share, remedy)


def duplicates_few(spec: CheckLabelledSpec) -> Rule:
    """Few rows repeat another."""
    return at_most(
        "few duplicates", "data", "warning", "duplicate_share", spec.max_duplicate_share, "look at how it was collected"
    )


def conflicts_few(spec: CheckLabelledSpec) -> Rule:
    """Few inputs stand with different labels."""
    remedy = "the labels contradict each other: look at how they were given"
    return at_most("few contradictions", "data", "warning", "conflict_share", spec.max_conflict_share, remedy)


def inputs_short(spec: CheckLabelledSpec) -> Rule:
    """Nearly all inputs are short enough to be read whole."""
    remedy = "models read the first few hundred tokens only"
    return at_most("inputs short", "data", "info", "chars_p99", spec.max_long_chars, remedy)


def text_unbroken(spec: CheckLabelledSpec) -> Rule:
    """Few items hold replacement or control characters."""
    rule = at_most("text unbroken", "items", "warning", "num_broken", 0, "look for a set in a wrong encoding")
    return mostly(rule, 1 - spec.max_broken_share)


def labels_trained(spec: CheckLabelledSpec) -> Rule:
    """Each label stands in the training items."""
    remedy = "add items of that label, or take it out of label_names"
    return at_least("each label in training", "labels", "critical", "num_train", 1, remedy)


def labels_learnable(spec: CheckLabelledSpec) -> Rule:
    """Each label has enough training items."""
    remedy = "add items of that label, or join it with another"
    return at_least("each label often enough", "labels", "warning", "num_train", spec.min_label_items, remedy)


def labels_held_out(spec: CheckLabelledSpec) -> Rule:
    """Each label stands in each held-out split."""
    return at_least("each label held out", "labels", "warning", "num_fewest_heldout", 1, "another seed, or larger shares")


def labels_balanced(spec: CheckLabelledSpec) -> Rule:
    """No label is rare."""
    remedy = "add items of that label; look at the score of each label, not at accuracy"
    return at_least("no label rare", "labels", "warning", "share", spec.min_label_share, remedy)


def no_label_dominates(spec: CheckLabelledSpec) -> Rule:
    """No label is nearly everything."""
    remedy = "always saying this label is nearly right: look at the score of each label, not at accuracy"
    return at_most("no label dominates", "labels", "warning", "share", spec.max_label_share, remedy)


def scores_spread(spec: CheckLabelledSpec) -> Rule:
    """No score is nearly everything."""
    remedy = "look at the histogram: one score may stand for a missing one"
    return at_most("scores spread", "data", "warning", "equal_scores_share", spec.max_equal_scores_share, remedy)


def scores_many(spec: CheckLabelledSpec) -> Rule:
    """There are enough different scores for a regression."""
    remedy = "so few scores are classes: set task to classification"
    return at_least("enough different scores", "data", "warning", "num_scores", spec.min_scores, remedy)


def scores_inside(spec: CheckLabelledSpec) -> Rule:
    """Held-out scores lie where training scores do."""
    remedy = "a model cannot be asked for scores it never saw"
    return at_most("held-out scores in range", "splits", "warning", "outside_share", spec.max_outside_share, remedy)


def suspects_few(spec: SuspectsSpec) -> Rule:
    """Few labels look wrong."""
    remedy = "read suspects.parquet and mend the labels, most suspect first"
    return at_most("few suspect labels", "data", "warning", "suspect_share", spec.max_share, remedy)


def labels_follow_text(spec: SuspectsSpec) -> Rule:
    """Labels have something to do with the texts."""
    remedy = "a simple model does no better than guessing: is label_column the right one? (pairs may be beyond it)"
    return at_least("labels follow the text", "data", "warning", "agreement_gain", spec.min_agreement_gain, remedy)


COMMON: tuple[MakeRule, ...] = (
    enough_items,
    ids_unique,
    inputs_not_empty,
    no_item_twice,
    no_input_leaks,
    no_group_leaks,
    splits_filled,
    enough_held_out,
    rows_used,
    duplicates_few,
    conflicts_few,
    inputs_short,
    text_unbroken,
)
LABELS: tuple[MakeRule, ...] = (labels_trained, labels_learnable, labels_held_out, labels_balanced, no_label_dominates)
SCORES: tuple[MakeRule, ...] = (scores_spread, scores_many, scores_inside)
SUSPECTS: tuple[Callable[[SuspectsSpec], Rule], ...] = (suspects_few, labels_follow_text)
