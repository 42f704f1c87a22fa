"""Inputs of the benches: documents of the shared data and of this machine's man pages, as our ingest reads them.

In: the shared data folder, languages, a size. Out: documents in an order drawn with a fixed seed, and their digest. Man pages
are those of the installed Debian packages (install e.g. `manpages`, `manpages-dev`, `perl-doc` for more).
"""

import json
import random
from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from tasks.contracts import CleanCorpus, FilteredCorpus
from tasks.core.artifact import Spec
from tasks.core.site import Site
from tasks.core.stage import StageContext, stage
from tasks.core.tables import Row, read_rows, write_table
from tasks.ingest import IngestSpec, ingest

MAN_PAGES = Path("/usr/share/man")
SOURCES: tuple[dict[str, Any], ...] = (
    {"name": "web", "paths": ["c4_demo.jsonl"], "lang": "en"},
    {"name": "articles", "paths": ["wiki_demo.txt"], "format": "lines", "lang": "en"},
    {"name": "wikipedia", "paths": ["enwiki_raw_shard.xml.bz2"], "lang": "en"},
    {"name": "mail", "paths": ["spamassassin_part1.jsonl.gz"], "mail": {"quoting": "drop"}, "lang": "en"},
    {"name": "poetry", "paths": ["chinese_poetry_sample.jsonl.gz"], "lang": "zh"},
    {"name": "commands", "paths": ["linux_command_zh.jsonl.gz"], "lang": "zh"},
    {"name": "man-zh", "paths": ["manpages_zh.jsonl.gz"], "lang": "zh"},
    {"name": "debian", "paths": ["debian_docs_zh_en.jsonl.gz"], "lang": "zh"},
)


def documents(shared: Path, state: Path, num_bytes: int, names: Sequence[str], workers: int) -> Iterator[dict[str, str]]:
    """Yields documents (id, text, lang) until they hold `num_bytes` of UTF-8, or all there are.

    Args:
        shared: Folder `corpus` of the shared data.
        state: State folder of the ingest stage.
        num_bytes: UTF-8 bytes wanted.
        names: Sources, of `SOURCES` and man.
        workers: Processes that read.
    """
    sources = [one | {"paths": [str(shared / path) for path in one["paths"]]} for one in SOURCES if one["name"] in names]
    if "man" in names and MAN_PAGES.is_dir():
        sources.append({"name": "man", "paths": [str(MAN_PAGES / "man[1358]" / "*.gz")], "format": "man", "lang": "en"})
    spec = IngestSpec.model_validate({"sources": [one | {"kind": "files", "licence": "mixed"} for one in sources]})
    raw = ingest.build(spec, site=Site(state_dir=state, data_workers=workers))
    rows = list(read_rows(raw.path / "documents", ["id", "lang", "text"]))
    random.Random(0).shuffle(rows)
    for row in rows:
        yield row
        num_bytes -= len(row["text"].encode("utf-8"))
        if num_bytes <= 0:
            return


def lines(rows: Iterable[Row]) -> list[str]:
    """Returns documents as JSON lines."""
    return [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]


def digest(found: Iterable[str]) -> str:
    """Returns the digest of lines."""
    hashed = sha256()
    for line in found:
        hashed.update(line.encode("utf-8"))
    return hashed.hexdigest()


class BenchSpec(Spec):
    """JSON lines (id, text, perhaps lang) that stand for a stage's output."""

    path: str


_ABOUT = {"source": "bench", "licence": "mixed", "lang": "en"}
_COLUMNS = dict.fromkeys(("id", "source", "licence", "lang", "text"), "string")


def _rows(spec: BenchSpec) -> list[Row]:
    with Path(spec.path).open(encoding="utf-8") as file:
        return [_ABOUT | json.loads(line) for line in file]


@stage(version=1)
def filtered_corpus(spec: BenchSpec, *, ctx: StageContext) -> FilteredCorpus:
    """The documents, taken as they are."""
    rows = _rows(spec)
    write_table(ctx.dir / "documents", _COLUMNS, rows)
    counts = {"num_documents_in": len(rows), "num_documents": len(rows), "num_bytes": _num_bytes(rows)}
    return ctx.commit(FilteredCorpus, **counts, drops_by_reason={}, masked={}, documents_by_language={})


@stage(version=1)
def clean_corpus(spec: BenchSpec, *, ctx: StageContext) -> CleanCorpus:
    """The documents, all of them in the training split but each fiftieth."""
    rows = _rows(spec)
    splits = ["test" if number % 50 == 1 else "validation" if number % 50 == 0 else "train" for number in range(len(rows))]
    placed = [row | {"cluster": row["id"], "split": split} for row, split in zip(rows, splits, strict=True)]
    write_table(ctx.dir / "documents", _COLUMNS | {"cluster": "string", "split": "string"}, placed)
    return ctx.commit(
        CleanCorpus,
        num_documents_in=len(rows),
        num_documents=len(rows),
        num_bytes=_num_bytes(rows),
        removed_by_reason={},
        documents_by_split={split: splits.count(split) for split in ("train", "validation", "test")},
        documents_by_language={},
        documents_by_source={},
    )


def _num_bytes(rows: Iterable[Row]) -> int:
    return sum(len(row["text"].encode("utf-8")) for row in rows)
