"""Whatever comes in, every row of a labelled set is an item or is counted."""

import gzip
import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from tasks.core.errors import ContractError
from tasks.core.site import Site
from tasks.core.tables import read_rows
from tasks.labelled import LabelledSpec, read_labelled

ANY = settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck), database=None)
NASTY = st.text(st.characters(codec=None), max_size=12) | st.sampled_from(
    ["", " ", "\ud800", "\x00", "\u202e", "same", "SAME ", "1", "nan"]
)
VALUE = NASTY | st.none() | st.booleans() | st.integers() | st.floats() | st.lists(NASTY, max_size=3) | st.just({"a": 1})
COLUMNS = ("text", "b", "words", "label", "group", "id", "part")
ROW = st.dictionaries(st.sampled_from(COLUMNS), VALUE)
LINE = ROW.map(lambda row: json.dumps(row).encode()) | st.binary(max_size=20) | st.sampled_from([b"{", b"null", b"[]", b'"'])
TASKS = ("classification", "multi_label", "regression", "token_classification")
GOOD = [{"text": f"t{n}", "b": "p", "words": [f"w{n}", "x"], "part": "1"} for n in range(5)]
LABELS = {"classification": "abaab", "multi_label": [["a"], [], ["a", "b"], ["b"], []], "regression": [1, 2, 3, 4, 5]}
LABELS["token_classification"] = [["a", "b"]] * 5
OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "group_column": st.just("group"),
        "id_column": st.just("id"),
        "where": st.just({"part": ["1"]}),
        "has_quotes": st.booleans(),
        "encoding": st.sampled_from(["utf-8", "gb18030", "big5", "cp1252"]),
    },
)


def labelled_of(folder, task, files, columns, conflict):
    good = [row | {"label": label, "id": f"good {n}"} for n, (row, label) in enumerate(zip(GOOD, LABELS[task], strict=True))]
    (folder / "good.jsonl").write_text("\n".join(map(json.dumps, good)))
    for name, data in files.items():
        (folder / name).write_bytes(data)
    sets = [
        {"name": f"set{number}", "licence": "MIT", "paths": [str(folder / name)]} | (columns if number else {})
        for number, name in enumerate(["good.jsonl", *files])
    ]
    spec = LabelledSpec.model_validate({"task": task, "train": sets, "conflict": conflict})
    return read_labelled.build(spec, site=Site(state_dir=folder / "state"))


def accounted(labelled):
    """Checks every count against the rows on disk, and that no input and no group stands in two splits."""
    rows = list(read_rows(labelled.path / "items.parquet"))
    assert labelled.num_items == len(rows) == len({row["id"] for row in rows})
    assert labelled.num_items_in == len(rows) + sum(labelled.dropped_by_reason.values())
    assert len({(row["group"], row["split"]) for row in rows}) == len({row["group"] for row in rows})
    assert sum(labelled.items_by_label.values()) == sum(len(row["labels"] or ()) for row in rows)
    for row in rows:
        json.dumps(row).encode()
        assert row["text"].strip()
        assert (row["labels"] is None) is (labelled.task == "regression")


@ANY
@given(st.sampled_from(TASKS), st.lists(LINE, max_size=20), OPTIONS, st.sampled_from(["drop", "keep"]))
@example("regression", [b'{"text": "x", "label": 1e999}', b'{"text": "x", "label": "9"}'], {}, "keep")
def test_every_line_is_accounted_for(task, lines, columns, conflict):
    with tempfile.TemporaryDirectory() as name:
        data = b"\n".join(lines)
        found = labelled_of(Path(name), task, {"a.jsonl": data}, columns, conflict)
        accounted(found)
        assert found.num_items_in == 5 + len([line for line in data.split(b"\n") if line.strip()])


TABLE = st.lists(
    st.sampled_from([b'"', b",", b"\t", b"\n", b"\r\n", b"1", b"\xff", "好".encode(), b"same", b"\0"]), max_size=40
).map(b"".join)


@ANY
@given(
    st.sampled_from(TASKS),
    st.sampled_from([".csv", ".tsv", ".csv.gz", ".json", ".parquet", ".dat"]),
    TABLE,
    OPTIONS,
    st.booleans(),
)
def test_every_table_is_accounted_for(task, suffix, data, columns, is_cut):
    with tempfile.TemporaryDirectory() as name:
        head = b"\t".join(map(str.encode, COLUMNS)) if suffix == ".tsv" else b",".join(map(str.encode, COLUMNS))
        packed = gzip.compress(head + b"\n" + data) if suffix.endswith("gz") else head + b"\n" + data
        assume(not is_cut or suffix == ".csv.gz")
        accounted(labelled_of(Path(name), task, {f"a{suffix}": packed[:-5] if is_cut else packed}, columns, "drop"))


@pytest.mark.parametrize("data", [b"\xff", b"text", b"text,label\n"])
def test_a_table_without_its_columns_is_an_error_or_empty(tmp_path, data):
    if b"label" in data:
        assert labelled_of(tmp_path, "classification", {"a.csv": data}, {}, "drop").num_items == 5
    else:
        with pytest.raises(ContractError, match="has no column"):
            labelled_of(tmp_path, "classification", {"a.csv": data}, {}, "drop")
