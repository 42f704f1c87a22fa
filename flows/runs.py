"""The chains as Prefect flows: what `prefect.yaml` deploys and `textmill run` starts.

In: a recipe (the form in the UI is drawn from it) and the stage to end after. Out: a flow run whose state says Completed,
Stopped (ended on request), or Failed. Invariant: no logic here.
"""

from typing import Annotated, Any, cast

from prefect import flow
from prefect.states import Completed
from pydantic import Field

from flows import pipeline as chains
from flows.labelled_recipe import LabelledRecipe
from flows.pipeline import AnyRecipe, Chain
from flows.presets import load_chat_recipe, load_recipe
from flows.recipe import Recipe
from flows.runner import run_chain
from tasks.core.stage import Stopped

Until = Annotated[str | None, Field(description="Stage to end after; none: run to the end.")]
DEMO = load_chat_recipe("demo")
LABELS = cast(LabelledRecipe, load_recipe("labels-toy"))


def _as_state(chain: Chain, recipe: AnyRecipe, until: str | None) -> Any:
    try:
        run = run_chain(chain, recipe, until)
    except Stopped as stopped:
        return Completed(name="Stopped", message=f"ended after {stopped}, as asked")
    built = sum(record.result == "built" for record in run.records)
    return Completed(message=f"{built} stages built, {len(run.records) - built} reused")


@flow(name="corpus", flow_run_name="{recipe.name}", validate_parameters=True)
def corpus(recipe: Recipe = DEMO, until: Until = None) -> Any:
    """Raw text to clean, checked, tokenized text."""
    return _as_state(chains.corpus, recipe, until)


@flow(name="model", flow_run_name="{recipe.name}", validate_parameters=True)
def model(recipe: Recipe = DEMO, until: Until = None) -> Any:
    """Tokenized text to a tuned, evaluated model."""
    return _as_state(chains.model, recipe, until)


@flow(name="release", flow_run_name="{recipe.name}", validate_parameters=True)
def release(recipe: Recipe = DEMO, until: Until = None) -> Any:
    """An evaluated model to a registered and served one."""
    return _as_state(chains.pipeline, recipe, until)


@flow(name="pipeline", flow_run_name="{recipe.name}", validate_parameters=True)
def pipeline(recipe: Recipe = DEMO, until: Until = None) -> Any:
    """Raw text to a registered, served model."""
    return _as_state(chains.pipeline, recipe, until)


@flow(name="labelled", flow_run_name="{recipe.name}", validate_parameters=True)
def labelled(recipe: LabelledRecipe = LABELS, until: Until = None) -> Any:
    """A base and labelled text to a registered, served model that labels."""
    return _as_state(chains.labelled, recipe, until)
