"""Ingest: every format, every kind of damage with its reason, identity by content."""

import gzip
import json
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from pydantic import ValidationError

from tasks.core.errors import ContractError, RecipeError
from tasks.core.tables import read_rows
from tasks.ingest import IngestSpec, ingest
from tasks.ingest.records import decode
from tests.data.kit import documents, read, source, write_jsonl


def quarantine(corpus):
    return [(row["file"], row["record"], row["reason"]) for row in read_rows(corpus.path / "quarantine.parquet")]


def put(folder, **files):
    for name, data in files.items():
        path = folder / name.replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return folder


def test_text_files_become_documents(site, tmp_path):
    folder = put(tmp_path / "in", a_dot_txt="plain", b_dot_md="# head", c_dot_html="<p>x</p>", d_dot_HTM="<p>y</p>")
    corpus = read(site, folder, lang="en")
    rows = documents(corpus)
    assert [(row["id"], row["format"], row["text"]) for row in rows] == [
        ("test/a.txt", "plain", "plain"),
        ("test/b.md", "markdown", "# head"),
        ("test/c.html", "html", "<p>x</p>"),
        ("test/d.HTM", "html", "<p>y</p>"),
    ]
    assert {(row["source"], row["licence"], row["lang"]) for row in rows} == {("test", "CC0-1.0", "en")}
    assert corpus.num_bytes == sum(len(row["text"]) for row in rows)


@pytest.mark.parametrize("suffix", ["jsonl", "jsonl.gz", "jsonl.zst"])
def test_json_lines(site, tmp_path, suffix):
    rows = [
        {"id": "x", "text": "one", "lang": "zh", "licence": "MIT", "format": "html"},
        {"text": "two"},
        {"id": 3, "text": "three"},
    ]
    data = "\n".join(map(json.dumps, rows)).encode()
    data = {"jsonl": data, "jsonl.gz": gzip.compress(data), "jsonl.zst": zstandard.compress(data)}[suffix]
    (tmp_path / f"a.{suffix}").write_bytes(data)
    corpus = read(site, tmp_path / f"a.{suffix}")
    found = [(row["id"], row["lang"], row["licence"], row["format"], row["text"]) for row in documents(corpus)]
    assert found == [
        ("test/x", "zh", "MIT", "html", "one"),
        (f"test/a.{suffix}:2", None, "CC0-1.0", "plain", "two"),
        ("test/3", None, "CC0-1.0", "plain", "three"),
    ]
    assert corpus.licences == {"test": "CC0-1.0; MIT"}


def test_parquet_and_its_text_column(site, tmp_path):
    pq.write_table(
        pa.table({"content": ["one", None, "three"], "id": ["a", "b", "c"], "other": [1, 2, 3]}), tmp_path / "a.parquet"
    )
    corpus = read(site, tmp_path / "a.parquet", text_column="content")
    assert [(row["id"], row["text"]) for row in documents(corpus)] == [("test/a", "one"), ("test/c", "three")]
    assert quarantine(corpus) == [("a.parquet", 2, "no_text")]


