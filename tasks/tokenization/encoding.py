"""Encode: the clean corpus as token shards, one set of files a split.

In: `CleanCorpus` and `Tokenizer`. Out: `TokenizedCorpus`. Invariants: each document is followed by the end-of-text token;
documents lie in an order that hangs on the seed and their ids alone; the shards name the tokenizer by its digest.
"""

import shutil
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tasks.contracts import SPLITS, CleanCorpus, Split, TokenizedCorpus, Tokenizer
from tasks.core.shards import Tokens, shard_name, token_dtype, write_shard
from tasks.core.stage import DISK, StageContext, stage
from tasks.core.tables import first_rows, group_runs, numbers, row_groups, take_rows, with_numbers
from tasks.core.workers import run_jobs, workers_for
from tasks.tokenization.encoders import EncoderName, choose_encoder, load_encoder
from tasks.tokenization.specs import EncodeSpec
from tasks.tokenization.training import load_plain
from tasks.tokenization.warnings import of_split, split_warnings, sums_by

if TYPE_CHECKING:
    import pyarrow as pa

COLUMNS = ("id", "lang", "source", "num_tokens", "num_bytes")

_WORK = "work"
_DOCUMENTS_AT_ONCE = 4_096
_PROBES = 64
_PROBE_CHARS = 2_000
# Text from which on a process more is worth its start (about a second, as long as each takes for so much).
_WORTH_BYTES: dict[EncoderName, int] = {"gigatoken": 100_000_000, "runs": 100_000_000, "tokenizers": 2_000_000}
# Text of a piece (1: a row group). gigatoken shares large batches among threads; on pieces of 2 MB it took half as long again.
_PIECE_BYTES: dict[EncoderName, int] = {"gigatoken": 20_000_000, "runs": 20_000_000, "tokenizers": 1}


class _Piece(NamedTuple):
    """Row groups of a file to encode; its results are named by them, so that other pieces are never taken for these."""

    number: int
    path: Path
    groups: list[int]
    work: Path
    tokenizer: Path
    end_id: int
    vocab_size: int
    encoder: EncoderName

    @property
    def tokens(self) -> Path:
        return self.documents.with_suffix(".npy")

    @property
    def documents(self) -> Path:
        return self.work / f"{self.path.stem}-{self.groups[0]:05d}-{self.groups[-1]:05d}.parquet"


@stage(version=2, name="encode", retry=DISK, packages=("tokenizers", "numpy", "pyarrow"))
def encode(spec: EncodeSpec, corpus: CleanCorpus, tokenizer: Tokenizer, *, ctx: StageContext) -> TokenizedCorpus:
    """Encodes every document and writes the shards of each split."""
    encoder, why = choose_encoder(tokenizer.path, _probes(corpus))
    ctx.log.info("encoding with %s: %s", encoder, why)
    pieces = _pieces(corpus, tokenizer, ctx.dir / _WORK, encoder)
    waiting = [piece for piece in pieces if not piece.documents.exists()]
    processes = workers_for(corpus.num_bytes, ctx.site.data_workers, _WORTH_BYTES[encoder])
    for done in run_jobs(encode_piece, waiting, processes):
        ctx.progress(len(pieces) - len(waiting) + done, len(pieces), "pieces")
    files: list[Tokens] = [np.load(piece.tokens, mmap_mode="r").view(np.ndarray) for piece in pieces]
    documents = _read_documents(pieces)
    for split in SPLITS:
        _write_split(spec, split, documents, files, tokenizer.digest, ctx.dir)
    warnings = split_warnings(spec, documents, files)
    for warning in warnings:
        ctx.log.warning("%s", warning)
    del files
    shutil.rmtree(ctx.dir / _WORK)
    by_split = {split: of_split(documents, split) for split in SPLITS}
    return ctx.commit(
        TokenizedCorpus,
        tokenizer_digest=tokenizer.digest,
        vocab_size=tokenizer.vocab_size,
        tokens_by_split={split: _sum(part, "num_tokens") for split, part in by_split.items()},
        bytes_by_split={split: _sum(part, "num_bytes") for split, part in by_split.items()},
        documents_by_split={split: part.num_rows for split, part in by_split.items()},
        tokens_by_language=dict(sorted(sums_by(documents, "lang").items())),
        warnings=warnings,
    )


