"""The chain of a model that labels text: base, labelled data, tuning, verdict, registration, roll-out.

In: a `LabelledRecipe`. Out: a served model. Invariants: calls only; the version is registered as candidate before the gate may
raise, and nothing is rolled out after it has.
"""

from typing import NamedTuple

from data_quality.check import RequireQualitySpec, require_quality
from data_quality.labelled import check_labelled
from deploy.rollout import deploy_labelled
from flows.labelled_recipe import LabelledRecipe
from tasks.contracts import Checkpoint, Deployment, Labelled, QualityReport, Scores, TuningSummary
from tasks.evaluation import (
    CompareLabelsSpec,
    RequireVerdictSpec,
    ScoreLabelsSpec,
    SummarizeSpec,
    compare_labels,
    judge_labels,
    require_verdict,
    score_labels,
    score_labels_champion,
    score_majority,
    summarize,
)
from tasks.labelled import augment, read_labelled
from tasks.registry import ChampionSpec, register_labelled, resolve_champion
from tasks.tuning.labelled import tune_labelled


class TunedOnLabels(NamedTuple):
    """A model that labels, what it was made from, and what is known of it."""

    labelled: Labelled
    quality: QualityReport
    base: Checkpoint
    model: Checkpoint
    base_scores: Scores
    scores: Scores
    summary: TuningSummary


def build_tuned_on_labels(recipe: LabelledRecipe) -> TunedOnLabels:
    """Tunes the base on labelled text and scores it beside no reading at all."""
    labelled = read_labelled(recipe.labelled)
    quality = require_quality(RequireQualitySpec(), check_labelled(recipe.check, labelled))
    base, learned = recipe.unlabelled.prepare(recipe.tune, recipe.base.build(), labelled)
    tuned = tune_labelled(recipe.tune, base, augment(recipe.augment, learned))
    base_scores = score_majority(ScoreLabelsSpec(role="base", settings=recipe.evaluate), base, labelled)
    scores = score_labels(ScoreLabelsSpec(role="tuned", settings=recipe.evaluate), tuned, labelled)
    summary = summarize(SummarizeSpec(bootstrap=recipe.evaluate.bootstrap), tuned, base_scores, scores)
    return TunedOnLabels(labelled, quality, base, tuned, base_scores, scores, summary)


def build_labelled(recipe: LabelledRecipe) -> Deployment:
    """Tunes the base on labelled text, judges it against no reading at all and the champion, and rolls it out."""
    tuned = build_tuned_on_labels(recipe)
    champion = resolve_champion(ChampionSpec(name=recipe.registry.name), tuned.model)
    role = ScoreLabelsSpec(role="champion", settings=recipe.evaluate)
    champion_scores = score_labels_champion(role, champion, tuned.labelled)
    asked = CompareLabelsSpec(bootstrap=recipe.evaluate.bootstrap)
    report = compare_labels(asked, tuned.base_scores, tuned.scores, champion_scores)
    verdict = judge_labels(recipe.asked, report, champion)
    made = (tuned.base, tuned.model, tuned.scores, report, verdict, tuned.quality, tuned.labelled)
    version = register_labelled(recipe.registry, *made)
    require_verdict(RequireVerdictSpec(), verdict)
    return deploy_labelled(recipe.deploy, version, tuned.model)