def test_a_saved_data_set(site, tmp_path):
    datasets = pytest.importorskip("datasets")
    data = datasets.Dataset.from_dict({"text": ["one", "two"]})
    datasets.DatasetDict({"train": data, "test": data.select([0])}).save_to_disk(str(tmp_path / "saved"))
    settings = {"kind": "saved", "name": "hf", "licence": "MIT", "path": str(tmp_path / "saved")}
    corpus = ingest.build(IngestSpec(sources=[settings]), site=site)
    assert [(row["id"], row["text"]) for row in documents(corpus)] == [("hf/hf:1", "one"), ("hf/hf:2", "two")]
    with pytest.raises(ContractError, match="has no split 'dev', only train, test"):
        ingest.build(IngestSpec(sources=[settings | {"split": "dev"}]), site=site)
    with pytest.raises(ContractError, match="no column 'body', only text"):
        ingest.build(IngestSpec(sources=[settings | {"text_column": "body"}]), site=site)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"text": "caf\xe9"}', "undecodable"),
        (b'{"text": "cut', "broken_json"),
        (b"[" * 100_000, "broken_json"),
        (b'{"text": ' + b"9" * 5_000 + b"}", "broken_json"),
        (b'["text"]', "no_text"),
        (b"null", "no_text"),
        (b'{"other": 1}', "no_text"),
        (b'{"text": null}', "no_text"),
        (b'{"text": 7}', "no_text"),
        (b'{"text": ["a"]}', "no_text"),
        (b'{"text": ""}', "empty_text"),
        (b'{"text": " \\n\\t\\u3000"}', "empty_text"),
        (b'{"text": "half \\ud83d of a pair"}', "lone_surrogate"),
        (b'{"text": "' + b"x" * 300_000 + b'"}', "too_large"),
        (b'{"id": "good", "text": "again"}', "duplicate_id"),
    ],
)
def test_a_bad_record_is_set_aside_with_its_reason(site, tmp_path, line, reason):
    (tmp_path / "a.jsonl").write_bytes(b'{"id": "good", "text": "fine"}\n' + line + b'\n{"text": "also fine"}\n')
    corpus = read(site, tmp_path / "a.jsonl", max_document_bytes=200_000)
    assert [row["text"] for row in documents(corpus)] == ["fine", "also fine"]
    assert quarantine(corpus) == [("a.jsonl", 2, reason)]
    assert corpus.quarantined == {reason: 1}
    assert corpus.num_records == 3
    assert corpus.summary().endswith(f", quarantined: 1 {reason}")


def test_the_text_is_measured_and_not_its_escaped_line(site, tmp_path):
    path = write_jsonl(tmp_path / "a.jsonl", [{"text": "\u4e2d" * 40}, {"text": "\u4e2d" * 41}, {"text": "x" * 900}])
    corpus = read(site, path, max_document_bytes=120)
    assert [len(row["text"]) for row in documents(corpus)] == [40]
    details = [row["detail"] for row in read_rows(corpus.path / "quarantine.parquet")]
    assert details == ["123 bytes", "a line of more than 720 bytes"]


@pytest.mark.parametrize("format", ["rfc822", "roff", "wikitext"])
def test_what_is_too_large_is_not_read_any_further(site, tmp_path, format):
    nested = {"rfc822": "", "roff": ".if n " * 200, "wikitext": "<ref>" * 200}[format]  # its reader would say that it is broken
    write_jsonl(tmp_path / "a.jsonl", [{"text": nested + "x" * 3_000, "format": format}, {"text": "fine"}])
    assert read(site, tmp_path / "a.jsonl", max_document_bytes=2_000).quarantined == {"too_large": 1}


def test_metadata_of_any_kind_is_made_safe(site, tmp_path):
    write_jsonl(
        tmp_path / "a.jsonl",
        [{"id": "x\ud800\x00", "lang": ["zh"], "licence": {"a": 1}, "text": "one"}, {"id": True, "text": "two"}],
    )
    rows = documents(read(site, tmp_path / "a.jsonl"))
    assert [(row["id"], row["lang"], row["licence"]) for row in rows] == [
        ("test/x\ufffd\ufffd", None, "CC0-1.0"),
        ("test/a.jsonl:2", None, "CC0-1.0"),
    ]


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("a.bin", b"\x00\x01", "unknown_format"),
        ("noname", b"text", "unknown_format"),
        ("a.txt", b"\xff\xd8\xff\xe0 no text at all \x81\x8d\x90", "undecodable"),
        ("a.txt", b"", "empty_text"),
        ("a.txt", b"x" * 5_000, "too_large"),
        ("a.parquet", b"PAR1 not really", "unreadable"),
        ("a.jsonl.gz", b"not gzip", "unreadable"),
        ("a.jsonl.zst", b"not zstd", "unreadable"),
        ("a.txt.gz", gzip.compress(os.urandom(900))[:-20], "unreadable"),
    ],
)
def test_a_bad_file_is_set_aside_with_its_reason(site, tmp_path, name, data, reason):
    folder = put(tmp_path / "in", zz_good_dot_txt="fine")
    (folder / name).write_bytes(data)
    corpus = read(site, folder, max_document_bytes=1_000)
    assert quarantine(corpus) == [(name, 1, reason)]
    assert [row["text"] for row in documents(corpus)] == ["fine"]


