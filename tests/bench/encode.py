"""Text to token shards: our encode stage beside datatrove's DocumentTokenizer and `datasets.map`, each a process of its own.

`bound` is the encoder with nothing around it: what any stage made of it could reach at most. It knows the split of Llama 3 alone.

In: `--mb N`. Out: one JSON line in `results/encode.jsonl`. All read the same parquet files of Chinese and English documents and
use the same byte-level BPE of 16,000 entries (`--split`), two processes or threads, and write token files.
`seconds` are wall-clock from the start of the process to its end; `work_seconds` leave out the start and the imports, which
are the same for any amount of text. Invariant: the ids of every document are
compared with those of `tokenizers`.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tests.bench.corpus import BenchSpec, clean_corpus, digest, documents, lines
from tests.bench.encode_sides import WORKERS
from tests.bench.result import note, ratios
from tests.conftest import ROOT
from tests.data.kit import no_base

SIDES = ("ours", "bound", "datatrove", "datasets")
EVERY = ("web", "articles", "wikipedia", "mail", "poetry", "commands", "man-zh", "debian", "man")


def _artifacts(work: Path, split: str) -> tuple[Any, Any]:
    """Makes the corpus and the tokenizer."""
    from tasks.core.site import Site
    from tasks.tokenization import TokenizerSpec, make_tokenizer

    site = Site(state_dir=work / "state", data_workers=WORKERS)
    corpus = clean_corpus.build(BenchSpec(path=str(work / "all.jsonl")), site=site)
    small = clean_corpus.build(BenchSpec(path=str(work / "some.jsonl")), site=site)
    spec = TokenizerSpec.model_validate({"source": {"kind": "train", "vocab_size": 16_000, "split": split}})
    return corpus, make_tokenizer.build(spec, small, no_base(site), site=site)


def _timed(side: str, work: Path) -> tuple[float, float]:
    """Returns the seconds of one run in an empty folder, and those of its work alone."""
    out = work / side
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    start = time.perf_counter()
    command = [sys.executable, "-m", "tests.bench.encode_sides", side, str(work)]
    subprocess.run(command, check=True, cwd=ROOT, capture_output=True)
    return round(time.perf_counter() - start, 2), round(float((out / "seconds").read_text()), 2)


def _prepare(shared: Path, work: Path, num_bytes: int, split: str) -> dict[str, Any]:
    """Writes the inputs, and returns what they are."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = list(documents(shared / "corpus", work / "ingest", num_bytes, EVERY, WORKERS))
    found = lines(rows)
    (work / "all.jsonl").write_text("".join(found), encoding="utf-8")
    (work / "some.jsonl").write_text("".join(found[::8]), encoding="utf-8")
    corpus, tokenizer = _artifacts(work, split)
    folders = {"corpus": str(corpus.path), "tokenizer": str(tokenizer.path)}
    (work / "artifacts.json").write_text(json.dumps(folders), encoding="utf-8")
    shutil.copytree(tokenizer.path, work / "tokenizer")
    (work / "parts").mkdir()
    for part in range(WORKERS):
        pq.write_table(pa.Table.from_pylist(rows[part::WORKERS]), work / "parts" / f"{part}.parquet", compression="zstd")
    size = {lang: sum(len(row["text"].encode()) for row in rows if row["lang"] == lang) / 1e6 for lang in ("zh", "en")}
    return {"documents": len(rows), "megabytes": size, "sha256": digest(found)}


def _num_equal(work: Path) -> dict[str, int]:
    """Returns how many documents have the ids of `tokenizers` in our shards, and how many there are."""
    from tasks.tokenization.training import load_plain

    model = load_plain(work / "tokenizer")
    texts = {row["id"]: row["text"] for row in map(json.loads, (work / "all.jsonl").open(encoding="utf-8"))}
    ids = dict(_our_ids(work))
    names = list(texts)
    equal = 0
    for start in range(0, len(names), 1_000):
        part = names[start : start + 1_000]
        sure = model.encode_batch_fast([texts[name] for name in part], add_special_tokens=False)
        equal += sum(np.array_equal(ids[name], one.ids) for name, one in zip(part, sure, strict=True))
    return {"equal": equal, "documents": len(names)}


def _our_ids(work: Path) -> Iterator[tuple[str, Any]]:
    from tasks.core.shards import HEADER, shard_paths
    from tasks.core.tables import read_rows

    (folder,) = (path for path in (work / "ours" / "store" / "tokenized-corpus").iterdir() if path.is_dir())
    for split in ("train", "validation", "test"):
        tokens = np.concatenate([np.fromfile(path, np.uint16, offset=HEADER.size) for path in shard_paths(folder, split)])
        start = 0
        for row in read_rows(folder / f"documents-{split}.parquet"):
            yield row["id"], tokens[start : start + row["num_tokens"] - 1]
            start += row["num_tokens"]


def main() -> None:
    """Runs the sides in turn, `--rounds` times, and notes the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mb", type=float, default=8, help="size of the input in MB (10**6 bytes); 64 for the figure")
    parser.add_argument("--rounds", type=int, default=1, help="runs of each side")
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared" / "data", help="folder of the shared data")
    parser.add_argument("--split", choices=("llama3", "han_runs"), default="llama3", help="how the tokenizer splits text")
    settings = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        about = _prepare(settings.shared, work, int(settings.mb * 1e6), settings.split)
        sides = [side for side in SIDES if side != "bound" or settings.split == "llama3"]
        seconds: dict[str, list[float]] = {side: [] for side in sides}
        work_seconds: dict[str, list[float]] = {side: [] for side in sides}
        for _ in range(settings.rounds):
            for side in sides:
                whole_s, work_s = _timed(side, work)
                seconds[side].append(whole_s)
                work_seconds[side].append(work_s)
        equal = _num_equal(work)
    against = {side: ratios(seconds["ours"], seconds[side]) for side in sides[1:]}
    work_against = {side: ratios(work_seconds["ours"], work_seconds[side]) for side in sides[1:]}
    figures = {
        "input": about,
        "workers": WORKERS,
        "split": settings.split,
        "seconds": seconds,
        "work_seconds": work_seconds,
        "against": against,
        "work_against": work_against,
        "ids": equal,
    }
    note("encode", ("datatrove", "datasets", "tokenizers", "gigatoken"), figures)


if __name__ == "__main__":
    main()
