"""Whatever comes in, every record is accounted for on the way to the clean corpus."""

import bz2
import gzip
import io
import json
import os
import tempfile
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from tasks.cleaning import CleanSpec, DedupSpec, clean, dedup
from tasks.core.errors import ContractError
from tasks.core.site import Site
from tasks.core.tables import num_rows, read_rows
from tasks.ingest import IngestSpec, ingest
from tasks.ingest.formats import FORMATS, INNER
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


def accounted(corpus):
    """Checks every count of a raw corpus against the rows on disk, and that each of them can be written anywhere."""
    documents = list(read_rows(corpus.path / "documents"))
    quarantine = list(read_rows(corpus.path / "quarantine.parquet"))
    assert corpus.num_documents == len(documents) == len({row["id"] for row in documents})
    assert corpus.num_records == len(documents) + len(quarantine)
    assert corpus.quarantined == Counter(row["reason"] for row in quarantine)
    assert corpus.num_bytes == sum(len(row["text"].encode()) for row in documents)
    for row in quarantine:
        f"{row['file']} {row['reason']} {row['detail']}".encode()
        assert "\0" not in row["file"] + row["detail"]
    return corpus.quarantined


MARKS = [b"WARC/1.0\r\nWARC-Type: response\r\nContent-Length: 9\r\n\r\n", b"<mediawiki><page><ns>0</ns><text>", b"</text></page>"]
MARKS += [
    b"From a@b Thu Aug 22 12:36:23 2002\n",
    b"Subject: =?gb2312?B?1tDOxA?=\n\n",
    b"Content-Type: multipart/mixed; boundary=b\n\n--b\n",
]
MARKS += [
    b".TH A 1\n",
    b".if n \\{\\\n",
    b"\\*(a",
    b".ds a \\*a\n",
    b".Op Fl a\n",
    b'"text",id\n',
    b'"',
    b"\t",
    b"[[a|",
    b"{{b",
    b"<ref>",
]
MARKS += [
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b"\0",
    b"\n\n",
    "\u202e\u0085".encode(),
    b"\xed\xa0\x80",
    b"PK\x03\x04",
    b"PAR1",
    b"text\nx\n",
]
CONTENT = st.lists(st.sampled_from(MARKS) | st.binary(max_size=20), max_size=8).map(b"".join)
INNER_TEXT = CONTENT.map(lambda data: data.decode("utf-8", "surrogateescape"))
PACKED = {"": bytes, ".gz": gzip.compress, ".bz2": bz2.compress, ".zst": zstandard.compress}


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(st.sampled_from([*FORMATS, "auto"]), CONTENT, st.sampled_from([*PACKED]), st.booleans())
@example("man", b".TH A 1\n.if n \\{\\\n.SH", "", False)
@example("csv", b'text\n"open\nx', ".gz", False)
def test_every_format_accounts_for_whatever_it_reads(format, content, suffix, is_cut):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        packed = PACKED[suffix](content)
        (folder / f"a.dat{suffix}").write_bytes(packed[: len(packed) // 2] if is_cut else packed)
        (folder / "good.txt").write_text("fine")
        mail = {"mail": {"quoting": "drop"}}
        sources = (source(folder / f"a.dat{suffix}", format=format, **mail), source(folder / "good.txt", name="good"))
        accounted(ingest.build(IngestSpec(sources=sources), site=Site(state_dir=folder / "state", data_workers=1)))


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(
    st.lists(
        st.tuples(st.sampled_from([*INNER, "html"]), CONTENT.map(lambda data: data.decode("utf-8", "surrogateescape"))),
        max_size=6,
    )
)
def test_every_format_inside_a_row_is_accounted_for(rows):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lines = [json.dumps({"text": text, "format": format}) for format, text in rows]
        (folder / "a.jsonl").write_text("\n".join(['{"text": "fine"}', *lines]))
        spec = IngestSpec(sources=(source(folder / "a.jsonl", mail={"quoting": "keep"}),))
        corpus = ingest.build(spec, site=Site(state_dir=folder / "state", data_workers=1))
        accounted(corpus)
        assert corpus.num_records == 1 + len(rows)


def parquet(**columns):
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer)
    return buffer.getvalue()


MANY = b"".join(json.dumps({"text": os.urandom(400).hex()}).encode() + b"\n" for _ in range(3_000))
DAMAGED = {
    "cut.jsonl.gz": (gzip.compress(MANY)[:-900], {"unreadable": 1}),
    "cut.jsonl.bz2": (bz2.compress(MANY)[:-900], {"unreadable": 1}),
    "cut.jsonl.zst": (zstandard.compress(MANY)[:-900], {"unreadable": 1}),
    "cut.parquet": (parquet(text=["x"] * 9)[:-9], {"unreadable": 1}),
    "wrong.parquet": (parquet(body=["x"] * 9), {"no_text": 1}),
    "numbers.parquet": (parquet(text=[1, 2]), {"no_text": 2}),
    "wrong.csv": (b"body\nx\n", {"no_text": 1}),
    "bytes.jsonl": (b'{"text": "\xff\xfe"}\n\xc0\x80\n', {"undecodable": 2}),
    "marks.jsonl": ('\ufeff{"text": "\u202e \\u0000 \u0085"}\n{"text": "\\ud800"}'.encode(), {"lone_surrogate": 1}),
    "names.jsonl": (b'{"id": "\\ud800\\u0000", "text": "x"}\n' * 2, {"duplicate_id": 1}),
    "deep.jsonl": (b"[" * 1_000_000 + b'\n{"text": ' + b'{"a":' * 1_000_000, {"broken_json": 2}),
    "empty.txt": (b"", {"empty_text": 1}),
    "empty.jsonl": (b"", {}),
    "empty.jsonl.gz": (b"", {}),
    "empty.csv": (b"", {}),
    "empty.parquet": (b"", {"unreadable": 1}),
    "empty.epub": (b"", {"unreadable": 1}),
    "empty.xml.bz2": (bz2.compress(b""), {"unknown_format": 1}),
    "nul.txt": (b"a\0b", {}),
    "\udcff.txt": (b"a file whose name is no text", {}),
}


@pytest.mark.parametrize("name", DAMAGED, ids=ascii)
def test_damage_is_accounted_for(site, tmp_path, name):
    data, reasons = DAMAGED[name]
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / name).write_bytes(data)
    (tmp_path / "good.txt").write_text("fine")
    corpus = ingest.build(IngestSpec(sources=(source(tmp_path / "in"), source(tmp_path / "good.txt", name="good"))), site=site)
    assert accounted(corpus) == reasons
