"""The model part of the chain: pretraining, tuning, scoring and the verdict.

In: a recipe and its corpus. Out: the tuned model with its evaluation. Invariant: calls only.
"""

from typing import NamedTuple

from flows.corpus import Corpus
from flows.recipe import Recipe
from tasks.contracts import Checkpoint, Conversations, EvalReport, Scores, TuningSummary, Verdict
from tasks.evaluation import CompareSpec, ScoreSpec, SummarizeSpec, compare, judge, score_champion, score_model, summarize
from tasks.pretrain import pretrain
from tasks.registry import ChampionSpec, resolve_champion
from tasks.tuning import estimate_fisher, tune


class Tuned(NamedTuple):
    """A tuned model, its base, and what is known of both."""

    base: Checkpoint
    model: Checkpoint
    base_scores: Scores
    scores: Scores
    summary: TuningSummary


class Model(NamedTuple):
    """What the model part makes."""

    base: Checkpoint
    tuned: Checkpoint
    conversations: Conversations
    report: EvalReport
    verdict: Verdict


def build_tuned(recipe: Recipe, corpus: Corpus) -> Tuned:
    """Pretrains, or takes a given base, tunes the model, and scores both."""
    base = pretrain(recipe.pretrain, corpus.tokens, corpus.tokenizer, corpus.given)
    fisher = estimate_fisher(recipe.tune.fisher, base, corpus.tokens)
    answering = tune(recipe.tune, base, corpus.conversations, corpus.tokens, fisher)
    tuned = recipe.preference.build(answering, recipe.instructions)
    asked = (corpus.clean, corpus.conversations)
    base_scores = score_model(ScoreSpec(role="base", settings=recipe.evaluate), base, *asked)
    scores = score_model(ScoreSpec(role="tuned", settings=recipe.evaluate), tuned, *asked)
    summary = summarize(SummarizeSpec(bootstrap=recipe.evaluate.bootstrap), tuned, base_scores, scores)
    return Tuned(base, tuned, base_scores, scores, summary)


def build_model(recipe: Recipe, corpus: Corpus) -> Model:
    """Tunes a model and judges it against its base and the champion."""
    tuned = build_tuned(recipe, corpus)
    champion = resolve_champion(ChampionSpec(name=recipe.registry.name), tuned.model)
    role = ScoreSpec(role="champion", settings=recipe.evaluate)
    champion_scores = score_champion(role, champion, corpus.clean, corpus.conversations)
    report = compare(CompareSpec(bootstrap=recipe.evaluate.bootstrap), tuned.base_scores, tuned.scores, champion_scores)
    verdict = judge(recipe.gate, report, champion)
    return Model(tuned.base, tuned.model, corpus.conversations, report, verdict)
