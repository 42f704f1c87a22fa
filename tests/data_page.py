"""`python -m tests.data_page RECIPE`: docs/data.md, one document of each source on its way, and what each rule takes away.

In: a recipe whose corpus was made in the state folder (TEXTMILL_STATE_DIR). Out: the page. Invariant: everything on it is read
from artifacts; which document is shown depends on the ids alone. Only texts that ship with Textmill are quoted.
"""

import sys
from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from flows.dropped import sample
from flows.plan import found_artifacts
from flows.presets import load_recipe
from tasks.core.site import current_site
from tasks.core.tables import Row, read_rows
from tasks.core.text import one_line
from tasks.tokenization.training import load_plain

PAGE = Path(__file__).resolve().parents[1] / "docs" / "data.md"
_CHARS, _TOKENS, _SHORT = 280, 40, 120


def main() -> None:
    """Writes the page."""
    preset = sys.argv[1]
    found = found_artifacts(load_recipe(preset), current_site(), "encode")
    kept = {row["id"]: row for row in read_rows(found["decontaminate"].path / "documents")}
    raw = {row["id"]: row for row in read_rows(found["ingest"].path / "documents") if row["id"] in kept}
    encoder = load_plain(found["tokenizer"].path)
    parts = [_HEAD.format(preset=preset), "## From raw text to tokens\n"]
    for source in sorted({row["source"] for row in kept.values()}):
        id = min((id for id, row in kept.items() if row["source"] == source), key=_place)
        parts += _journey(raw[id], kept[id], encoder)
    parts += ["## What is taken away\n", *_losses(found)]
    PAGE.write_text("\n".join(parts) + "\n", encoding="utf-8")


_HEAD = """# What happens to a document

Made by `python -m tests.data_page {preset}` from that recipe's artifacts; `textmill inspect {preset}` shows more of each rule.
A document of each source; in its tokens � is a part of a character.
"""


def _place(id: str) -> bytes:
    return sha256(id.encode()).digest()


def _journey(raw: Row, kept: Row, encoder: Any) -> list[str]:
    ids = encoder.encode(kept["text"], add_special_tokens=False).ids
    pieces = [encoder.decode([id], skip_special_tokens=False) for id in ids[:_TOKENS]]
    about = f"`{kept['id']}`, {raw['format']}, {kept['lang']}, {kept['licence']}, split {kept['split']}"
    return [
        f"### {kept['source']}\n\n{about}\n",
        f"As it came ({len(raw['text']):,} characters):\n\n{_block(raw['text'])}\n",
        f"Cleaned ({len(kept['text']):,} characters):\n\n{_block(kept['text'])}\n",
        f"As tokens ({len(ids):,}; the first {len(pieces)}):\n\n{_block('|'.join(pieces))}\n",
    ]


def _losses(found: Mapping[str, Any]) -> Iterable[str]:
    raw, filtered, clean = found["ingest"], found["clean"], found["decontaminate"]
    yield f"- ingest: {raw.num_records:,} records, quarantined: {_counts(raw.quarantined)}"
    yield f"- clean: {filtered.num_documents_in:,} in, {filtered.num_documents:,} kept; masked: {_counts(filtered.masked)}"
    yield f"- dedup: {filtered.num_documents:,} in, removed: {_counts(clean.removed_by_reason)}"
    contaminated = _counts(clean.contaminated_by_reason)
    yield f"- decontaminate: {clean.num_heldout_items:,} held-out items looked for, dropped: {contaminated}"
    yield "\n| rule of cleaning | documents | one of them |\n| --- | --- | --- |"
    dropped = ((row["reason"], row) for row in read_rows(filtered.path / "dropped"))
    for reason, rows in sample(dropped, 1, 0).items():
        yield f"| {reason} | {filtered.drops_by_reason[reason]:,} | {_cell(rows[0])} |"
    yield "\n| kind of duplicate | removed | the one that stays |\n| --- | --- | --- |"
    removed = ((row["reason"], row) for row in read_rows(found["dedup"].path / "removed.parquet"))
    for reason, rows in sample(removed, 2, 0).items():
        for row in rows:
            yield f"| {reason} | `{row['id']}` | `{row['kept_id']}` |"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counts.items() if count) or "none"


def _cell(row: Row) -> str:
    return f"`{row['source']}` {one_line(row['text'], _SHORT)}".replace("|", "\\|")


def _block(text: str) -> str:
    shown = text[:_CHARS].rstrip()
    fence = "~~~~~"
    return f"{fence}\n{shown}{' ...' if len(text) > len(shown) else ''}\n{fence}"


if __name__ == "__main__":
    main()
