"""Small corpora written by hand, and the chain of data stages over them."""

import json
import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tasks.bases import BaseSpec, adopt_base
from tasks.cleaning import CleanSpec, DedupSpec, clean, dedup
from tasks.contracts import Checkpoint, CleanCorpus, FilteredCorpus, RawCorpus
from tasks.core.artifact import Artifact
from tasks.core.site import Site
from tasks.core.tables import Row, read_rows
from tasks.ingest import FilesSource, IngestSpec, ingest

PROSE = (
    "The kernel starts the first process, and that process starts all the others. When a service ends, its parent is told, "
    "and it may be started again. The administrator reads the log to see what happened and why. Most of the time there is "
    "nothing to be done, because the cause has gone by then. A disk that is full is another matter: it must be cleaned "
    "before anything else can work. Then the services that failed have to be started by hand. "
)
WORDS = (
    "the of and to in that it is was for with as his on be at by this had not are but from or have an they which one you were "
    "her all she there would their we him been has when who will more no if out so said what up its about into than them can "
    "only other new some could time these two may then do first any my now such like our over man me even most made after"
)


def write_jsonl(path: Path, rows: Iterable[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def source(*paths: Path, **changes: Any) -> FilesSource:
    settings = {"kind": "files", "name": "test", "licence": "CC0-1.0", "paths": tuple(map(str, paths))}
    return FilesSource.model_validate(settings | changes)


def read(site: Site, *paths: Path, **changes: Any) -> RawCorpus:
    return ingest.build(IngestSpec(sources=(source(*paths, **changes),)), site=site)


def raw_of(site: Site, folder: Path, rows: Iterable[Any]) -> RawCorpus:
    return read(site, write_jsonl(folder / "raw.jsonl", rows))


def filtered_of(site: Site, folder: Path, rows: Iterable[Any], **settings: Any) -> FilteredCorpus:
    return clean.build(CleanSpec.model_validate({"filters": []} | settings), raw_of(site, folder, rows), site=site)


def clean_of(site: Site, folder: Path, rows: Iterable[Any], **settings: Any) -> CleanCorpus:
    return dedup.build(DedupSpec.model_validate(settings), filtered_of(site, folder, rows), site=site)


def no_base(site: Site) -> Checkpoint:
    """What the chain passes on where a recipe names no base."""
    return adopt_base.build(BaseSpec(), site=site)


def documents(corpus: Artifact, columns: Sequence[str] | None = None) -> list[Row]:
    return list(read_rows(corpus.path / "documents", columns))


def english(number: int) -> str:
    """A text that is like no other one."""
    choose = random.Random(number)
    return " ".join(" ".join(choose.choices(WORDS.split(), k=12)).capitalize() + "." for _ in range(8)) + f" Then {number} came."


def chinese(number: int) -> str:
    """A text that is like no other one."""
    choose = random.Random(number)
    return (
        "，".join("".join(choose.choices("天地玄黄宇宙洪荒日月盈昃辰宿列张寒来暑往秋收冬藏", k=8)) for _ in range(9))
        + f"第{number}章。"
    )
