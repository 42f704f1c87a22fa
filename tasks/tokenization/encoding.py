"""Encode: the clean corpus as token shards, one set of files a split.

In: `CleanCorpus` and `Tokenizer`. Out: `TokenizedCorpus`. Invariants: each document is followed by the end-of-text token;
documents lie in an order that hangs on the seed and their ids alone; the shards name the tokenizer by its digest.
"""

import json
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tasks.contracts import SPLITS, CleanCorpus, Split, TokenizedCorpus, Tokenizer
from tasks.core.shards import Tokens, shard_name, token_dtype, write_shard
from tasks.core.stage import DISK, StageContext, stage
from tasks.core.store import write_durably
from tasks.core.tables import read_group, row_groups, write_table
from tasks.core.workers import run_jobs
from tasks.tokenization.specs import EncodeSpec
from tasks.tokenization.training import load_plain
from tasks.tokenization.warnings import split_warnings

DOCUMENTS = {"id": "string", "lang": "string", "source": "string", "num_tokens": "int64", "num_bytes": "int64"}

_WORK = "work"
_BATCH_DOCUMENTS = 256


class _Piece(NamedTuple):
    """One row group to encode; its results carry its number."""

    number: int
    path: Path
    group: int
    work: Path
    tokenizer: Path
    end_of_text: str
    vocab_size: int

    def file(self, what: str) -> Path:
        return self.work / f"{self.number:06d}.{what}"


@dataclass(frozen=True, slots=True)
class _Document:
    """An encoded document: where its tokens lie in the file of its piece."""

    id: str
    lang: str
    source: str
    split: Split
    num_tokens: int
    num_bytes: int
    piece: int
    start: int

    def row(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in DOCUMENTS}


@stage(version=1, name="encode", retry=DISK, packages=("tokenizers", "numpy", "pyarrow"))
def encode(spec: EncodeSpec, corpus: CleanCorpus, tokenizer: Tokenizer, *, ctx: StageContext) -> TokenizedCorpus:
    """Encodes every document and writes the shards of each split."""
    pieces = _pieces(corpus, tokenizer, ctx.dir / _WORK)
    waiting = [piece for piece in pieces if not piece.file("json").exists()]
    for done in run_jobs(encode_piece, waiting, ctx.site.data_workers):
        ctx.progress(len(pieces) - len(waiting) + done, len(pieces), "pieces")
    files = [np.load(piece.file("npy"), mmap_mode="r") for piece in pieces]
    by_split = _documents(spec, pieces)
    for split, documents in by_split.items():
        _write_split(spec, split, documents, files, tokenizer.digest, ctx.dir)
    warnings = split_warnings(spec, by_split, files)
    for warning in warnings:
        ctx.log.warning("%s", warning)
    del files
    shutil.rmtree(ctx.dir / _WORK)
    everything = [document for documents in by_split.values() for document in documents]
    return ctx.commit(
        TokenizedCorpus,
        tokenizer_digest=tokenizer.digest,
        vocab_size=tokenizer.vocab_size,
        tokens_by_split={split: sum(one.num_tokens for one in documents) for split, documents in by_split.items()},
        bytes_by_split={split: sum(one.num_bytes for one in documents) for split, documents in by_split.items()},
        documents_by_split={split: len(documents) for split, documents in by_split.items()},
        tokens_by_language=dict(sorted(_summed((one.lang, one.num_tokens) for one in everything).items())),
        warnings=warnings,
    )


def _pieces(corpus: CleanCorpus, tokenizer: Tokenizer, work: Path) -> list[_Piece]:
    work.mkdir(exist_ok=True)
    end = tokenizer.special_tokens["end_of_text"]
    return [
        _Piece(number, path, group, work, tokenizer.path, end, tokenizer.vocab_size)
        for number, (path, group) in enumerate(row_groups(corpus.path / "documents"))
    ]


def encode_piece(piece: _Piece) -> None:
    """Encodes one row group; the table of its documents is written last and says that the piece is done."""
    model = load_plain(piece.tokenizer)
    end = model.token_to_id(piece.end_of_text)
    parts: list[Tokens] = []
    documents: list[dict[str, Any]] = []
    start = 0
    for batch in _batches(read_group(piece.path, piece.group, ["id", "lang", "source", "split", "text"])):
        for row, encoded in zip(batch, model.encode_batch([row["text"] for row in batch], add_special_tokens=False), strict=True):
            ids = np.array([*encoded.ids, end], dtype=token_dtype(piece.vocab_size))
            parts.append(ids)
            text = row.pop("text")
            documents.append(row | {"num_tokens": len(ids), "num_bytes": len(text.encode("utf-8")), "start": start})
            start += len(ids)
    np.save(piece.file("npy"), np.concatenate(parts) if parts else np.zeros(0, dtype=token_dtype(piece.vocab_size)))
    write_durably(piece.file("json"), json.dumps(documents))


def _batches(rows: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    for start in range(0, len(rows), _BATCH_DOCUMENTS):
        yield rows[start : start + _BATCH_DOCUMENTS]


def _documents(spec: EncodeSpec, pieces: Sequence[_Piece]) -> dict[Split, list[_Document]]:
    """Returns the documents of each split in their shuffled order."""
    by_split: dict[Split, list[_Document]] = {split: [] for split in SPLITS}
    for piece in pieces:
        for row in json.loads(piece.file("json").read_text(encoding="utf-8")):
            by_split[row["split"]].append(_Document(piece=piece.number, **row))
    for documents in by_split.values():
        documents.sort(key=lambda document: _place(spec.seed, document.id))
    return by_split


def _place(seed: int, id: str) -> tuple[bytes, str]:
    return blake2b(f"{seed}:{id}".encode(), digest_size=8).digest(), id


def _write_split(
    spec: EncodeSpec, split: Split, documents: Sequence[_Document], files: Sequence[Tokens], digest: str, folder: Path
) -> None:
    """Writes the shards of a split, documents whole, and the table of its documents."""
    for number, shard in enumerate(_shards(documents, spec.shard_tokens)):
        tokens = (files[one.piece][one.start : one.start + one.num_tokens] for one in shard)
        write_shard(folder / shard_name(split, number), tokens, digest)
    write_table(folder / f"documents-{split}.parquet", DOCUMENTS, (document.row() for document in documents))


def _shards(documents: Sequence[_Document], shard_tokens: int) -> Iterator[list[_Document]]:
    shard: list[_Document] = []
    num_tokens = 0
    for document in documents:
        shard.append(document)
        num_tokens += document.num_tokens
        if num_tokens >= shard_tokens:
            yield shard
            shard, num_tokens = [], 0
    if shard:
        yield shard


def _summed(pairs: Iterator[tuple[str, int]]) -> Counter[str]:
    total: Counter[str] = Counter()
    for name, count in pairs:
        total[name] += count
    return total
