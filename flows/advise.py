"""What `textmill plan` advises to tune with.

In: a recipe, the site, what the store holds already. Out: one line. Invariant: nothing heavy is imported, and what is not
known yet is said to be unknown.
"""

from flows.labelled_recipe import LabelledRecipe
from flows.outlook import device_bytes, num_weights
from flows.pipeline import AnyRecipe
from tasks.contracts import Checkpoint, Labelled
from tasks.core.artifact import Artifact
from tasks.core.site import Site
from tasks.tuning.advice import Situation, advise


def advice_line(recipe: AnyRecipe, site: Site, found: dict[str, Artifact]) -> str:
    """Returns the method to try first and the recipe's own, or what has to be there before that can be told."""
    situation = situation_of(recipe, site, found)
    if situation is None:
        return "advice    on the tuning method: known when the base, and labelled items if any, are there (run with --until)"
    return f"advice    {advise(situation)}; the recipe says {recipe.tune.method.kind}"


def situation_of(recipe: AnyRecipe, site: Site, found: dict[str, Artifact]) -> Situation | None:
    """Returns what is known of the tuning; nothing where its base, or how many labelled items there are, is not known yet."""
    is_labelled = isinstance(recipe, LabelledRecipe)
    num_parameters = _num_parameters(recipe, found)
    labelled = found.get("labelled")
    if num_parameters is None or (is_labelled and not isinstance(labelled, Labelled)):
        return None
    return Situation(
        num_labels=labelled.items_by_split["train"] if isinstance(labelled, Labelled) else None,
        num_parameters=num_parameters,
        device_bytes=device_bytes(site),
        has_cuda=site.resolved_device == "cuda",
    )


def _num_parameters(recipe: AnyRecipe, found: dict[str, Artifact]) -> int | None:
    """Returns the weights of the base: as it lies in the store, or as the recipe says it will be."""
    for stage in ("pretrain", "base"):
        if isinstance(base := found.get(stage), Checkpoint) and base.method != "none":
            return base.num_parameters
    if isinstance(recipe, LabelledRecipe):
        return None
    return num_weights(recipe, found)