def test_a_broken_link_is_set_aside(site, tmp_path):
    folder = put(tmp_path / "in", good_dot_txt="fine")
    (folder / "gone.txt").symlink_to(tmp_path / "nowhere")
    assert quarantine(read(site, folder)) == [("gone.txt", 1, "unreadable")]


def test_what_comes_before_the_damage_is_kept(site, tmp_path):
    lines = b"".join(
        json.dumps({"text": f"document {number} {os.urandom(400).hex()}"}).encode() + b"\n" for number in range(5_000)
    )
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(lines)[:-2_000])
    corpus = read(site, tmp_path / "a.jsonl.gz")
    assert corpus.num_documents > 3_000
    assert corpus.quarantined == {"unreadable": 1}
    assert corpus.num_records == corpus.num_documents + 1


def test_a_parquet_without_the_column_names_those_it_has(site, tmp_path):
    pq.write_table(pa.table({"body": ["x"]}), tmp_path / "a.parquet")
    put(tmp_path, b_dot_txt="fine")
    corpus = read(site, tmp_path / "a.parquet", tmp_path / "b.txt")
    rows = list(read_rows(corpus.path / "quarantine.parquet"))
    assert [(row["reason"], row["detail"]) for row in rows] == [("no_text", "no column 'text' among body")]


CHINESE = "这是一个很长的中文文本，用来测试编码检测是否可靠。我们在系统中使用命令行工具来管理文件和目录。" * 5


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("utf-8-sig", CHINESE),
        ("utf-16", CHINESE),
        ("gb18030", CHINESE),
        ("big5", "這是一個很長的中文文本，用來測試編碼檢測是否可靠。" * 5),
        ("cp1252", "It\u2019s a caf\u00e9 \u2014 \u201cna\u00efve\u201d r\u00e9sum\u00e9 of the fa\u00e7ade. " * 5),
    ],
)
def test_a_text_file_in_a_known_encoding_is_read(site, tmp_path, encoding, text):
    (tmp_path / "a.txt").write_bytes(text.encode(encoding))
    assert [row["text"] for row in documents(read(site, tmp_path / "a.txt"))] == [text]


def test_what_is_written_under_the_name_of_a_smaller_charset_is_read():
    """镕 and 囧 are no GB 2312, and mailers say gb2312 of them."""
    assert decode("朱镕基，囧".encode("gbk"), "GB2312") == "朱镕基，囧"
    assert decode("①".encode("cp932"), "Shift-JIS") == "①"
    assert decode("朱镕基，囧".encode("gbk"), "nonsense") is None


def test_an_encoding_that_is_not_sure_is_set_aside(site, tmp_path):
    (tmp_path / "a.txt").write_bytes("短文本。".encode("gbk"))
    put(tmp_path, b_dot_txt="fine")
    assert read(site, tmp_path / "a.txt", tmp_path / "b.txt").quarantined == {"undecodable": 1}


def test_nothing_readable_at_all_is_an_error_with_the_reasons(site, tmp_path):
    write_jsonl(tmp_path / "a.jsonl", [{"text": ""}, {"text": ""}, {"body": "x"}])
    with pytest.raises(ContractError, match="nothing could be read from test: 2 empty_text, 1 no_text"):
        read(site, tmp_path / "a.jsonl")
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(ContractError, match="the sources hold no record"):
        read(site, tmp_path / "empty.jsonl")


def test_a_path_that_matches_nothing_is_the_users_error(site, tmp_path):
    with pytest.raises(RecipeError, match=r"nowhere/\*\.txt matches no file"):
        read(site, tmp_path / "nowhere" / "*.txt")


def test_two_sources_of_one_name_are_refused(tmp_path):
    with pytest.raises(ValidationError, match="two sources are called 'test'"):
        IngestSpec(sources=(source(tmp_path), source(tmp_path)))


def test_a_hub_data_set_needs_a_commit(site):
    spec = IngestSpec(
        sources=[{"kind": "hub", "name": "web", "licence": "ODC-BY", "dataset": "someone/something", "revision": "main"}]
    )
    with pytest.raises(
        RecipeError,
        match=r"dataset someone/something of the hub: revision is 'main', which may move .*datasets/someone/something/commits",
    ):
        ingest.build(spec, site=site)


