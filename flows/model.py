"""The model part of the chain: pretraining, tuning, scoring and the verdict.

In: a recipe and its corpus. Out: the tuned model with its evaluation. Invariant: calls only.
"""

from typing import NamedTuple

from flows.corpus import Corpus
from flows.recipe import Recipe
from tasks.contracts import Checkpoint, Conversations, EvalReport, Verdict
from tasks.evaluation import CompareSpec, ScoreSpec, compare, judge, score_champion, score_model
from tasks.pretrain import pretrain
from tasks.registry import ChampionSpec, resolve_champion
from tasks.tuning import estimate_fisher, tune


class Model(NamedTuple):
    """What the model part makes."""

    base: Checkpoint
    tuned: Checkpoint
    conversations: Conversations
    report: EvalReport
    verdict: Verdict


def build_model(recipe: Recipe, corpus: Corpus) -> Model:
    """Pretrains, or takes a given base, and tunes the model and judges it against its base and the champion."""
    base = pretrain(recipe.pretrain, corpus.tokens, corpus.tokenizer, corpus.given)
    conversations = corpus.conversations
    fisher = estimate_fisher(recipe.tune.fisher, base, corpus.tokens)
    answering = tune(recipe.tune, base, conversations, corpus.tokens, fisher)
    tuned = recipe.preference.build(answering, recipe.instructions.heldout)
    champion = resolve_champion(ChampionSpec(name=recipe.registry.name), tuned)
    base_scores = score_model(ScoreSpec(role="base", settings=recipe.evaluate), base, corpus.clean, conversations)
    tuned_scores = score_model(ScoreSpec(role="tuned", settings=recipe.evaluate), tuned, corpus.clean, conversations)
    champion_scores = score_champion(ScoreSpec(role="champion", settings=recipe.evaluate), champion, corpus.clean, conversations)
    report = compare(CompareSpec(), base_scores, tuned_scores, champion_scores)
    return Model(base, tuned, conversations, report, judge(recipe.gate, report, champion))
