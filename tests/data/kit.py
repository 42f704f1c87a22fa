"""Small corpora written by hand, and the chain of data stages over them."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tasks.cleaning import CleanSpec, DedupSpec, clean, dedup
from tasks.contracts import CleanCorpus, FilteredCorpus, RawCorpus
from tasks.core.artifact import Artifact
from tasks.core.site import Site
from tasks.core.tables import Row, read_rows
from tasks.ingest import FilesSource, IngestSpec, ingest

PROSE = (
    "The kernel starts the first process, and that process starts all the others. When a service ends, its parent is told, "
    "and it may be started again. The administrator reads the log to see what happened and why. "
)
WORDS = (
    *("alpha", "bravo", "charlie", "delta", "echo", "foxtrot", "golf", "hotel", "india", "juliett", "kilo", "lima"),
    *("mike", "november", "oscar", "papa", "quebec", "romeo"),
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


def documents(corpus: Artifact, columns: Sequence[str] | None = None) -> list[Row]:
    return list(read_rows(corpus.path / "documents", columns))


def english(number: int) -> str:
    """A text that is like no other one: words and their order depend on the number."""
    words = [WORDS[(number * (place + 3) + place * place) % len(WORDS)] for place in range(40)]
    return f"{PROSE} In case {number} they said {' '.join(words)} and then {number * 7919} more."


def chinese(number: int) -> str:
    chars = "天地玄黄宇宙洪荒日月盈昃辰宿列张寒来暑往秋收冬藏闰余成岁律吕调阳云腾致雨露结为霜金生丽水玉出昆冈"
    return "".join(chars[(number * (place + 5) + place * place * 3) % len(chars)] for place in range(60)) + f"第{number}章。"
