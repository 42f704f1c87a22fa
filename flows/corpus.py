"""The corpus part of the chain: raw text to token shards.

In: a recipe. Out: a clean, checked, tokenized corpus, the conversations whose held-out part it was cleared of, and the given
base, whose tokenizer it may be encoded with. Invariant: calls only; what is optional is a member of a union.
"""

from typing import NamedTuple

from data_quality.baseline import BaselineSpec, resolve_baseline
from data_quality.check import RequireQualitySpec, check, require_quality
from flows.recipe import Recipe
from tasks.bases import adopt_base
from tasks.cleaning import clean, decontaminate, dedup, score_quality
from tasks.contracts import Checkpoint, CleanCorpus, Conversations, QualityReport, TokenizedCorpus, Tokenizer
from tasks.ingest import ingest
from tasks.instructions import read_conversations
from tasks.tokenization import encode, make_tokenizer, mix


class Corpus(NamedTuple):
    """What the corpus part makes."""

    clean: CleanCorpus
    conversations: Conversations
    quality: QualityReport
    given: Checkpoint
    tokenizer: Tokenizer
    tokens: TokenizedCorpus


def build_corpus(recipe: Recipe) -> Corpus:
    """Ingests, cleans, deduplicates, decontaminates, checks, encodes and mixes the recipe's text."""
    raw = ingest(recipe.ingest)
    filtered = clean(recipe.clean, raw)
    unique = dedup(recipe.dedup, filtered)
    conversations = read_conversations(recipe.instructions)
    corpus = score_quality(recipe.quality, decontaminate(recipe.decontaminate, unique, conversations))
    baseline = resolve_baseline(BaselineSpec(name=recipe.registry.name, check=recipe.check), corpus)
    quality = require_quality(RequireQualitySpec(), check(recipe.check, raw, filtered, corpus, baseline))
    given = adopt_base(recipe.base)
    tokenizer = make_tokenizer(recipe.tokenizer, corpus, given)
    tokens = mix(recipe.mix, encode(recipe.encode, corpus, tokenizer))
    return Corpus(corpus, conversations, quality, given, tokenizer, tokens)