def _probes(corpus: CleanCorpus) -> Iterator[str]:
    """Yields the beginnings of some documents from all over the corpus."""
    groups = row_groups(corpus.path / "documents")
    chosen = groups[:: max(1, len(groups) // 8)][:8]
    for path, group in chosen:
        for row in first_rows(path, group, ["text"], _PROBES // len(chosen)):
            yield row["text"][:_PROBE_CHARS]


def _pieces(corpus: CleanCorpus, tokenizer: Tokenizer, work: Path, encoder: EncoderName) -> list[_Piece]:
    work.mkdir(exist_ok=True)
    end_id = load_plain(tokenizer.path).token_to_id(tokenizer.special_tokens["end_of_text"])
    return [
        _Piece(number, path, groups, work, tokenizer.path, end_id, tokenizer.vocab_size, encoder)
        for number, (path, groups) in enumerate(group_runs(corpus.path / "documents", _PIECE_BYTES[encoder]))
    ]


def encode_piece(piece: _Piece) -> None:
    """Encodes the rows of a piece; the table of its documents is written last and says that the piece is done."""
    import pyarrow.parquet as pq

    texts, documents = _read_piece(piece)
    encoded = load_encoder(piece.tokenizer, piece.encoder)(texts)
    np.save(piece.tokens, _ended(encoded.ids_N.astype(token_dtype(piece.vocab_size)), encoded.lengths_D, piece.end_id))
    beside = piece.documents.with_suffix(".part")
    pq.write_table(with_numbers(documents, "num_tokens", encoded.lengths_D + 1), beside)
    beside.replace(piece.documents)


def _read_piece(piece: _Piece) -> tuple[list[str], "pa.Table"]:
    """Returns the texts, and their documents with the bytes of each; a row group at a time, which takes half the seconds."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    texts, tables = [], []
    with pq.ParquetFile(piece.path) as file:
        for group in piece.groups:
            rows = file.read_row_group(group, columns=["id", "lang", "source", "split", "text"])
            text = rows.column("text")
            texts += text.to_pylist()
            tables.append(rows.drop_columns("text").append_column("num_bytes", pc.cast(pc.binary_length(text), "int64")))
    return texts, pa.concat_tables(tables)


def _ended(ids_N: Tokens, lengths_D: NDArray[np.int64], end_id: int) -> Tokens:
    """Returns the ids with the end-of-text token after each document."""
    return np.insert(ids_N, np.cumsum(lengths_D), end_id)


def _read_documents(pieces: Sequence[_Piece]) -> "pa.Table":
    """Returns all documents in the order of the pieces, with the piece their tokens are in and where these start."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    tables = []
    for piece in pieces:
        with pq.ParquetFile(piece.documents) as file:  # `read_table` loads pyarrow.dataset, 0.3 s
            table = file.read()
        num_tokens_D = numbers(table, "num_tokens")
        table = with_numbers(table, "piece", np.full_like(num_tokens_D, piece.number))
        tables.append(with_numbers(table, "start", np.cumsum(num_tokens_D) - num_tokens_D))
    return pa.concat_tables(tables)


def _sum(documents: "pa.Table", column: str) -> int:
    return int(numbers(documents, column).sum())


def _write_split(
    spec: EncodeSpec, split: Split, documents: "pa.Table", files: Sequence[Tokens], digest: str, folder: Path
) -> None:
    """Writes the shards of a split, documents whole and in their shuffled order, and the table of its documents."""
    import pyarrow.parquet as pq

    part = of_split(documents, split)
    places = [_place(spec.seed, id) for id in part.column("id").to_pylist()]
    part = take_rows(part, np.array(sorted(range(part.num_rows), key=places.__getitem__), np.int64))
    where = list(zip(*(part.column(name).to_pylist() for name in ("piece", "start", "num_tokens")), strict=True))
    for number, shard in enumerate(_shards(numbers(part, "num_tokens"), spec.shard_tokens)):
        tokens = (files[piece][start : start + length] for piece, start, length in where[shard])
        write_shard(folder / shard_name(split, number), _joined(tokens), digest)
    pq.write_table(part.select(COLUMNS), folder / f"documents-{split}.parquet", compression="zstd", write_statistics=False)


def _joined(documents: Iterator[Tokens]) -> Iterator[Tokens]:
    """Yields the same tokens in fewer arrays."""
    while some := list(islice(documents, _DOCUMENTS_AT_ONCE)):
        yield np.concatenate(some)


def _place(seed: int, id: str) -> tuple[bytes, str]:
    return blake2b(f"{seed}:{id}".encode(), digest_size=8).digest(), id


def _shards(num_tokens_D: NDArray[np.int64], shard_tokens: int) -> Iterator[slice]:
    """Yields the documents of each shard: it ends with the one that fills it."""
    ends_D = np.cumsum(num_tokens_D)
    first = num_before = 0
    while first < len(ends_D):
        last = min(int(np.searchsorted(ends_D, num_before + shard_tokens)), len(ends_D) - 1)
        yield slice(first, last + 1)
        first, num_before = last + 1, int(ends_D[last])
