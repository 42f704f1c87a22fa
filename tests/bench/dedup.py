"""Near-duplicates: our dedup stage beside datatrove's four MinHash stages, on one input, alternated in one run.

In: `--documents N`. Out: a table, and one JSON line in `results/dedup.jsonl`. Both get documents of sentences drawn from the
shared English texts (fixed seed), a tenth of which are edited copies of others and a twentieth share half their text with
another. Both use 5-grams of words, 14 bands of 8 rows, 64 bits, and two processes; both read files and write what they keep.
Invariant: no ratio is printed unless our recall and our precision on the planted pairs are at least datatrove's.
"""

import argparse
import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tasks.cleaning import DedupSpec, dedup
from tasks.cleaning.shingles import jaccard, shingle_sets
from tasks.contracts import FilteredCorpus
from tasks.core.site import Site
from tasks.core.tables import read_rows
from tasks.core.text import normalized
from tests.bench.corpus import BenchSpec, digest, filtered_corpus
from tests.bench.result import note, ratios
from tests.conftest import ROOT

WORKERS, NGRAM, BANDS, ROWS, THRESHOLD = 2, 5, 14, 8, 0.8
Row = dict[str, str]


def sentences(shared: Path) -> list[str]:
    """Sentences of at least four words from the shared English texts."""
    texts = [json.loads(line)["text"] for line in (shared / "c4_demo.jsonl").read_text(encoding="utf-8").splitlines()]
    texts += [(shared / name).read_text(encoding="utf-8") for name in ("wiki_demo.txt", "tinyshakespeare.txt")]
    found = (part.strip() for text in texts for part in text.replace("\n", " ").split(". "))
    return sorted({part for part in found if len(part.split()) >= 4 and len(part) < 400})


def edited(text: str, share: float, choose: random.Random) -> str:
    """The text with some of its words, chosen one by one, replaced."""
    words = text.split()
    for place in range(len(words)):
        if choose.random() < share:
            words[place] = f"word{choose.randrange(1_000_000)}"
    return " ".join(words)


