"""Tokenization: a tokenizer trained or adopted, and the corpus as token shards."""

from tasks.tokenization.encoding import encode
from tasks.tokenization.specs import AdoptTokenizer, BaseTokenizer, EncodeSpec, TokenizerSpec, TrainTokenizer
from tasks.tokenization.training import make_tokenizer

__all__ = ["AdoptTokenizer", "BaseTokenizer", "EncodeSpec", "TokenizerSpec", "TrainTokenizer", "encode", "make_tokenizer"]
