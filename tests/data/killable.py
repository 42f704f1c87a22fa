"""The data stages over a small corpus, in a process that a test may kill; each piece of work is noted in a ledger.

In: state folder, ledger, and the stage that is to be slow. Out: the digests of all artifacts, printed last. Invariant: a line
`end STAGE PIECE` is written after the piece has left its files.
"""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tasks.cleaning import (
    CleanSpec,
    DecontaminateSpec,
    DedupSpec,
    QualitySpec,
    clean,
    decontaminate,
    decontamination,
    dedup,
    filtering,
    quality,
    score_quality,
    sketches,
)
from tasks.core import tables
from tasks.core.site import Site
from tasks.ingest import IngestSpec, ingest, pieces
from tasks.ingest import stage as ingest_stage
from tasks.instructions import InstructionsSpec, read_conversations
from tasks.tokenization import EncodeSpec, TokenizerSpec, encode, encoding, make_tokenizer
from tests.data.kit import chinese, english, no_base, source, write_jsonl

STAGES = {
    "ingest": (ingest_stage, "read_piece"),
    "clean": (filtering, "clean_piece"),
    "dedup": (sketches, "sketch_piece"),
    "decontaminate": (decontamination, "search_piece"),
    "score_quality": (quality, "score_piece"),
    "encode": (encoding, "encode_piece"),
}
PIECE_S = 0.3


def noted(stage: str, work: Callable[[Any], None], ledger: Path, slow: str) -> Callable[[Any], None]:
    """Returns the work of a piece, noted before and after; that of the slow stage leaves time to be killed in."""

    def run(piece: Any) -> None:
        note(ledger, f"begin {stage} {piece.number}")
        if stage == slow:
            time.sleep(PIECE_S)
        work(piece)
        note(ledger, f"end {stage} {piece.number}")

    return run


def note(ledger: Path, line: str) -> None:
    descriptor = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, f"{line}\n".encode())
    os.close(descriptor)


def corpus_files(folder: Path) -> list[Path]:
    """Writes the corpus, once: two sources of eight files."""
    paths = []
    for name, first in (("good", 0), ("crawl", 500)):
        for number in range(8):
            texts = [(english if place % 2 else chinese)(first + 20 * number + place) for place in range(20)]
            rows = [{"id": f"{number}-{place}", "text": text} for place, text in enumerate(texts)]
            path = folder / name / f"{number}.jsonl"
            paths.append(path if path.exists() else write_jsonl(path, rows))
    return paths


def main(state: Path, ledger: Path, slow: str) -> list[str]:
    """Builds every data stage and returns the digests."""
    tables._GROUP_ROWS = 40
    pieces._PIECE_BYTES = 20_000
    encoding._PIECE_BYTES = dict.fromkeys(encoding._PIECE_BYTES, 1)
    for stage, (module, name) in STAGES.items():
        setattr(module, name, noted(stage, getattr(module, name), ledger, slow))
    site = Site(state_dir=state, data_workers=1)
    folder = ledger.parent / "texts"
    corpus_files(folder)
    sources = tuple(source(*(sorted((folder / name).glob("*.jsonl"))), name=name) for name in ("good", "crawl"))
    raw = ingest.build(IngestSpec(sources=sources), site=site)
    filtered = clean.build(CleanSpec(filters=()), raw, site=site)
    unique = dedup.build(DedupSpec(validation_share=0.1, test_share=0.1), filtered, site=site)
    held = [{"prompt": "What is the answer to all of these questions?", "response": "Forty-two, as the mice of old have said."}]
    sets = [{"name": "held", "licence": "MIT", "paths": [str(folder.parent / "held.jsonl")]}]
    train = [{"name": "train", "licence": "MIT", "paths": [str(folder.parent / "train.jsonl")]}]
    for one in (*sets, *train):
        if not Path(one["paths"][0]).exists():
            write_jsonl(Path(one["paths"][0]), held if one["name"] == "held" else [{"prompt": "Q", "response": "A"}])
    conversations = read_conversations.build(InstructionsSpec.model_validate({"train": train, "heldout": sets}), site=site)
    clear = decontaminate.build(DecontaminateSpec(action="drop"), unique, conversations, site=site)
    sides = {"positive": {"sources": ["good"]}, "negative": {"sources": ["crawl"]}}
    scored = score_quality.build(QualitySpec.model_validate({"method": {"kind": "linear"} | sides}), clear, site=site)
    spec = TokenizerSpec.model_validate({"source": {"kind": "train", "vocab_size": 400}})
    tokenizer = make_tokenizer.build(spec, scored, no_base(site), site=site)
    tokens = encode.build(EncodeSpec(), scored, tokenizer, site=site)
    return [one.digest for one in (raw, filtered, unique, clear, scored, tokenizer, tokens)]


if __name__ == "__main__":
    print(" ".join(main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])))
