"""Profile: a corpus as small tables of numbers.

In: `RawCorpus`, `FilteredCorpus`, `CleanCorpus`. Out: the tables of `TABLES`: a row a document of each corpus (`documents` is the
clean one), a row a source, language, split and reason, and the totals (`corpus`). Invariant: numbers and names only; no text of a
document ever enters a table.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from tasks.contracts import SPLITS, CleanCorpus, FilteredCorpus, RawCorpus
from tasks.core.tables import Row, Schema, read_rows, write_table
from tasks.core.text import normalized

_INT, _FLOAT, _STRING = "int64", "float64", "string"

TABLES: dict[str, Schema] = {
    "raw_documents": {"source": _STRING, "num_chars": _INT, "num_bytes": _INT},
    "filtered_documents": {"lang": _STRING, "source": _STRING, "num_chars": _INT, "num_bytes": _INT, "lang_score": _FLOAT},
    "documents": {"lang": _STRING, "source": _STRING, "split": _STRING}
    | dict.fromkeys(("id_key", "text_key", "num_chars", "num_bytes", "num_lines"), _INT)
    | dict.fromkeys(("mean_line_chars", "han_share", "letter_share", "digit_share", "broken_share"), _FLOAT),
    "sources": {"source": _STRING}
    | dict.fromkeys(("num_raw", "num_filtered", "num_clean", "num_bytes"), _INT)
    | dict.fromkeys(("kept_share", "byte_share"), _FLOAT),
    "languages": {"lang": _STRING, "num_documents": _INT, "num_bytes": _INT, "byte_share": _FLOAT},
    "splits": {"split": _STRING, "num_documents": _INT, "num_bytes": _INT},
    "reasons": {"stage": _STRING, "reason": _STRING, "num_documents": _INT, "share": _FLOAT},
    "corpus": dict.fromkeys(("num_records", "num_documents", "num_bytes", "num_masked", "num_same_texts"), _INT)
    | {"num_clusters_in_two_splits": _INT}
    | dict.fromkeys(("quarantined_share", "dropped_share", "duplicate_share", "masked_per_mb"), _FLOAT),
}

Tables = dict[str, list[Row]]
# Columns of the clean documents whose drift can be measured.
COMPARED = tuple(name for name in TABLES["documents"] if name not in ("split", "id_key", "text_key"))
DRIFT = "drift"  # one row, a column a measure; made where a suite compares with the registered corpus


def profile(raw: RawCorpus, filtered: FilteredCorpus, corpus: CleanCorpus) -> Tables:
    """Returns the rows of every table."""
    documents, clusters = _documents(corpus)
    return {
        "raw_documents": _lengths(raw.path / "documents", ("source",)),
        "filtered_documents": _lengths(filtered.path / "documents", ("lang", "source", "lang_score")),
        "documents": documents,
        "sources": _sources(raw, filtered, documents),
        "languages": _grouped(documents, "lang", sum(row["num_bytes"] for row in documents)),
        "splits": _splits(documents),
        "reasons": list(_reasons(raw, filtered, corpus)),
        "corpus": [_totals(raw, filtered, corpus, documents, clusters)],
    }


def write_tables(tables: Tables, folder: Path, schemas: dict[str, Schema]) -> None:
    """Writes every table as `<name>.parquet`."""
    for name, schema in schemas.items():
        write_table(folder / f"{name}.parquet", schema, tables[name])


def _lengths(documents: Path, columns: Sequence[str]) -> list[Row]:
    """Returns a row for each document: some of its columns, and how long it is."""
    return [
        {name: row[name] for name in columns} | {"num_chars": len(row["text"]), "num_bytes": len(row["text"].encode("utf-8"))}
        for row in read_rows(documents, [*columns, "text"])
    ]


def _documents(corpus: CleanCorpus) -> tuple[list[Row], dict[str, set[str]]]:
    """Returns a row of numbers for each document, and the splits of each cluster."""
    rows: list[Row] = []
    clusters: defaultdict[str, set[str]] = defaultdict(set)
    for row in read_rows(corpus.path / "documents", ["id", "lang", "source", "split", "cluster", "text"]):
        rows.append({name: row[name] for name in ("lang", "source", "split")} | _numbers(row["id"], row["text"]))
        clusters[row["cluster"]].add(row["split"])
    return rows, clusters


def _numbers(id: str, text: str) -> Row:
    num_chars = max(1, len(text))
    kinds: Counter[str] = Counter()
    for char, count in Counter(text).items():
        kinds[_kind(char)] += count
    lines = [line for line in text.splitlines() if line.strip()]
    return {
        "id_key": text_key(id),
        "text_key": text_key(normalized(text)),
        "num_chars": len(text),
        "num_bytes": len(text.encode("utf-8")),
        "num_lines": len(lines),
        "mean_line_chars": sum(map(len, lines)) / max(1, len(lines)),
        "han_share": kinds["han"] / num_chars,
        "letter_share": (kinds["han"] + kinds["letter"]) / num_chars,
        "digit_share": kinds["digit"] / num_chars,
        "broken_share": kinds["broken"] / num_chars,
    }


def _kind(char: str) -> str:
    if "\u4e00" <= char <= "\u9fff" or "\u3400" <= char <= "\u4dbf" or "\U00020000" <= char <= "\U000323af":
        return "han"
    if char.isalpha():
        return "letter"
    if char.isdigit():
        return "digit"
    return "broken" if char == "\ufffd" or (ord(char) < 32 and char not in "\n\t\r") else "other"


def text_key(text: str) -> int:
    """Returns a number that stands for a text: equal numbers, equal texts."""
    return int.from_bytes(sha256(text.encode("utf-8", "replace")).digest()[:8], "big", signed=True)


def _sources(raw: RawCorpus, filtered: FilteredCorpus, documents: list[Row]) -> list[Row]:
    passed = Counter(row["source"] for row in read_rows(filtered.path / "documents", ["source"]))
    clean = Counter(row["source"] for row in documents)
    num_bytes: Counter[str] = Counter()
    for row in documents:
        num_bytes[row["source"]] += row["num_bytes"]
    return [
        {"source": name, "num_raw": count, "num_filtered": passed[name], "num_clean": clean[name], "num_bytes": num_bytes[name]}
        | {"kept_share": clean[name] / max(1, count), "byte_share": num_bytes[name] / max(1, num_bytes.total())}
        for name, count in raw.documents_by_source.items()
    ]


def _grouped(documents: list[Row], column: str, total_bytes: int) -> list[Row]:
    num_documents, num_bytes = Counter[str](), Counter[str]()
    for row in documents:
        num_documents[row[column]] += 1
        num_bytes[row[column]] += row["num_bytes"]
    return [
        {column: name, "num_documents": count, "num_bytes": num_bytes[name], "byte_share": num_bytes[name] / max(1, total_bytes)}
        for name, count in sorted(num_documents.items())
    ]


def _splits(documents: list[Row]) -> list[Row]:
    groups = {row["split"]: row for row in _grouped(documents, "split", 1)}
    empty = {"num_documents": 0, "num_bytes": 0}
    return [{"split": split} | {name: groups.get(split, empty)[name] for name in empty} for split in SPLITS]


def _reasons(raw: RawCorpus, filtered: FilteredCorpus, corpus: CleanCorpus) -> Iterator[Row]:
    parts: list[tuple[str, dict[str, Any], int]] = [
        ("ingest", raw.quarantined, raw.num_records),
        ("clean", filtered.drops_by_reason, filtered.num_documents_in),
        ("dedup", corpus.removed_by_reason, corpus.num_documents_in),
        ("decontaminate", corpus.contaminated_by_reason, corpus.num_documents_in),
        ("score_quality", corpus.low_quality_by_reason, corpus.num_documents_in),
    ]
    for stage, counts, total in parts:
        for reason, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
            yield {"stage": stage, "reason": reason, "num_documents": count, "share": count / max(1, total)}


def _totals(
    raw: RawCorpus, filtered: FilteredCorpus, corpus: CleanCorpus, documents: list[Row], clusters: dict[str, set[str]]
) -> Row:
    num_bytes = sum(row["num_bytes"] for row in documents)
    num_masked = sum(filtered.masked.values())
    return {
        "num_records": raw.num_records,
        "num_documents": len(documents),
        "num_bytes": num_bytes,
        "num_masked": num_masked,
        "num_same_texts": len(documents) - len({row["text_key"] for row in documents}),
        "num_clusters_in_two_splits": sum(len(splits) > 1 for splits in clusters.values()),
        "quarantined_share": sum(raw.quarantined.values()) / max(1, raw.num_records),
        "dropped_share": sum(filtered.drops_by_reason.values()) / max(1, filtered.num_documents_in),
        "duplicate_share": sum(corpus.removed_by_reason.values()) / max(1, corpus.num_documents_in),
        "masked_per_mb": num_masked / max(1e-6, filtered.num_bytes / 1e6),  # what was masked stood in what passed the filters
    }