def documents(number: int, pool: Sequence[str]) -> tuple[list[Row], list[tuple[str, str]]]:
    """Returns documents in an order of their own, and the pairs that share much of their text."""
    choose = random.Random(0)
    texts = [". ".join(choose.choices(pool, k=choose.randrange(8, 24))) for _ in range(number - number // 10 - number // 20)]
    copied = choose.sample(range(len(texts)), number // 10 + number // 20)
    rows = [{"id": f"d{place:06d}", "text": text} for place, text in enumerate(texts)]
    pairs = []
    for count, place in enumerate(copied):
        half = texts[place][: len(texts[place]) // 2] + ". " + ". ".join(choose.choices(pool, k=6))
        text = edited(texts[place], choose.uniform(0, 0.03), choose) if count < number // 10 else half
        pairs.append((rows[place]["id"], f"d{len(rows):06d}"))
        rows.append({"id": pairs[-1][1], "text": text})
    choose.shuffle(rows)
    return rows, pairs


def similarities(rows: Sequence[Row], pairs: Sequence[tuple[str, str]]) -> list[float]:
    """The true Jaccard similarity of each pair."""
    sets = dict(
        zip((row["id"] for row in rows), shingle_sets([normalized(row["text"]) for row in rows], NGRAM, False), strict=True)
    )
    return [jaccard(sets[first], sets[second]) for first, second in pairs]


def ours(corpus: FilteredCorpus, folder: Path) -> set[str]:
    """Ids that our stage keeps."""
    near = {"num_bands": BANDS, "rows_per_band": ROWS, "words_per_shingle": NGRAM, "threshold": THRESHOLD}
    site = Site(state_dir=folder / "state", data_workers=WORKERS)
    made = dedup.build(DedupSpec.model_validate({"near": near}), corpus, site=site)
    return {row["id"] for row in read_rows(made.path / "documents", ["id"])}


def datatrove(files: Path, folder: Path) -> set[str]:
    """Ids that datatrove's signature, buckets, cluster and filter stages keep, in the way its example runs them."""
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.dedup import MinhashDedupBuckets, MinhashDedupCluster, MinhashDedupFilter, MinhashDedupSignature
    from datatrove.pipeline.dedup.minhash import MinhashConfig
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.writers import JsonlWriter
    from datatrove.utils.hashing import HashConfig

    config = MinhashConfig(
        n_grams=NGRAM, num_buckets=BANDS, hashes_per_bucket=ROWS, hash_config=HashConfig(precision=64, hash_fc="xxhash")
    )
    signatures, buckets, removed, kept = (str(folder / name) for name in ("signatures", "buckets", "remove", "kept"))
    every = {"config": config, "lines_to_buffer": -1}
    steps: list[tuple[int, list[Any]]] = [
        (WORKERS, [JsonlReader(str(files)), MinhashDedupSignature(output_folder=signatures, config=config)]),
        (BANDS, [MinhashDedupBuckets(input_folder=signatures, output_folder=buckets, **every)]),
        (1, [MinhashDedupCluster(input_folder=buckets, output_folder=removed, **every)]),
        (WORKERS, [JsonlReader(str(files)), MinhashDedupFilter(input_folder=removed), JsonlWriter(kept, compression=None)]),
    ]
    for number, (tasks, pipeline) in enumerate(steps):
        LocalPipelineExecutor(pipeline, tasks=tasks, workers=WORKERS, logging_dir=str(folder / f"log{number}")).run()
    lines = (line for path in Path(kept).glob("*.jsonl") for line in path.read_text(encoding="utf-8").splitlines())
    return {json.loads(line)["id"] for line in lines}


def judged(kept: set[str], rows: Sequence[Row], pairs: Sequence[tuple[str, str]], real: Sequence[float]) -> dict[str, float]:
    """Recall on the planted pairs at the threshold or above; precision over all documents removed."""
    found = [not {first, second} <= kept for first, second in pairs]
    above = [similarity >= THRESHOLD for similarity in real]
    right = sum(hit and true for hit, true in zip(found, above, strict=True))
    return {"recall": right / sum(above), "precision": right / max(1, len(rows) - len(kept)), "removed": len(rows) - len(kept)}


def timed(function: Callable[[Path], set[str]], folder: Path) -> tuple[float, set[str]]:
    """Seconds and result of one run in an empty folder."""
    folder.mkdir()
    start = time.perf_counter()
    kept = function(folder)
    return time.perf_counter() - start, kept


def measure(number: int, repeats: int, shared: Path, folder: Path) -> dict[str, Any]:
    """Runs both `repeats` times, one after the other, and compares decisions and times."""
    rows, pairs = documents(number, sentences(shared / "corpus"))
    real = similarities(rows, pairs)
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "in").mkdir()
    for part in range(WORKERS):
        lines = text.splitlines(keepends=True)[part::WORKERS]
        (folder / "in" / f"{part}.jsonl").write_text("".join(lines), encoding="utf-8")
    (folder / "all.jsonl").write_text(text, encoding="utf-8")
    corpus = filtered_corpus.build(BenchSpec(path=str(folder / "all.jsonl")), site=Site(state_dir=folder / "input"))
    sides: dict[str, Callable[[Path], set[str]]] = {"ours": partial(ours, corpus), "datatrove": partial(datatrove, folder / "in")}
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    decisions: dict[str, dict[str, float]] = {}
    for turn in range(repeats):
        for name, function in sides.items():
            spent, kept = timed(function, folder / f"{name}-{turn}")
            seconds[name].append(round(spent, 2))
            decisions[name] = judged(kept, rows, pairs, real)
    better = all(decisions["ours"][name] >= decisions["datatrove"][name] for name in ("recall", "precision"))
    return {
        "documents": number,
        "megabytes": round(len(text) / 1e6, 1),
        "input_digest": digest([text]),
        "pairs_at_threshold": sum(similarity >= THRESHOLD for similarity in real),
        "seconds": seconds,
        "decisions": decisions,
        "documents_per_second": {name: round(number / statistics.median(found)) for name, found in seconds.items()},
        "against": ratios(seconds["ours"], seconds["datatrove"]) if better else None,
    }


def main() -> None:
    """Runs the comparison and notes its result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=2_000, help="2,000 for a look, 20,000 for the figure")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared" / "data")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        result = measure(chosen.documents, chosen.repeats, chosen.shared, Path(name))
    note("dedup", ("datatrove", "rensa", "numpy"), result)


if __name__ == "__main__":
    main()
