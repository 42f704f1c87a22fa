"""The chains as Prefect flows: what `prefect.yaml` deploys and `textmill run` starts.

In: a recipe (the form in the UI is drawn from it) and the stage to end after. Out: a flow run whose state says Completed,
Stopped (ended on request), or Failed. Invariant: no logic here.
"""

from typing import Annotated, Any, cast

from prefect import flow
from prefect.runtime import flow_run
from prefect.states import Completed
from pydantic import Field

from flows import pipeline as chains
from flows.compare import load_comparison
from flows.labelled_recipe import LabelledRecipe
from flows.pipeline import AnyRecipe, Chain, chains_of, tuning_of
from flows.presets import load_chat_recipe, load_recipe, require_own_name
from flows.recipe import Recipe
from flows.runner import require_reach, run_chain, run_stages
from flows.watch import owned
from tasks.contracts import TuningSummary
from tasks.core.site import current_site
from tasks.core.stage import Stopped
from tasks.evaluation import compare_tunings

Until = Annotated[str | None, Field(description="Stage to end after; none: run to the end.")]
Preset = Annotated[str, Field(description="Name of a shipped preset, or path to a TOML file on the worker.")]
Grid = Annotated[tuple[str, ...], Field(description="Fields of the recipe and their values, a.b=value,value each.")]
Overrides = Annotated[
    tuple[str, ...], Field(description="Changes of the recipe, for every run of a comparison alike, a.b=value each.")
]
By = Annotated[str | None, Field(description="Figure on validation items that chooses; none: that of the gate, or the loss.")]
DEMO = load_chat_recipe("demo")
LABELS = cast(LabelledRecipe, load_recipe("labels-toy"))
METHODS = ("tune.method.kind=full,head,lora",)


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


@flow(name="recipe", flow_run_name="{preset}", validate_parameters=True)
def recipe(preset: Preset = "demo", overrides: Overrides = (), until: Until = None) -> Any:
    """A recipe by its name or the path of its TOML file: raw or labelled text to a registered, served model."""
    found = load_recipe(preset, overrides)
    chain = chains_of(found)["pipeline"]
    require_reach(chain, found, until)
    if chains.registers(found, until or chains.LAST_STAGES[chain]):
        require_own_name(preset, overrides, found)
    return _as_state(chain, found, until)


@flow(name="compare-cell", flow_run_name="{label}", validate_parameters=False, persist_result=False)
def compare_cell(label: str, recipe: AnyRecipe) -> TuningSummary:
    """One cell of a comparison: everything up to the summary of a tuned model."""
    run = run_chain(tuning_of(recipe), recipe, None)
    return next(record.artifact for record in reversed(run.records) if isinstance(record.artifact, TuningSummary))


@flow(name="compare", flow_run_name="{preset}", validate_parameters=True)
def compare(preset: Preset = "labels-toy", grid: Grid = METHODS, overrides: Overrides = (), by: By = None) -> Any:
    """A recipe, run for every combination of values of some of its fields, and the best of them on validation."""
    site = current_site()
    comparison = load_comparison(preset, overrides, grid, by, site)
    name, asked = comparison.cells[0].recipe.name, comparison.spec.model_dump(mode="json")
    with owned(site, flow_run.get_id()):  # between its cells too: nothing refers to what they made before all are there
        summaries = [compare_cell(cell.label, cell.recipe) for cell in comparison.cells]
        run_stages(name, asked, lambda: compare_tunings(comparison.spec, *summaries))
    return Completed(message=f"{len(summaries)} runs compared by {comparison.spec.criterion}")
