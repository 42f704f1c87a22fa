"""Rows: every format gives the same rows; what cannot be read stands in its place with its reason."""

import gzip
import io
import json
from datetime import date
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from pydantic import ValidationError

from tasks.core.errors import ContractError
from tasks.core.rows import Refused, RowSet, read_set
from tasks.core.values import group_of, name_of

ROWS = [{"text": 'say "hi", twice', "label": "1"}, {"text": "好", "label": "0"}]


def parquet(rows):
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), buffer)
    return buffer.getvalue()


CSV = 'text,label\n"say ""hi"", twice",1\n\n好,0\n'
LINES = "\n".join(json.dumps(row) for row in ROWS).encode()
FILES = {
    "a.csv": b"\xef\xbb\xbf" + CSV.encode(),
    "crlf.csv": CSV.replace("\n", "\r\n").encode(),
    "a.csv.gz": gzip.compress(CSV.encode()),
    "a.tsv": b'text\tlabel\n"say ""hi"", twice"\t1\n\xe5\xa5\xbd\t0\n',
    "a.jsonl": LINES,
    "a.jsonl.zst": zstandard.compress(LINES),
    "a.json": json.dumps(ROWS).encode(),
    "a.parquet": parquet(ROWS),
}


def read(path, needed=("text", "label"), **settings):
    rows = RowSet.model_validate({"name": "set", "licence": "MIT", "paths": [str(path)]} | settings)
    return [str(row) if isinstance(row, Refused) else row for row in read_set(rows, needed)]


@pytest.mark.parametrize("name", FILES)
def test_every_format_gives_the_same_rows(tmp_path, name):
    (tmp_path / name).write_bytes(FILES[name])
    assert read(tmp_path / name) == ROWS


CONLL = "-DOCSTART- O\nNew B\nYork I\n\n \n好 O\n\nlong\n\nbroken O\nhere\n\nlast O"


@pytest.mark.parametrize(("name", "blank"), [("a.conll", " "), ("b.conll", "\t"), ("c.conll.gz", "\t")])
def test_a_sentence_is_a_row_of_lists(tmp_path, name, blank):
    data = ("\ufeff" + CONLL.replace(" O", f"{blank}O").replace(" B", f"{blank}B").replace(" I", f"{blank}I")).encode()
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    found = read(tmp_path / name, ["1", "2"])
    assert found[:2] == [{"1": ["New", "York"], "2": ["B", "I"]}, {"1": ["好"], "2": ["O"]}]
    assert found[2:] == ["broken_conll", "broken_conll", {"1": ["last"], "2": ["O"]}]


def test_sentences_in_another_encoding_or_without_a_column(tmp_path):
    (tmp_path / "a.txt").write_bytes("好 O\n\n".encode("gb18030") + b"\x81 O\n")
    assert read(tmp_path / "a.txt", ["1"], format="conll", encoding="gb18030") == [{"1": ["好"], "2": ["O"]}, "undecodable"]
    with pytest.raises(ContractError, match=r"a\.txt has no column '4', only 1, 2"):
        read(tmp_path / "a.txt", ["1", "4"], format="conll", encoding="gb18030")


def test_a_saved_data_set_is_read_by_its_split(tmp_path):
    from datasets import Dataset, DatasetDict

    DatasetDict({"train": Dataset.from_list(ROWS), "dev": Dataset.from_list(ROWS[1:])}).save_to_disk(tmp_path / "saved")
    assert read(tmp_path / "saved", format="saved") == ROWS
    assert read(tmp_path / "saved", format="saved", saved_split="dev", needed=["label"]) == [{"label": "0"}]
    with pytest.raises(ContractError, match="has no split 'test', only train, dev"):
        read(tmp_path / "saved", format="saved", saved_split="test")
    with pytest.raises(ContractError, match="has no column 'score', only text, label"):
        read(tmp_path / "saved", format="saved", needed=["score"])
    with pytest.raises(ContractError, match="cannot be opened as a saved data set"):
        read(tmp_path, format="saved")
    with pytest.raises(ValidationError, match="a saved data set is one folder, not 2 paths"):
        RowSet(name="a", licence="MIT", paths=("a", "b"), format="saved")


def test_a_saved_data_set_has_plain_values_whatever_its_format(tmp_path):
    from datasets import Dataset

    Dataset.from_list([{"text": "a", "label": 1}]).with_format("numpy").save_to_disk(tmp_path / "saved")
    (row,) = read(tmp_path / "saved", format="saved")
    assert {name: type(value) for name, value in row.items()} == {"text": str, "label": int}


def test_without_a_header_columns_are_called_by_their_place(tmp_path):
    (tmp_path / "a.tsv").write_text("fine\t1\nso so\t0\n")
    assert read(tmp_path / "a.tsv", ["1", "2"], has_header=False) == [{"1": "fine", "2": "1"}, {"1": "so so", "2": "0"}]
    with pytest.raises(ContractError, match=r"a\.tsv has no column '3', only 1, 2; .*without a header they are 1, 2, 3"):
        read(tmp_path / "a.tsv", ["1", "3"], has_header=False)


