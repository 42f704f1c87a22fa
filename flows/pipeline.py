"""The chain on one screen: raw text to a served model.

In: a recipe. Out: artifacts in the store, a version in the registry, a live model. Invariant: each part builds what is
missing above it, so any part can be started alone; what is there already is reused.
"""

from collections.abc import Callable

from flows.corpus import build_corpus
from flows.model import build_model
from flows.recipe import Recipe
from flows.release import release_model


def corpus(recipe: Recipe) -> None:
    """Raw text to token shards."""
    build_corpus(recipe)


def model(recipe: Recipe) -> None:
    """Token shards to a tuned model and the verdict on it."""
    build_model(recipe, build_corpus(recipe))


def pipeline(recipe: Recipe) -> None:
    """Raw text to a registered model that answers."""
    text = build_corpus(recipe)
    tuned = build_model(recipe, text)
    release_model(recipe, text, tuned)


CHAINS = {"corpus": corpus, "model": model, "release": pipeline, "pipeline": pipeline}

# Where each chain ends.
LAST_STAGES: dict[Callable[[Recipe], None], str] = {corpus: "encode", model: "gate", pipeline: "deploy"}

# What `--until` takes, in the order of the chain; a test holds it against the chain itself.
STAGES = (
    "ingest",
    "clean",
    "dedup",
    "instructions",
    "decontaminate",
    "check",
    "require_quality",
    "base",
    "tokenizer",
    "encode",
    "pretrain",
    "fisher",
    "tune",
    "champion",
    "score_model",
    "score_champion",
    "evaluate",
    "gate",
    "register",
    "require_verdict",
    "deploy",
)
