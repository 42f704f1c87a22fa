"""Tokenization: a tokenizer trained or adopted, the corpus as token shards, and their mixture."""

from tasks.tokenization.encoding import encode
from tasks.tokenization.mixing import mix
from tasks.tokenization.specs import AdoptTokenizer, BaseTokenizer, EncodeSpec, MixSpec, TokenizerSpec, TrainTokenizer
from tasks.tokenization.training import make_tokenizer

__all__ = [
    "AdoptTokenizer",
    "BaseTokenizer",
    "EncodeSpec",
    "MixSpec",
    "TokenizerSpec",
    "TrainTokenizer",
    "encode",
    "make_tokenizer",
    "mix",
]
