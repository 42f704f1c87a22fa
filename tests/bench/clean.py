"""Filters: our blocks beside datatrove's own, on one input of real English text, alternated in one run.

In: `--mb N`. Out: a table, and one JSON line in `results/clean.jsonl`. Both run Gopher's quality and repetition rules, C4's and
FineWeb's with FineWeb's settings as blocks of the same LocalPipelineExecutor on the same shards, in the order that is cheapest
for both and keeps what FineWeb's keeps, and note each decision in the same way. Input: the shared web pages, Wikipedia articles
and mails and the machine's man pages, as our ingest reads them, in an order drawn with a fixed seed. Invariant: every document is
compared; where decisions differ, its rules are listed.

Seconds are wall-clock with start-up; CPU seconds are those of the pipeline's processes, which other work disturbs less.
"""

import argparse
import resource
import statistics
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any, Self

from datatrove.data import Document
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.filters import C4QualityFilter, FineWebQualityFilter, GopherQualityFilter, GopherRepetitionFilter
from datatrove.pipeline.readers import JsonlReader

from tasks.cleaning.blocks import C4Block, FineWebBlock, QualityBlock, RepetitionBlock
from tests.bench.corpus import digest, documents, lines
from tests.bench.result import note
from tests.conftest import ROOT

WORKERS, SHARDS = 2, 4
FINEWEB_C4 = {"filter_no_terminal_punct": False}
THEIRS = [(GopherQualityFilter, {}), (GopherRepetitionFilter, {}), (C4QualityFilter, FINEWEB_C4), (FineWebQualityFilter, {})]
OURS = [(QualityBlock, {}), (RepetitionBlock, {}), (C4Block, FINEWEB_C4), (FineWebBlock, {})]
NAMES = ("gopher_quality", "gopher_repetition", "c4", "fineweb_quality")


class Notes:
    """Takes the place of a writer: one line a document that a filter drops, id and reason."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """Every line is written when it is noted."""

    def write(self, document: Document, rank: int = 0) -> None:
        with (self.folder / f"{rank}.tsv").open("a", encoding="utf-8") as notes:
            notes.write(f"{document.id}\t{self.name}:{document.metadata['filter_reason']}\n")


def write_shards(rows: list[dict[str, str]], folder: Path) -> str:
    """Writes the documents dealt out over shards and returns the digest of all of them."""
    folder.mkdir()
    found = lines({"id": row["id"], "text": row["text"]} for row in rows)
    for number in range(SHARDS):
        (folder / f"{number:02d}.jsonl").write_text("".join(found[number::SHARDS]), encoding="utf-8")
    return digest(found)


def run(filters: list[Any], shards: Path, folder: Path) -> tuple[dict[str, str], float, float]:
    """Returns the reason of each document dropped, seconds and CPU seconds of one pipeline."""
    folder.mkdir()
    blocks = [
        make(exclusion_writer=Notes(folder, name), **settings) for name, (make, settings) in zip(NAMES, filters, strict=True)
    ]
    pipeline = LocalPipelineExecutor(
        pipeline=[JsonlReader(str(shards)), *blocks],
        tasks=SHARDS,
        workers=WORKERS,
        logging_dir=str(folder / "logs"),
        start_method="fork",
    )
    start, cpu_before = time.monotonic(), _cpu_s()
    pipeline.run()
    seconds, cpu_s = time.monotonic() - start, _cpu_s() - cpu_before
    lines = [line for path in sorted(folder.glob("*.tsv")) for line in path.read_text(encoding="utf-8").splitlines()]
    return dict(line.split("\t") for line in lines), seconds, cpu_s


def _cpu_s() -> float:
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_CHILDREN, resource.RUSAGE_SELF)]
    return sum(one.ru_utime + one.ru_stime for one in spent)


def compared(ids: list[str], ours: dict[str, str], theirs: dict[str, str]) -> dict[str, Any]:
    """Returns how many decisions and reasons are equal, and which rules differ on which documents."""
    differing = [one for one in ids if (one in ours) != (one in theirs)]
    rules = Counter(f"{theirs.get(one, 'kept')} -> {ours.get(one, 'kept')}" for one in differing)
    return {
        "agreement": 1 - len(differing) / len(ids),
        "same_reason": sum(ours.get(one) == theirs.get(one) for one in ids) / len(ids),
        "dropped": {"ours": len(ours), "datatrove": len(theirs)},
        "differences": dict(rules.most_common()),
        "differing_ids": differing[:20],
    }


def main() -> None:
    """Runs both sides `--rounds` times, one after the other, and writes the result down."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mb", type=float, default=3, help="size of the input in MB (10**6 bytes)")
    parser.add_argument("--sources", default="web,articles,wikipedia,mail", help="of these and man (for 20 MB and more)")
    parser.add_argument("--rounds", type=int, default=1, help="runs of each side")
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared" / "data", help="folder of the shared data")
    settings = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        names = settings.sources.split(",")
        rows = list(documents(settings.shared / "corpus", work / "state", int(settings.mb * 1e6), names, WORKERS))
        megabytes = sum(len(row["text"].encode("utf-8")) for row in rows) / 1e6
        sha256 = write_shards(rows, work / "shards")
        seconds: dict[str, list[float]] = {"ours": [], "datatrove": [], "ours_cpu": [], "datatrove_cpu": []}
        for number in range(settings.rounds):
            decisions = {}
            for side, filters in (("ours", OURS), ("datatrove", THEIRS)):
                decisions[side], wall_s, cpu_s = run(filters, work / "shards", work / f"{side}{number}")
                seconds[side].append(wall_s)
                seconds[f"{side}_cpu"].append(cpu_s)
        found = compared([row["id"] for row in rows], decisions["ours"], decisions["datatrove"])
    middle = {side: statistics.median(values) for side, values in seconds.items()}
    figures = {
        "input": {"megabytes": megabytes, "documents": len(rows), "sources": settings.sources, "sha256": sha256},
        "workers": WORKERS,
        "seconds": seconds,
        "mb_per_s": {side: megabytes / middle[side] for side in ("ours", "datatrove")},
        "ratio": middle["datatrove"] / middle["ours"],
        "cpu_ratio": middle["datatrove_cpu"] / middle["ours_cpu"],
    } | found
    note("clean", ("datatrove", "spacy", "numpy"), figures)


if __name__ == "__main__":
    main()
