"""Ingest: text as users have it becomes documents with id, source, licence and language hint.

In: sources. Out: `RawCorpus`. Invariant: every record seen is either a document or a row of the quarantine with its
reason; reading stops only where nothing at all could be read.
"""

from collections import Counter
from contextlib import ExitStack
from dataclasses import replace
from hashlib import blake2b
from typing import Any

from tasks.contracts import RawCorpus
from tasks.core.errors import ContractError
from tasks.core.inputs import check_unchanged
from tasks.core.stage import NETWORK, StageContext, stage
from tasks.core.tables import TableWriter
from tasks.core.text import one_line
from tasks.ingest.readers import Record, read_records
from tasks.ingest.sources import HubSource, IngestSpec, source_files

DOCUMENTS = dict.fromkeys(("id", "source", "licence", "lang", "format", "text"), "string")
QUARANTINE = {"source": "string", "file": "string", "record": "int64", "reason": "string", "detail": "string"}

_PROGRESS_EVERY = 500


@stage(version=1, name="ingest", retry=NETWORK, packages=("pyarrow", "charset-normalizer"))
def ingest(spec: IngestSpec, *, ctx: StageContext) -> RawCorpus:
    """Reads every source; what cannot be read is set aside with its reason.

    Raises:
        ContractError: No record at all became a document.
        TransientError: The hub could not be reached.
    """
    tally = _Tally()
    with ExitStack() as stack:
        documents = stack.enter_context(TableWriter(ctx.dir / "documents", DOCUMENTS))
        quarantine = stack.enter_context(TableWriter(ctx.dir / "quarantine.parquet", QUARANTINE))
        for source in spec.sources:
            for record in read_records(source, ctx):
                _file_away(source, tally.judged(source, record), tally, documents, quarantine)
                if tally.num_records % _PROGRESS_EVERY == 0:
                    ctx.progress(tally.num_records, tally.num_records, "records", mb=tally.num_bytes / 1e6)
    for source in spec.sources:
        if not isinstance(source, HubSource):
            check_unchanged(f"source {source.name}", source.digest, source_files(source), ctx.site)
    _require_documents(spec, documents.num_rows, tally.reasons)
    return ctx.commit(
        RawCorpus,
        num_records=tally.num_records,
        num_documents=documents.num_rows,
        num_bytes=tally.num_bytes,
        quarantined=dict(sorted(tally.reasons.items())),
        documents_by_source={source.name: tally.documents[source.name] for source in spec.sources},
        licences={source.name: "; ".join(sorted(tally.licences[source.name])) or source.licence for source in spec.sources},
    )


class _Tally:
    """What was counted while writing."""

    def __init__(self) -> None:
        self.num_records = 0
        self.num_bytes = 0
        self.reasons: Counter[str] = Counter()
        self.documents: Counter[str] = Counter()
        self.licences: dict[str, set[str]] = {}
        self._ids: set[bytes] = set()

    def judged(self, source: Any, record: Record) -> Record:
        """Returns the record, marked where its text or id cannot be taken."""
        self.num_records += 1
        self.licences.setdefault(source.name, set())
        if record.reason is not None:
            return record
        if not record.text.strip():
            return replace(record, reason="empty_text")
        try:
            num_bytes = len(record.text.encode("utf-8"))
        except UnicodeEncodeError as error:  # half of a surrogate pair stands for a character that is lost
            return replace(record, reason="lone_surrogate", detail=str(error))
        if num_bytes > source.max_document_bytes:
            return replace(record, reason="too_large", detail=f"{num_bytes} bytes")
        key = blake2b(_document_id(source, record).encode(), digest_size=16).digest()
        if key in self._ids:
            return replace(record, reason="duplicate_id", detail=_document_id(source, record))
        self._ids.add(key)
        self.num_bytes += num_bytes
        return record


def _document_id(source: Any, record: Record) -> str:
    return f"{source.name}/{record.id if record.id is not None else f'{record.file}:{record.number}'}"


def _file_away(source: Any, record: Record, tally: _Tally, documents: TableWriter, quarantine: TableWriter) -> None:
    if record.reason is None:
        licence = record.licence or source.licence
        row = {"id": _document_id(source, record), "source": source.name, "licence": licence, "format": record.format}
        documents.write(row | {"lang": record.lang or source.lang, "text": record.text})
        tally.documents[source.name] += 1
        tally.licences[source.name].add(licence)
    else:
        row = {"source": source.name, "file": one_line(record.file), "record": record.number}
        quarantine.write(row | {"reason": record.reason, "detail": one_line(record.detail)})
        tally.reasons[record.reason] += 1


def _require_documents(spec: IngestSpec, num_documents: int, reasons: Counter[str]) -> None:
    if num_documents:
        return
    names = ", ".join(source.name for source in spec.sources)
    why = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common(5)) or "the sources hold no record"
    raise ContractError(f"nothing could be read from {names}: {why}; the partial artifact's quarantine.parquet has each case")