def test_quotation_marks_can_be_text(tmp_path):
    (tmp_path / "a.tsv").write_text('text\n"open\nnext" one\n')
    assert read(tmp_path / "a.tsv", ["text"], has_quotes=False) == [{"text": '"open'}, {"text": 'next" one'}]
    assert read(tmp_path / "a.tsv", ["text"]) == ["broken_csv"]


def test_the_encoding_of_a_table_is_said(tmp_path):
    (tmp_path / "a.csv").write_bytes("text\n房间很大\n".encode("gb18030") + b"\x81\n")
    assert read(tmp_path / "a.csv", ["text"], encoding="gb18030") == [{"text": "房间很大"}, "undecodable"]
    assert read(tmp_path / "a.csv", ["text"]) == ["undecodable", "undecodable"]


@pytest.mark.parametrize("encoding", ["gb18030", "utf-16"])
def test_a_header_in_another_encoding_is_an_error_that_says_what_to_do(tmp_path, encoding):
    (tmp_path / "a.csv").write_bytes("正文,label\n好,1\n".encode(encoding))
    with pytest.raises(
        ContractError, match=r"header of a\.csv is not utf-8; set the encoding of set .*or save the file as UTF-8"
    ):
        read(tmp_path / "a.csv")
    (tmp_path / "c.csv").write_bytes("备注,text,label\n".encode("gb18030") + "好,fine,1\n,good,0\n".encode())
    assert [row["text"] for row in read(tmp_path / "c.csv")] == ["fine", "good"]
    with pytest.raises(ContractError, match=r"header of c\.csv is not utf-8"):
        read(tmp_path / "c.csv", [])
    (tmp_path / "b.csv").write_bytes("text,label\n".encode("utf-16-le"))
    with pytest.raises(ContractError, match="has no column 'text', 'label', only t\ufffde") as error:
        read(tmp_path / "b.csv")
    str(error.value).encode()


def test_two_columns_of_one_name_are_an_error_where_they_are_read(tmp_path):
    (tmp_path / "a.csv").write_text("text,text,label,label\na,b,1,2\n")
    with pytest.raises(ContractError, match=r"a\.csv has two columns called 'label'"):
        read(tmp_path / "a.csv", ["label"])
    assert read(tmp_path / "a.csv", []) == [{"text": "b", "label": "2"}]


def test_the_format_can_be_said(tmp_path):
    (tmp_path / "a.dat").write_bytes(LINES)
    assert read(tmp_path / "a.dat") == ["unknown_format"]
    assert read(tmp_path / "a.dat", format="jsonl") == ROWS
    (tmp_path / "a.json").write_bytes(LINES)
    assert read(tmp_path / "a.json", format="json") == ["broken_json"]


@pytest.mark.parametrize(
    ("name", "data", "found"),
    [
        ("a.csv", b"text,label\none\nx,1,2\nx,1\n", ["broken_csv", "broken_csv", {"text": "x", "label": "1"}]),
        ("a.csv", b'"text', ["broken_csv"]),
        ("a.csv", b"", []),
        ("a.jsonl", b'{"a": 1}\n{broken\n\xff\n\n', [{"a": 1}, "broken_json", "undecodable"]),
        ("a.jsonl.gz", gzip.compress(LINES, mtime=0)[:-9], ["unreadable"]),
        ("a.json", b'{"a": 1}', [{"a": 1}]),
        ("a.json", b'\xef\xbb\xbf{"a": 1}\n\n{"a": 2}\n{broken', [{"a": 1}, {"a": 2}, "broken_json"]),
        ("a.json", b'{\n"a": 1}', [{"a": 1}]),
        ("a.json", b"[1]\n[2]", ["broken_json"]),
        ("a.parquet", parquet(ROWS)[:-9], ["unreadable"]),
    ],
)
def test_what_cannot_be_read_stands_in_its_place(tmp_path, name, data, found):
    (tmp_path / name).write_bytes(data)
    assert read(tmp_path / name) == found


def test_text_of_a_parquet_file_that_is_not_utf8_costs_its_row(tmp_path):
    texts = pa.Array.from_buffers(pa.string(), 3, pa.array([b"fine", b"\xff", b"good"], pa.binary()).buffers())
    pq.write_table(pa.table({"text": texts}), tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet", ["text"]) == [{"text": "fine"}, "undecodable", {"text": "good"}]


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (7, "7"),
        (1.0, "1"),
        ("1.0", "1"),
        ("-17.0", "-17"),
        ("1.10", "1.10"),
        ("v1.0", "v1.0"),
        (Decimal("1.00"), "1"),
        (2.5, "2.5"),
        (" a ", "a"),
        (date(2020, 1, 2), "2020-01-02"),
    ]
    + [(value, None) for value in (None, "", " ", float("nan"))],
)
def test_a_group_is_called_as_people_write_it(value, name):
    assert group_of(value) == name_of(value) == name


@pytest.mark.parametrize("value", [True, False])
def test_yes_and_no_name_groups_and_no_single_row(value):
    assert (group_of(value), name_of(value)) == (str(value), None)


@pytest.mark.parametrize("value", [b"a", ["a"], {"a": 1}])
def test_a_group_without_a_name_costs_its_row(value):
    assert name_of(value) is None
    with pytest.raises(Refused, match="broken_group"):
        group_of(value)
