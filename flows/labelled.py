"""The chain of a model that labels text: base, labelled data, tuning, verdict, registration, roll-out.

In: a `LabelledRecipe`. Out: a served model. Invariants: calls only; the version is registered as candidate before the gate may
raise, and nothing is rolled out after it has.
"""

from data_quality.check import RequireQualitySpec, require_quality
from data_quality.labelled import check_labelled
from deploy.rollout import deploy_labelled
from flows.labelled_recipe import LabelledRecipe
from tasks.contracts import Deployment
from tasks.evaluation import (
    CompareLabelsSpec,
    RequireVerdictSpec,
    ScoreLabelsSpec,
    compare_labels,
    judge_labels,
    require_verdict,
    score_labels,
    score_labels_champion,
    score_majority,
)
from tasks.labelled import augment, read_labelled
from tasks.registry import ChampionSpec, register_labelled, resolve_champion
from tasks.tuning.labelled import tune_labelled


def build_labelled(recipe: LabelledRecipe) -> Deployment:
    """Tunes the base on labelled text, judges it against no reading at all and the champion, and rolls it out."""
    labelled = read_labelled(recipe.labelled)
    quality = require_quality(RequireQualitySpec(), check_labelled(recipe.check, labelled))
    base = recipe.base.build()
    prepared = recipe.unlabelled.prepare(recipe.tune, base, labelled)
    tuned = tune_labelled(recipe.tune, prepared.base, augment(recipe.augment, prepared.labelled))
    champion = resolve_champion(ChampionSpec(name=recipe.registry.name), tuned)
    base_scores = score_majority(ScoreLabelsSpec(role="base", settings=recipe.evaluate), base, labelled)
    scores = score_labels(ScoreLabelsSpec(role="tuned", settings=recipe.evaluate), tuned, labelled)
    champion_scores = score_labels_champion(ScoreLabelsSpec(role="champion", settings=recipe.evaluate), champion, labelled)
    report = compare_labels(CompareLabelsSpec(), base_scores, scores, champion_scores)
    verdict = judge_labels(recipe.asked, report, champion)
    version = register_labelled(recipe.registry, base, tuned, scores, report, verdict, quality, labelled)
    require_verdict(RequireVerdictSpec(), verdict)
    return deploy_labelled(recipe.deploy, version, tuned)