def test_the_identity_is_content_and_names_not_places(site, tmp_path):
    put(tmp_path / "here", a_dot_txt="one")
    put(tmp_path / "there", a_dot_txt="one")
    here, there = (IngestSpec(sources=(source(tmp_path / name),)) for name in ("here", "there"))
    assert ingest.fingerprint(here, (), site) == ingest.fingerprint(there, (), site)
    assert str(tmp_path) not in json.dumps(here.pinned(site).identity())
    put(tmp_path / "there", a_dot_txt="two")
    assert ingest.fingerprint(here, (), site) != ingest.fingerprint(there, (), site)


def test_a_second_run_reuses_and_a_changed_file_rebuilds(site, tmp_path):
    put(tmp_path / "in", a_dot_txt="one")
    spec = IngestSpec(sources=(source(tmp_path / "in"),))
    assert [ingest.outcome(spec, site=site).result for _ in range(2)] == ["built", "reused"]
    put(tmp_path / "in", b_dot_txt="two")
    assert ingest.outcome(spec, site=site).result == "built"


def test_a_source_that_changes_while_it_is_read_is_refused(site, tmp_path, monkeypatch):
    folder = put(tmp_path / "in", a_dot_txt="one", b_dot_txt="two")
    from tasks.ingest import records

    decode = records.decode

    def slow(*args, **options):
        put(folder, b_dot_txt="late change")
        return decode(*args, **options)

    monkeypatch.setattr(records, "decode", slow)
    with pytest.raises(ContractError, match="the files of source test changed while they were read"):
        read(site, folder)


def test_the_same_files_give_the_same_bytes_in_any_order(site, tmp_path):
    put(tmp_path / "in", a_dot_txt="one", b_dot_txt="two", c_dot_txt="three")
    paths = [tmp_path / "in" / name for name in ("a.txt", "b.txt", "c.txt")]
    digests = {read(site, *order).digest for order in (paths, paths[::-1])}
    other = site.model_copy(update={"state_dir": tmp_path / "other"})
    digests.add(read(other, *paths).digest)
    assert len(digests) == 1


def test_an_interrupted_attempt_leaves_nothing_behind(site, tmp_path, monkeypatch):
    folder = put(tmp_path / "in", a_dot_txt="one", b_dot_txt="two")
    from tasks.ingest import records

    decode, calls = records.decode, []

    def failing(*args, **options):
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return decode(*args, **options)

    monkeypatch.setattr(records, "decode", failing)
    with pytest.raises(KeyboardInterrupt):
        read(site, folder)
    assert [row["text"] for row in documents(read(site, folder))] == ["one", "two"]


def test_workers_and_order_change_nothing(site, tmp_path, monkeypatch):
    from tasks.ingest import pieces

    monkeypatch.setattr(pieces, "_PIECE_BYTES", 400)
    monkeypatch.setattr(pieces, "_WORKER_BYTES", 1_000)
    rows = [{"id": number % 30, "text": f"document {number} " * 9} for number in range(40)]
    paths = [write_jsonl(tmp_path / f"{number}.jsonl", rows[number::8]) for number in range(8)]
    table = pa.table({"text": [f"row {number}" for number in range(40)]})
    pq.write_table(table, tmp_path / "z.parquet", row_group_size=4)
    orders = {1: [*paths, tmp_path / "z.parquet"], 2: [tmp_path / "z.parquet", *paths[::-1]]}
    made = [
        read(site.model_copy(update={"state_dir": tmp_path / f"w{workers}", "data_workers": workers}), *order)
        for workers, order in orders.items()
    ]
    spec = IngestSpec(sources=(source(*paths, tmp_path / "z.parquet"),))
    cut = pieces.cut(spec, tmp_path / "work")
    assert len(cut) > 8, "the test must be about many pieces"
    assert pieces.workers_for(cut, 2) == 2
    assert made[0].digest == made[1].digest
    assert made[0].quarantined == {"duplicate_id": 10}
    assert [row["id"] for row in documents(made[0])][-40:] == [f"test/z.parquet:{number}" for number in range(1, 41)]


