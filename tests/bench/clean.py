"""Filters: our blocks beside datatrove's own, on one input of real English text, alternated in one run.

In: `--mb N`. Out: a table, and one JSON line in `results/clean.jsonl`. Both run Gopher's repetition and quality rules, C4's and
FineWeb's with FineWeb's settings as blocks of the same LocalPipelineExecutor on the same shards, and note each decision in the
same way. Input: the shared web pages, Wikipedia articles and mails and the machine's man pages, as our ingest reads them,
in an order drawn with a fixed seed. Invariant: every document is compared; where decisions differ, its rules are listed.

Seconds are wall-clock with start-up; CPU seconds are those of the pipeline's processes, which other work disturbs less.
"""

import argparse
import json
import os
import random
import resource
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

from datatrove.data import Document
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.filters import C4QualityFilter, FineWebQualityFilter, GopherQualityFilter, GopherRepetitionFilter
from datatrove.pipeline.readers import JsonlReader

from tasks.cleaning.blocks import C4Block, FineWebBlock, QualityBlock, RepetitionBlock
from tasks.core.provenance import source_state
from tasks.core.site import Site
from tasks.core.tables import read_rows
from tasks.ingest import IngestSpec, ingest
from tests.conftest import ROOT

WORKERS, SHARDS = 2, 4
RESULTS = Path(__file__).parent / "results" / "clean.jsonl"
MAN_PAGES = Path("/usr/share/man")
FINEWEB_C4 = {"filter_no_terminal_punct": False}
THEIRS = [(GopherRepetitionFilter, {}), (GopherQualityFilter, {}), (C4QualityFilter, FINEWEB_C4), (FineWebQualityFilter, {})]
OURS = [(RepetitionBlock, {}), (QualityBlock, {}), (C4Block, FINEWEB_C4), (FineWebBlock, {})]
NAMES = ("gopher_repetition", "gopher_quality", "c4", "fineweb_quality")
SOURCES: tuple[dict[str, Any], ...] = (
    {"name": "web", "paths": ["c4_demo.jsonl"]},
    {"name": "articles", "paths": ["wiki_demo.txt"], "format": "lines"},
    {"name": "wikipedia", "paths": ["enwiki_raw_shard.xml.bz2"]},
    {"name": "mail", "paths": ["spamassassin_part1.jsonl.gz"], "mail": {"quoting": "drop"}},
)


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


def documents(shared: Path, state: Path, num_bytes: int, names: Sequence[str]) -> Iterator[dict[str, str]]:
    """Yields English documents until they hold `num_bytes` of UTF-8, or all there are."""
    sources = [one | {"paths": [str(shared / path) for path in one["paths"]]} for one in SOURCES if one["name"] in names]
    if "man" in names and MAN_PAGES.is_dir():
        sources.append({"name": "man", "paths": [str(MAN_PAGES / "man[1358]" / "*.gz")], "format": "man"})
    about = {"kind": "files", "licence": "mixed", "lang": "en"}
    spec = IngestSpec.model_validate({"sources": [one | about for one in sources]})
    raw = ingest.build(spec, site=Site(state_dir=state, data_workers=WORKERS))
    rows = list(read_rows(raw.path / "documents", ["id", "text"]))
    random.Random(0).shuffle(rows)
    for row in rows:
        yield row
        num_bytes -= len(row["text"].encode("utf-8"))
        if num_bytes <= 0:
            return


def write_shards(rows: list[dict[str, str]], folder: Path) -> str:
    """Writes the documents dealt out over shards and returns the digest of all of them."""
    folder.mkdir()
    digest = sha256()
    files = [(folder / f"{number:02d}.jsonl").open("w", encoding="utf-8") for number in range(SHARDS)]
    for number, row in enumerate(rows):
        line = json.dumps(row, ensure_ascii=False) + "\n"
        digest.update(line.encode("utf-8"))
        files[number % SHARDS].write(line)
    for file in files:
        file.close()
    return digest.hexdigest()


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


def hardware() -> str:
    """Returns processor and number of cores."""
    names = [line for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if line.startswith("model name")]
    return f"{names[0].partition(':')[2].strip()}, {os.cpu_count()} cores"


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
        rows = list(documents(settings.shared / "corpus", work / "state", int(settings.mb * 1e6), settings.sources.split(",")))
        megabytes = sum(len(row["text"].encode("utf-8")) for row in rows) / 1e6
        digest = write_shards(rows, work / "shards")
        seconds: dict[str, list[float]] = {"ours": [], "datatrove": [], "ours_cpu": [], "datatrove_cpu": []}
        for number in range(settings.rounds):
            decisions = {}
            for side, filters in (("ours", OURS), ("datatrove", THEIRS)):
                decisions[side], wall_s, cpu_s = run(filters, work / "shards", work / f"{side}{number}")
                seconds[side].append(wall_s)
                seconds[f"{side}_cpu"].append(cpu_s)
        found = compared([row["id"] for row in rows], decisions["ours"], decisions["datatrove"])
    middle = {side: statistics.median(values) for side, values in seconds.items()}
    result = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": source_state()["commit"],
        "dirty": source_state()["dirty"],
        "hardware": hardware(),
        "load": os.getloadavg()[0],
        "versions": {package: version(package) for package in ("datatrove", "spacy", "numpy")},
        "input": {"megabytes": megabytes, "documents": len(rows), "sources": settings.sources, "sha256": digest},
        "workers": WORKERS,
        "seconds": seconds,
        "mb_per_s": {side: megabytes / middle[side] for side in ("ours", "datatrove")},
        "ratio": middle["datatrove"] / middle["ours"],
        "cpu_ratio": middle["datatrove_cpu"] / middle["ours_cpu"],
    } | found
    RESULTS.parent.mkdir(exist_ok=True)
    with RESULTS.open("a", encoding="utf-8") as file:
        file.write(json.dumps(result, ensure_ascii=False) + "\n")
    print(json.dumps(result, ensure_ascii=False, indent=1))


if __name__ == "__main__":
    main()
