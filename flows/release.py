"""The release part of the chain: registration, the gate's answer, roll-out.

In: a recipe, its corpus and its model. Out: a served model. Invariant: the version is registered as candidate before the
gate may raise, and nothing is rolled out after it has.
"""

from deploy.rollout import deploy_model
from flows.corpus import Corpus
from flows.model import Model
from flows.recipe import Recipe
from tasks.contracts import Deployment
from tasks.evaluation import RequireVerdictSpec, require_verdict
from tasks.registry import register_model


def release_model(recipe: Recipe, corpus: Corpus, model: Model) -> Deployment:
    """Registers the tuned model, asks the gate, and rolls the champion out."""
    version = register_model(
        recipe.registry, model.base, model.tuned, model.report, model.verdict, corpus.quality, corpus.clean, model.conversations
    )
    require_verdict(RequireVerdictSpec(), model.verdict)
    return deploy_model(recipe.deploy, version, model.tuned)