def test_strings_of_a_parquet_file_that_are_no_utf8_cost_their_rows_only(site, tmp_path):
    values = [b"one", b"\xff\xfe caf\xe9", b"two", b"three"]
    ids = [b"a", b"b", b"c\xe9", b"d"]
    text, names = (pa.Array.from_buffers(pa.string(), 4, pa.array(one, pa.binary()).buffers()) for one in (values, ids))
    pq.write_table(pa.table({"id": names, "text": text}), tmp_path / "a.parquet")
    corpus = read(site, tmp_path / "a.parquet")
    assert [(row["id"], row["text"]) for row in documents(corpus)] == [("test/a", "one"), ("test/d", "three")]
    assert quarantine(corpus) == [("a.parquet", 2, "undecodable"), ("a.parquet", 3, "undecodable")]


@pytest.mark.parametrize("end", ["", "\n"])
def test_a_large_file_of_lines_is_read_in_parts(site, tmp_path, monkeypatch, end):
    from tasks.ingest import pieces

    lines = [json.dumps({"text": f"document {number} " * (number % 5 + 1)}) for number in range(60)]
    lines[7], lines[20], lines[21], lines[40] = "", "{broken", json.dumps({"text": "long " * 400}), '{"text": "\u6c49"}\r'
    path = tmp_path / "a.jsonl"
    path.write_bytes(("\n".join(lines) + end).encode())
    whole = read(site.model_copy(update={"state_dir": tmp_path / "whole"}), path)
    monkeypatch.setattr(pieces, "_PIECE_BYTES", 300)
    monkeypatch.setattr(pieces, "_WORKER_BYTES", 300)
    cut = pieces.cut(IngestSpec(sources=(source(path),)), tmp_path / "work")
    spans = [piece.files[0].span for piece in cut]
    assert len(spans) > 6
    assert [end for _, end in spans] == [first for first, _ in spans[1:]] + [path.stat().st_size]
    made = [read(site.model_copy(update={"state_dir": tmp_path / f"{n}", "data_workers": n}), path) for n in (1, 2)]
    assert [one.digest for one in made] == [whole.digest] * 2
    assert [row["id"] for row in documents(made[1])] == [row["id"] for row in documents(whole)]
    assert quarantine(made[1]) == [("a.jsonl", 21, "broken_json")]


def test_few_bytes_start_no_process(tmp_path):
    from tasks.ingest import pieces

    put(tmp_path / "in", a_dot_txt="one", b_dot_txt="two")
    cut = pieces.cut(IngestSpec(sources=(source(tmp_path / "in"), source(tmp_path / "in", name="again"))), tmp_path / "w")
    assert (len(cut), pieces.workers_for(cut, 8)) == (2, 1)


def test_a_piece_that_is_done_is_not_read_again_unless_its_file_changed(site, tmp_path):
    from tasks.ingest import pieces

    folder = put(tmp_path / "in", a_dot_txt="one")
    (piece,) = pieces.cut(IngestSpec(sources=(source(folder),)), tmp_path / "work")
    assert not piece.is_done
    piece.read()
    assert (piece.is_done, piece.num_records) == (True, 1)
    put(folder, a_dot_txt="other")
    assert not piece.is_done


def test_a_large_parquet_is_decoded_row_by_row(site, tmp_path):
    """A text written once and pointed to by every row is one text in memory, whatever the batch."""
    import tracemalloc

    table = pa.table({"text": pa.DictionaryArray.from_arrays(pa.array([0] * 100, pa.int32()), ["y" * 2_000_000])})
    pq.write_table(table, tmp_path / "a.parquet")
    put(tmp_path, b_dot_txt="fine")
    tracemalloc.start()
    before = pa.default_memory_pool().max_memory()
    corpus = read(site, tmp_path / "a.parquet", tmp_path / "b.txt", max_document_bytes=1_000_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert corpus.quarantined == {"too_large": 100}
    assert peak < 40_000_000
    assert pa.default_memory_pool().max_memory() - before < 60_000_000
