"""Whatever comes in, every row of a labelled, instruction or preference set is an item or is counted."""

import gzip
import json
import tempfile
from itertools import groupby
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from tasks.core.errors import ContractError
from tasks.core.site import Site
from tasks.core.tables import read_rows
from tasks.instructions import InstructionsSpec, PreferencesSpec, read_conversations, read_preferences
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


LINES = st.lists(st.sampled_from([b"", b" ", b"w O", b"w\tO", b"\xff O", b"O", b"w x O", b"-DOCSTART- O", b"\r"]), max_size=30)


@ANY
@given(LINES, st.sampled_from(["utf-8", "cp1252"]))
def test_every_sentence_is_accounted_for(lines, encoding):
    with tempfile.TemporaryDirectory() as name:
        columns = {"words_column": "1", "label_column": "2", "encoding": encoding}
        data = b"\n".join([b"New B", b"York I", b"", *lines])
        found = labelled_of(Path(name), "token_classification", {"a.conll": data}, columns, "keep")
        accounted(found)
        is_between = [not line.strip() or line.startswith(b"-DOCSTART-") for line in lines]
        num_sentences = sum(not between for between, _ in groupby(is_between))
        assert found.num_items_in == 6 + num_sentences


@pytest.mark.parametrize("data", [b"\xff", b"text", b"text,label\n"], ids=repr)
def test_a_table_without_its_columns_is_an_error_or_empty(tmp_path, data):
    if b"label" in data:
        assert labelled_of(tmp_path, "classification", {"a.csv": data}, {}, "drop").num_items == 5
    else:
        with pytest.raises(ContractError, match="header of a.csv is not utf-8" if data == b"\xff" else "has no column"):
            labelled_of(tmp_path, "classification", {"a.csv": data}, {}, "drop")


SAID = NASTY | st.sampled_from(["Q", "A", "{{name}}", "<|im_end|>", json.dumps({"name": "f", "arguments": {}})])
SIDE = st.sampled_from(["user", "assistant", "system", "tool", "human", "gpt", "function_call", "observation", ""]) | VALUE
CONTENT = SAID | VALUE | st.lists(st.dictionaries(st.sampled_from(["type", "text", "value"]), SAID | VALUE), max_size=2)
TURN = st.fixed_dictionaries(
    {}, optional={"role": SIDE, "content": CONTENT, "from": SIDE, "value": CONTENT, "tool_calls": CONTENT, "loss_weight": VALUE}
)
SPOKEN = st.lists(TURN, max_size=5) | VALUE
VALID = st.lists(SAID, min_size=2, max_size=4).map(
    lambda said: [{"role": ("user", "assistant")[place % 2], "content": text} for place, text in enumerate(said)]
)
TOLD = st.fixed_dictionaries(
    {},
    optional={
        "messages": VALID | SPOKEN,
        "conversations": SPOKEN,
        "instruction": SAID | VALUE,
        "output": SAID,
        "prompt": SAID | VALUE,
    }
    | {
        "response": SAID,
        "instances": SPOKEN,
        "tools": SAID | VALUE | st.just([{"name": "f"}]),
        "id": SAID | VALUE,
        "group": SAID | VALUE,
    }
    | {"keywords": VALUE, "match": VALUE, "chosen": SPOKEN | SAID | TURN, "rejected": SPOKEN | SAID | TURN, "label": VALUE},
)


def told_in(folder, told):
    answers = {"response": "It is.", "chosen": "It is.", "rejected": "It is not.", "label": True}
    asked = [{"prompt": f"What is {number}?"} | answers for number in range(3)]
    (folder / "a.json").write_text(json.dumps([*asked, *told]))
    return [{"name": "a", "licence": "MIT", "paths": [str(folder / "a.json")]}]


@ANY
@given(st.lists(TOLD, max_size=12))
@example([{"messages": [{"role": ["user"], "content": "Q"}]}, {"instruction": "a", "instances": [{}, {}]}])
def test_every_conversation_is_accounted_for(told):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        spec = InstructionsSpec.model_validate({"train": told_in(folder, told), "slots": {"author": "us"}})
        found = read_conversations.build(spec, site=Site(state_dir=folder / "state"))
        rows = [json.loads(line) for line in (found.path / "conversations.jsonl").read_text(encoding="utf-8").splitlines()]
        assert found.num_items == len(rows) == len({row["id"] for row in rows})
        expected = sum(len(one["instances"]) or 1 if isinstance(one.get("instances"), list) else 1 for one in told)
        assert 3 + len(told) <= found.num_items_in <= 3 + expected
        assert found.num_items_in == len(rows) + sum(found.dropped_by_reason.values())
        for row in rows:
            turns = [message["role"] for message in row["messages"] if message["role"] != "system"]
            assert turns == ["user", "assistant"] * (len(turns) // 2)
            assert all(message["content"] for message in row["messages"] if message["role"] != "system")


@ANY
@given(st.lists(TOLD, max_size=12), st.sampled_from(["paired", "unpaired"]))
@example([{"chosen": [{"from": [], "value": "Q"}], "rejected": "A"}, {"prompt": [{"role": "user"}], "label": True}], "paired")
def test_every_preference_is_accounted_for(told, kind):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        spec = PreferencesSpec.model_validate({"kind": kind, "train": told_in(folder, told)})
        found = read_preferences.build(spec, site=Site(state_dir=folder / "state"))
        rows = [json.loads(line) for line in (found.path / "preferences.jsonl").read_text(encoding="utf-8").splitlines()]
        assert found.num_items == len(rows) == len({row["id"] for row in rows})
        assert found.num_items_in == len(rows) + sum(found.dropped_by_reason.values())
        assert len({(row["group"], row["split"]) for row in rows}) == len({row["group"] for row in rows})
        for row in rows:
            if kind == "paired":
                assert row["chosen"] != row["rejected"]
                assert row["chosen"]
                assert row["prompt"][-1]["role"] == "user"
            else:
                assert row["messages"][-1]["role"] == "assistant"
