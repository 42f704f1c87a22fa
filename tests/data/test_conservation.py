"""Whatever comes in, every record is accounted for on the way to the clean corpus."""

import json
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from tasks.cleaning import CleanSpec, DedupSpec, clean, dedup
from tasks.core.errors import ContractError
from tasks.core.site import Site
from tasks.core.tables import num_rows, read_rows
from tasks.ingest import IngestSpec, ingest
from tests.data.kit import PROSE, chinese, english, source

POEM = "春眠不觉晓，处处闻啼鸟。\n夜来风雨声，花落知多少。"
GOOD = st.sampled_from([PROSE, POEM, *(english(number) for number in range(9)), *(chinese(number) for number in range(9))])
# Lone surrogates, controls, bidirectional marks and mark-up are what this is about.
NASTY = st.text(st.characters(codec=None), max_size=60) | st.sampled_from(
    [
        "",
        " ",
        "\ud800",
        "\x00",
        "\u202e",
        "<b>",
        "<html><body>",
        "```",
        "|",
        "{",
        "\ufeff",
        "a@b.cn 220.181.111.147",
        "IS_ALPHA",
        "\U00020000",
    ]
)
TEXT = GOOD | NASTY | st.builds("{}\n{}".format, GOOD, NASTY)
RECORD = st.fixed_dictionaries(
    {"text": TEXT | st.none() | st.integers()},
    optional={
        "id": st.sampled_from(["a", "b", "\ud800", ""]) | st.integers(),
        "format": st.sampled_from(["html", "markdown", "roff", "\x00"]),
    },
)
LINE = RECORD.map(lambda row: json.dumps(row).encode()) | st.binary(max_size=30) | st.sampled_from([b"{", b"null", b"[]"])


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(st.lists(LINE, max_size=25), st.booleans())
@example([b"{"], True)
def test_every_record_is_accounted_for(lines, default_filters):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        site = Site(state_dir=folder / "state", data_workers=1)
        good = [json.dumps({"text": english(number)}).encode() for number in range(100, 104)]
        (folder / "a.jsonl").write_bytes(b"\n".join([*good, *lines]))
        raw = ingest.build(IngestSpec(sources=(source(folder / "a.jsonl"),)), site=site)
        assert raw.num_records == len([line for line in b"\n".join([*good, *lines]).split(b"\n") if line.strip()])
        assert raw.num_records == raw.num_documents + num_rows(raw.path / "quarantine.parquet")
        assert raw.num_documents == num_rows(raw.path / "documents")
        spec = CleanSpec() if default_filters else CleanSpec(filters=())
        filtered = clean.build(spec, raw, site=site)
        ids = [row["id"] for part in ("documents", "dropped") for row in read_rows(filtered.path / part, ["id"])]
        assert sorted(ids) == sorted(row["id"] for row in read_rows(raw.path / "documents", ["id"]))
        try:
            corpus = dedup.build(DedupSpec(), filtered, site=site)
        except ContractError:
            assume(False)
        kept = [row["id"] for row in read_rows(corpus.path / "documents", ["id"])]
        removed = list(read_rows(corpus.path / "removed.parquet"))
        assert sorted([*kept, *(row["id"] for row in removed)]) == sorted(
            row["id"] for row in read_rows(filtered.path / "documents", ["id"])
        )
        assert {row["kept_id"] for row in removed} <= set(kept)
