"""The chains on one screen: raw text to a served model that answers, a base and labelled text to one that labels.

In: a recipe. Out: artifacts in the store, a version in the registry, a live model. Invariant: each part builds what is
missing above it, so any part can be started alone; what is there already is reused.
"""

from collections.abc import Callable
from typing import Any

from flows.corpus import build_corpus
from flows.labelled import build_labelled, build_tuned_on_labels
from flows.labelled_recipe import LabelledRecipe
from flows.model import build_model, build_tuned
from flows.recipe import Recipe
from flows.release import release_model


def corpus(recipe: Recipe) -> None:
    """Raw text to token shards."""
    build_corpus(recipe)


def model(recipe: Recipe) -> None:
    """Token shards to a tuned model and the verdict on it."""
    build_model(recipe, build_corpus(recipe))


def tuning(recipe: Recipe) -> None:
    """Raw text to the summary of a tuned model."""
    build_tuned(recipe, build_corpus(recipe))


def pipeline(recipe: Recipe) -> None:
    """Raw text to a registered model that answers."""
    text = build_corpus(recipe)
    tuned = build_model(recipe, text)
    release_model(recipe, text, tuned)


def labelled(recipe: LabelledRecipe) -> None:
    """A base and labelled text to a registered model that labels."""
    build_labelled(recipe)


def labelled_tuning(recipe: LabelledRecipe) -> None:
    """A base and labelled text to the summary of a tuned model."""
    build_tuned_on_labels(recipe)


AnyRecipe = Recipe | LabelledRecipe
Chain = Callable[[Any], None]

CHAINS: dict[str, Chain] = {"corpus": corpus, "model": model, "release": pipeline, "pipeline": pipeline}

# Where each chain ends.
LAST_STAGES: dict[Chain, str] = {
    corpus: "mix",
    model: "gate",
    pipeline: "deploy",
    labelled: "deploy_labelled",
    tuning: "summarize",
    labelled_tuning: "summarize",
}

# What `--until` takes, in the order of the chain; a test holds it against the chain itself. Options add theirs, see `stages_of`.
STAGES = (
    "ingest",
    "clean",
    "dedup",
    "instructions",
    "decontaminate",
    "score_quality",
    "baseline",
    "check",
    "require_quality",
    "base",
    "tokenizer",
    "encode",
    "mix",
    "pretrain",
    "fisher",
    "tune",
    "score_model",
    "summarize",
    "champion",
    "score_champion",
    "evaluate",
    "gate",
    "register",
    "require_verdict",
    "deploy",
)

# What follows the base of a model that labels, see `stages_of`.
LABELLED_FIRST = ("labelled", "check_labelled", "require_quality")
LABELLED_LAST = (
    "augment",
    "tune_labelled",
    "score_majority",
    "score_labels",
    "summarize",
    "champion",
    "score_labels_champion",
    "evaluate_labels",
    "gate_labels",
    "register_labelled",
    "require_verdict",
    "deploy_labelled",
)


def chains_of(recipe: AnyRecipe) -> dict[str, Chain]:
    """Returns the chains a recipe can run, by the part of the chain that `--part` names."""
    return {"pipeline": labelled} if isinstance(recipe, LabelledRecipe) else CHAINS


def tuning_of(recipe: AnyRecipe) -> Chain:
    """Returns the chain of one cell of a comparison."""
    return labelled_tuning if isinstance(recipe, LabelledRecipe) else tuning


def stages_of(recipe: AnyRecipe) -> tuple[str, ...]:
    """Returns what `--until` takes, in the order of the recipe's chain."""
    if not isinstance(recipe, LabelledRecipe):
        after_tune = STAGES.index("tune") + 1
        return (*STAGES[:after_tune], *recipe.preference.stages, *STAGES[after_tune:])
    names = (*LABELLED_FIRST, *recipe.base.stages, *recipe.unlabelled.stages, *LABELLED_LAST)
    return tuple(dict.fromkeys(names))


def registers(recipe: AnyRecipe, last: str) -> bool:
    """Says whether a run up to `last` makes a version in the registry."""
    stages = stages_of(recipe)
    return any(name in ("register", "register_labelled") for name in stages[: stages.index(last) + 1])
