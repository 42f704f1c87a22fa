"""Tables: streamed, in order, the same bytes for the same rows."""

import hashlib

import pyarrow.parquet as pq
import pytest

from tasks.core import tables
from tasks.core.tables import TableWriter, group_runs, num_rows, read_group, read_rows, row_groups, where_equal, write_table

SCHEMA = {"id": "string", "count": "int64"}


def rows(number):
    return [{"id": f"row {place}", "count": place} for place in range(number)]


def test_rows_come_back_in_order(tmp_path):
    assert write_table(tmp_path / "t.parquet", SCHEMA, rows(2_345)) == 2_345
    assert list(read_rows(tmp_path / "t.parquet")) == rows(2_345)
    assert num_rows(tmp_path / "t.parquet") == 2_345


def test_row_groups_are_pieces_of_work(tmp_path):
    write_table(tmp_path / "t", SCHEMA, rows(2_345))
    groups = row_groups(tmp_path / "t")
    assert [len(read_group(*group)) for group in groups] == [1_000, 1_000, 345]


def test_larger_pieces_of_work_are_row_groups_in_a_row(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "_GROUP_BYTES", 100)
    monkeypatch.setattr(tables, "_FILE_BYTES", 400)
    write_table(tmp_path / "t", SCHEMA, ({"id": f"{place:060}", "count": place} for place in range(12)))
    per_group = pq.read_metadata(tmp_path / "t" / "00000.parquet").row_group(0).total_byte_size
    found = [(path.name, groups) for path, groups in group_runs(tmp_path / "t", 2 * per_group)]
    assert found == [("00000.parquet", [0, 1]), ("00000.parquet", [2, 3]), ("00001.parquet", [0, 1])]
    assert [(path, [group]) for path, group in row_groups(tmp_path / "t")] == list(group_runs(tmp_path / "t", 1))


def test_rows_are_found_by_a_word(tmp_path):
    write_table(tmp_path / "t.parquet", {"word": "string"}, ({"word": word} for word in ("one", "two", "one")))
    table = pq.read_table(tmp_path / "t.parquet")
    assert where_equal(table, "word", "one").tolist() == [True, False, True]
    assert where_equal(table, "word", "three").tolist() == [False, False, False]
    assert where_equal(table.slice(0, 0), "word", "one").tolist() == []


def test_large_rows_close_a_group_early(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "_GROUP_BYTES", 100)
    write_table(tmp_path / "t", SCHEMA, ({"id": "x" * 60, "count": place} for place in range(5)))
    assert [len(read_group(*group)) for group in row_groups(tmp_path / "t")] == [2, 2, 1]


def test_files_roll_over(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "_GROUP_BYTES", 100)
    monkeypatch.setattr(tables, "_FILE_BYTES", 200)
    write_table(tmp_path / "t", SCHEMA, ({"id": "x" * 60, "count": place} for place in range(9)))
    assert [path.name for path in sorted((tmp_path / "t").iterdir())] == ["00000.parquet", "00001.parquet", "00002.parquet"]
    assert [row["count"] for row in read_rows(tmp_path / "t")] == list(range(9))


def test_the_same_rows_give_the_same_bytes(tmp_path):
    digests = set()
    for name in ("one", "two"):
        write_table(tmp_path / name, SCHEMA, rows(1_500))
        digests.add(hashlib.sha256((tmp_path / name / "00000.parquet").read_bytes()).hexdigest())
    assert len(digests) == 1


def test_an_empty_table_has_its_schema(tmp_path):
    write_table(tmp_path / "t.parquet", SCHEMA, [])
    assert pq.read_table(tmp_path / "t.parquet").column_names == ["id", "count"]
    assert list(read_rows(tmp_path / "t.parquet")) == []


def test_what_an_earlier_attempt_left_goes(tmp_path):
    write_table(tmp_path / "t", SCHEMA, rows(3))
    (tmp_path / "t" / "00007.parquet").write_bytes((tmp_path / "t" / "00000.parquet").read_bytes())
    write_table(tmp_path / "t", SCHEMA, rows(2))
    assert num_rows(tmp_path / "t") == 2


def test_a_value_of_the_wrong_type_is_refused(tmp_path):
    with pytest.raises(Exception, match="int"), TableWriter(tmp_path / "t.parquet", SCHEMA) as writer:
        writer.write({"id": "a", "count": "many"})
