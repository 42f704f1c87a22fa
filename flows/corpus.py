"""The corpus part of the chain: raw text to token shards.

In: a recipe. Out: a clean, checked, tokenized corpus. Invariant: calls only; what is optional is a member of a union.
"""

from typing import NamedTuple

from data_quality.check import RequireQualitySpec, check, require_quality
from flows.recipe import Recipe
from tasks.cleaning import clean, dedup
from tasks.contracts import CleanCorpus, QualityReport, TokenizedCorpus, Tokenizer
from tasks.ingest import ingest
from tasks.tokenization import encode, make_tokenizer


class Corpus(NamedTuple):
    """What the corpus part makes."""

    clean: CleanCorpus
    quality: QualityReport
    tokenizer: Tokenizer
    tokens: TokenizedCorpus


def build_corpus(recipe: Recipe) -> Corpus:
    """Ingests, cleans, deduplicates, checks and encodes the recipe's text."""
    raw = ingest(recipe.ingest)
    filtered = clean(recipe.clean, raw)
    corpus = dedup(recipe.dedup, filtered)
    quality = require_quality(RequireQualitySpec(), check(recipe.check, raw, filtered, corpus))
    tokenizer = make_tokenizer(recipe.tokenizer, corpus)
    return Corpus(corpus, quality, tokenizer, encode(recipe.encode, corpus, tokenizer))
