"""Tokenized text as objectives read it: documents, pieces of them, and where words and sentences lie in their tokens.

In: the token shards of a split, their table of documents, the ids of special tokens. Out: `TokenText`. Invariant: a piece
lies in one document and holds no token that ends one. Nothing here imports torch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.contracts import Split
from tasks.core.errors import ContractError
from tasks.core.shards import Tokens, open_shard, shard_paths
from tasks.core.tables import read_rows
from tasks.modeling.words import SpecialIds

Ids = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Document:
    """Where the tokens of a document lie in its split; the last one ends it."""

    lang: str
    start: int
    num_tokens: int
    num_bytes: int


@dataclass(frozen=True, slots=True)
class Piece:
    """Tokens of one document, without the one that ends it."""

    document: int
    lang: str
    start: int
    num_tokens: int
    ends_document: bool


@dataclass(frozen=True)
class TokenText:
    """The tokens of a split, or of one language of it.

    Attributes:
        roles: Ids of the special tokens of the objective, by role.
        decoder_start: What the decoder of a given base reads before its first target; none: the end of a text.
    """

    shards: Sequence[Tokens]
    documents: Sequence[Document]
    special: SpecialIds
    roles: Mapping[str, int]
    tokenizer: Any
    vocab_size: int
    context_tokens: int
    seed: int
    is_part: bool = False
    decoder_start: int | None = None

    @property
    def writing(self) -> int:
        """What a decoder reads before it writes about a source."""
        return self.special.end_of_text if self.decoder_start is None else self.decoder_start

    @property
    def languages(self) -> list[str]:
        """Languages of the documents, in order."""
        return sorted({document.lang for document in self.documents})

    @property
    def num_bytes(self) -> int:
        """UTF-8 bytes of the documents."""
        return sum(document.num_bytes for document in self.documents)

    def of(self, lang: str) -> "TokenText":
        """Returns the documents of one language."""
        return replace(self, documents=[one for one in self.documents if one.lang == lang], is_part=True)

    @property
    def streams(self) -> list[Tokens]:
        """The tokens of all documents in order, as arrays side by side."""
        if not self.is_part:
            return list(self.shards)
        return [self.read(document.start, document.num_tokens) for document in self.documents]

    def read(self, start: int, num_tokens: int) -> Tokens:
        """Returns tokens of one document; no document lies in two shards."""
        number = int(np.searchsorted(self._ends, start, side="right"))
        shard = self.shards[number]
        offset = start - int(self._ends[number]) + len(shard)
        return shard[offset : offset + num_tokens]

    @cached_property
    def _ends(self) -> Ids:
        return np.cumsum([len(shard) for shard in self.shards])

    def pieces(self, max_tokens: int, min_tokens: int = 1) -> list[Piece]:
        """Returns the documents, long ones cut into pieces of `max_tokens`; pieces of fewer than `min_tokens` are left out."""
        found = []
        for number, document in enumerate(self.documents):
            text_tokens = document.num_tokens - 1
            for start in range(0, text_tokens, max_tokens):
                length = min(max_tokens, text_tokens - start)
                ends = start + length == text_tokens
                if length >= min_tokens:
                    found.append(Piece(number, document.lang, document.start + start, length, ends))
        return found

    def ids(self, piece: Piece) -> Ids:
        """Returns the ids of a piece."""
        return self.read(piece.start, piece.num_tokens).astype(np.int64)

    @cached_property
    def text_ids(self) -> Ids:
        """The ids that may stand in text: all but the special ones, and those that no token has."""
        special = self.special
        known = {special.opening, special.end_of_text, special.pad, special.turn_end, *self.roles.values()}
        return np.setdiff1d([*self.tokenizer.get_vocab().values()], [*known, *self.tokenizer.all_special_ids])

    @cached_property
    def is_text(self) -> NDArray[np.bool_]:
        """Whether each id may stand in text."""
        return np.isin(np.arange(self.vocab_size), self.text_ids)

    @cached_property
    def token_bytes(self) -> list[bytes]:
        """The bytes each token stands for; a special token stands for none.

        Raises:
            ContractError: The tokenizer is not byte-level: what its tokens stand for depends on their neighbours.
        """
        known = set(self.text_ids.tolist())
        names = self.tokenizer.convert_ids_to_tokens(list(range(self.vocab_size)))
        try:
            return [bytes(_BYTE_OF[char] for char in name) if id in known else b"" for id, name in enumerate(names)]
        except KeyError as error:
            raise ContractError(
                f"the tokenizer is not byte-level (a token holds {error}), so words and sentences cannot be found in its tokens; "
                "train one (tokenizer.source.kind = train), or set an objective that needs neither"
            ) from None


def open_text(folder: Path, split: Split, tokenizer_digest: str, **facts: Any) -> TokenText:
    """Opens a split of a `TokenizedCorpus`; `facts` are the other fields of `TokenText`."""
    documents, start = [], 0
    for row in read_rows(folder / f"documents-{split}.parquet", ["lang", "num_tokens", "num_bytes"]):
        documents.append(Document(row["lang"], start, row["num_tokens"], row["num_bytes"]))
        start += row["num_tokens"]
    shards = [shard for path in shard_paths(folder, split) if len(shard := open_shard(path, tokenizer_digest))]
    return TokenText(shards, documents, **facts)


def _byte_of_char() -> dict[str, int]:
    """Returns the byte that each character of a byte-level vocabulary stands for (GPT-2's table): printable ones themselves."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + place): byte for place, byte in enumerate(others)}


_BYTE_OF = _byte_of_char()
