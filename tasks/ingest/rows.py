"""Rows: an object with named values (JSON, parquet, CSV, a data set) becomes a record.

In: a row and the source, which names the column of the text. Out: a record. Invariant: whatever stands in the other
columns, what is kept of it can be stored by every service.
"""

from typing import Any

from tasks.core.text import text_safe
from tasks.ingest.records import Record

METADATA = ("id", "lang", "licence", "license", "format", "decoded_as")
_MAX_METADATA_CHARS = 500


def row_record(source: Any, file: str, number: int, row: dict[str, Any]) -> Record:
    """Returns the record of a row; `format` says what the text is, plain where it is silent."""
    text = row.get(source.text_column)
    if not isinstance(text, str):
        found = "missing" if text is None else f"a {type(text).__name__}"
        return Record(file, number, reason="no_text", detail=f"{source.text_column!r} is {found}")
    facts = {name: _metadata(row.get(name)) for name in METADATA}
    return Record(
        file,
        number,
        text=text,
        id=facts["id"],
        lang=facts["lang"],
        licence=facts["licence"] or facts["license"],
        format=facts["format"] or "plain",
        decoded_as=facts["decoded_as"],
    )


def _metadata(value: Any) -> str | None:
    """Returns what a record says of itself as text any service can store, none where it is no plain value."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    return text_safe(str(value), _MAX_METADATA_CHARS).strip() or None
