"""Ingest: text as users have it becomes documents with id, source, licence and language hint.

In: sources. Out: `RawCorpus`. Invariants: every record seen is either a document or a row of the quarantine with its
reason, each counted from the rows that lie on disk; the output does not depend on the number of workers; reading stops only
where nothing at all could be read.
"""

import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from hashlib import blake2b
from heapq import merge
from operator import itemgetter
from pathlib import Path
from typing import Any

from tasks.contracts import RawCorpus
from tasks.core.errors import ContractError
from tasks.core.inputs import check_unchanged
from tasks.core.stage import NETWORK, StageContext, stage
from tasks.core.tables import Row, TableWriter, num_rows, read_rows, table_files
from tasks.core.text import one_line
from tasks.core.workers import run_jobs
from tasks.ingest.pieces import DOCUMENTS, QUARANTINE, Piece, cut, read_piece, workers_for
from tasks.ingest.sources import HubSource, IngestSpec, source_files

_WORK = "work"
_PACKAGES = ("pyarrow", "charset-normalizer", "warcio", "mwparserfromhell")


@stage(version=5, name="ingest", retry=NETWORK, packages=_PACKAGES)
def ingest(spec: IngestSpec, *, ctx: StageContext) -> RawCorpus:
    """Reads every source; what cannot be read is set aside with its reason.

    Raises:
        ContractError: No record at all became a document, or a file changed while it was read.
        TransientError: The hub or a remote store could not be reached.
    """
    pieces = cut(spec, ctx.dir / _WORK)
    waiting = [piece for piece in pieces if not piece.is_done]
    for done in run_jobs(read_piece, waiting, workers_for(waiting, ctx.site.data_workers)):
        ctx.progress(len(pieces) - len(waiting) + done, len(pieces), "pieces")
    _put_together(pieces, ctx.dir)
    for source in spec.sources:
        if not isinstance(source, HubSource):
            check_unchanged(f"source {source.name}", source.digest, source_files(source), ctx.site)
    facts = _facts(spec, ctx.dir) | {"num_records": sum(piece.num_records for piece in pieces)}
    _require_documents(spec, facts)
    shutil.rmtree(ctx.dir / _WORK)
    return ctx.commit(RawCorpus, **facts)


def _put_together(pieces: Sequence[Piece], folder: Path) -> None:
    """Writes the rows of all pieces in their order; of documents of one id the first is kept."""
    seen: set[bytes] = set()
    with ExitStack() as stack:
        documents = stack.enter_context(TableWriter(folder / "documents", DOCUMENTS))
        quarantine = stack.enter_context(TableWriter(folder / "quarantine.parquet", QUARANTINE))
        for row in (row for piece in pieces for row in _rows_in_order(piece)):
            if "reason" in row:
                quarantine.write(_only(row, QUARANTINE))
            elif (key := blake2b(row["id"].encode(), digest_size=16).digest()) in seen:
                quarantine.write(_only(row | {"reason": "duplicate_id", "detail": one_line(row["id"])}, QUARANTINE))
            else:
                seen.add(key)
                documents.write(_only(row, DOCUMENTS))


def _rows_in_order(piece: Piece) -> Iterator[Row]:
    parts = (read_rows(piece.file(f"{what}.parquet")) for what in ("documents", "quarantine"))
    return merge(*parts, key=itemgetter("position"))


def _only(row: Row, columns: dict[str, str]) -> Row:
    return {name: row[name] for name in columns}


def _facts(spec: IngestSpec, folder: Path) -> dict[str, Any]:
    """Counts what lies on disk."""
    documents: Counter[str] = Counter()
    licences: dict[str, set[str]] = {source.name: set() for source in spec.sources}
    for row in read_rows(folder / "documents", ["source", "licence"]):
        documents[row["source"]] += 1
        licences[row["source"]].add(row["licence"])
    reasons = Counter(row["reason"] for row in read_rows(folder / "quarantine.parquet", ["reason"]))
    return {
        "num_documents": num_rows(folder / "documents"),
        "num_bytes": _text_bytes(folder / "documents"),
        "quarantined": dict(sorted(reasons.items())),
        "documents_by_source": {source.name: documents[source.name] for source in spec.sources},
        "licences": {source.name: "; ".join(sorted(licences[source.name])) or source.licence for source in spec.sources},
    }


def _text_bytes(documents: Path) -> int:
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    total = 0
    for path in table_files(documents):
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(columns=["text"]):
                total += pc.sum(pc.binary_length(batch.column(0))).as_py() or 0
    return total


def _require_documents(spec: IngestSpec, facts: dict[str, Any]) -> None:
    if facts["num_documents"]:
        return
    names = ", ".join(source.name for source in spec.sources)
    reasons = Counter(facts["quarantined"])
    why = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common(5)) or "the sources hold no record"
    raise ContractError(f"nothing could be read from {names}: {why}; the partial artifact's quarantine.parquet has each case")
