"""Instructions: every form, every reason to drop, held-out items kept apart, the shuffled experiment."""

import gzip
import json

import pytest

from tasks.core.errors import ContractError, RecipeError
from tasks.instructions import InstructionsSpec, read_conversations
from tests.data.kit import write_jsonl


def spec_of(train, heldout=None, **settings):
    sets = {"train": [{"name": "train", "licence": "MIT", "paths": [str(train)]}]}
    if heldout is not None:
        sets["heldout"] = [{"name": "held", "licence": "MIT", "paths": [str(heldout)]}]
    return InstructionsSpec.model_validate(sets | settings)


def lines(conversations):
    return [json.loads(line) for line in (conversations.path / "conversations.jsonl").read_text(encoding="utf-8").splitlines()]


def build(site, folder, train, heldout=None, **settings):
    held = write_jsonl(folder / "held.jsonl", heldout) if heldout is not None else None
    return read_conversations.build(spec_of(write_jsonl(folder / "train.jsonl", train), held, **settings), site=site)


def alpaca(number, **more):
    return {
        "id": f"item {number}",
        "instruction": f"What is the square of {number}, in words?",
        "output": f"Answer {number}.",
    } | more


FORMS = [
    {
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Q1"},
            {"role": "assistant", "content": "A1"},
        ]
    },
    {"instruction": "Q2", "input": "more", "output": " A2 "},
    {"conversations": [{"from": "human", "value": "Q3"}, {"from": "gpt", "value": "A3"}]},
    {"prompt": "Q4", "response": "A4"},
    {"messages": [{"role": "user", "content": [{"type": "text", "text": "Q5"}]}, {"role": "assistant", "content": "A5"}]},
    {"instruction": "Q6", "context": "more", "response": "A6", "category": "closed_qa"},
]


def test_rows_of_tables_and_data_sets_are_items_as_json_is(site, tmp_path):
    """A table has every column in every row, so what an item lacks is null there; group and words stand in both."""
    import datasets
    import pyarrow as pa
    import pyarrow.parquet as pq

    two = [
        {"instruction": "Q6", "instances": [{"input": "a", "output": "A6"}, {"input": "b", "output": "A7"}]},
        {"instruction": "Q8", "output": "A8", "keywords": ["A8"], "group": "g"},
        {"messages": [{"role": "user", "content": "Q9"}, {"role": "assistant", "content": "A9"}]},
        {"conversations": [{"from": "human", "value": "Q3"}, {"from": "gpt", "value": "A3"}]},
        {"prompt": "Q4", "completion": "A4"},
    ]
    pq.write_table(pa.Table.from_pylist(two, schema=_schema(two)), tmp_path / "train.parquet")
    datasets.Dataset.from_parquet(str(tmp_path / "train.parquet"), cache_dir=str(tmp_path)).save_to_disk(tmp_path / "saved")
    wanted = lines(build(site, tmp_path, two))
    assert len(wanted) == 6
    assert len({row["group"] for row in wanted}) == 5
    assert lines(read_conversations.build(spec_of(tmp_path / "train.parquet"), site=site)) == wanted
    saved = {"name": "train", "licence": "MIT", "paths": [str(tmp_path / "saved")], "format": "saved"}
    assert lines(read_conversations.build(InstructionsSpec.model_validate({"train": [saved]}), site=site)) == wanted
    (tmp_path / "t.csv").write_text("instruction,input,output\nQ2,more,A2\n", encoding="utf-8")
    (row,) = lines(read_conversations.build(spec_of(tmp_path / "t.csv"), site=site))
    assert row["messages"] == [{"role": "user", "content": "Q2\nmore"}, {"role": "assistant", "content": "A2"}]


def _schema(rows):
    import pyarrow as pa

    return pa.unify_schemas([pa.Table.from_pylist([row]).schema for row in rows])


def test_every_form_becomes_messages(site, tmp_path):
    found = {row["id"]: row["messages"] for row in lines(build(site, tmp_path, FORMS))}
    assert found["train/1"] == FORMS[0]["messages"]
    assert found["train/2"] == [{"role": "user", "content": "Q2\nmore"}, {"role": "assistant", "content": "A2"}]
    assert found["train/3"] == [{"role": "user", "content": "Q3"}, {"role": "assistant", "content": "A3"}]
    assert found["train/4"] == [{"role": "user", "content": "Q4"}, {"role": "assistant", "content": "A4"}]
    assert found["train/5"][0] == {"role": "user", "content": "Q5"}
    assert found["train/6"] == [{"role": "user", "content": "Q6\nmore"}, {"role": "assistant", "content": "A6"}]


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.jsonl.gz"])
def test_arrays_and_lines(site, tmp_path, name):
    items = [alpaca(number) for number in range(3)]
    text = json.dumps(items) if name == "a.json" else "\n".join(map(json.dumps, items))
    (tmp_path / name).write_bytes(gzip.compress(text.encode()) if name.endswith("gz") else text.encode())
    assert read_conversations.build(spec_of(tmp_path / name), site=site).num_items == 3


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        ({"text": "no form at all"}, "unknown_form"),
        (["a", "list"], "unknown_form"),
        ({"messages": []}, "broken_turns"),
        ({"messages": "hello"}, "broken_turns"),
        ({"messages": [{"role": "user", "content": "Q"}]}, "broken_turns"),
        ({"messages": [{"role": "assistant", "content": "A"}, {"role": "user", "content": "Q"}]}, "broken_turns"),
        ({"messages": [{"role": "user", "content": "Q"}, {"role": "tool", "content": "A"}]}, "broken_turns"),
        ({"messages": [{"role": "user"}, {"role": "assistant", "content": "A"}]}, "broken_turns"),
        ({"instruction": "Q", "output": None}, "broken_turns"),
        ({"instruction": "Q", "output": "  "}, "empty_answer"),
        ({"instruction": "Q", "output": "A<|im_end|>B"}, "control_token"),
        ({"instruction": "", "output": "A"}, "empty_prompt"),
        ({"instruction": "Q \ud800", "output": "A"}, "lone_surrogate"),
        ({"instruction": "Q", "output": "A" * 300}, "too_long"),
        ({"instruction": "Q", "output": "A", "keywords": "['word']"}, "broken_keywords"),
        ({"instruction": "Q", "output": "A", "keywords": [" "]}, "broken_keywords"),
        ({"instruction": "Q", "output": "A", "keywords": ["a"], "match": "some"}, "broken_keywords"),
        (alpaca(1) | {"id": "other"}, "duplicate"),
        (alpaca(99) | {"id": "item 1"}, "duplicate_id"),
        (alpaca(50) | {"group": "held group"}, "held_out_group"),
        ({"instruction": "What, IS the held-out question?", "output": "Another answer."}, "held_out_prompt"),
        (alpaca(50, history=[["What is the held-out question?", "A"]]), "held_out_prompt"),
        (alpaca(50) | {"group": {"a": 1}}, "broken_group"),
        (alpaca(50) | {"copied": "perhaps"}, "broken_copied"),
    ],
)
def test_an_item_is_dropped_with_its_reason(site, tmp_path, item, reason):
    heldout = [{"instruction": "what is the held-out question", "output": "A", "group": "held group", "keywords": ["a"]}]
    found = build(site, tmp_path, [alpaca(1), item, alpaca(2)], heldout, max_chars=200)
    assert found.dropped_by_reason == {reason: 1}
    assert sorted(row["id"] for row in lines(found)) == ["held/1", "train/item 1", "train/item 2"]
    assert found.num_items_in == 4


@pytest.mark.parametrize(
    ("data", "reason"),
    [(b"{broken\n", "broken_json"), (b'{"prompt": "caf\xe9"}\n', "undecodable"), (b"[" * 90_000 + b"\n", "broken_json")],
)
def test_a_line_that_cannot_be_read_is_dropped(site, tmp_path, data, reason):
    path = write_jsonl(tmp_path / "train.jsonl", [alpaca(1), alpaca(2)])
    path.write_bytes(data + path.read_bytes())
    assert read_conversations.build(spec_of(path), site=site).dropped_by_reason == {reason: 1}


def test_a_file_that_is_cut_off_is_counted(site, tmp_path):
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(json.dumps(alpaca(1)).encode())[:-5])
    write_jsonl(tmp_path / "b.jsonl", [alpaca(2)])
    found = read_conversations.build(spec_of(tmp_path / "*.jsonl*"), site=site)
    assert found.dropped_by_reason == {"unreadable": 1}


def test_a_small_edit_of_a_long_held_out_prompt_is_found(site, tmp_path):
    prompt = "Translate this description of a package: it creates menus from the shell, and each item runs a command when chosen."
    train = [alpaca(1), alpaca(2), {"instruction": prompt.replace("chosen", "picked"), "output": "B"}]
    held = [{"instruction": prompt, "output": "A"}]
    assert build(site, tmp_path, train, held, near_heldout_similarity=0.85).dropped_by_reason == {"held_out_prompt": 1}
    assert build(site, tmp_path, train, held, near_heldout_similarity=None).dropped_by_reason == {"held_out_ngram": 1}
    off = {"near_heldout_similarity": None, "heldout_overlap": None}
    assert build(site, tmp_path, train, held, **off).dropped_by_reason == {}


HELD_ANSWER = "It prints the names of all files in a folder, hidden ones too."
IN_A_SYSTEM_MESSAGE = [{"role": role, "content": "x"} for role in ("system", "user", "assistant")]
IN_A_SYSTEM_MESSAGE[0]["content"] = HELD_ANSWER


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        ({"prompt": "Something else", "response": f"Look: {HELD_ANSWER.upper()} So it is."}, "held_out_answer"),
        ({"prompt": "It prints the names of all files in a folder, hidden ones and more?", "response": "No."}, None),
        (
            {"prompt": "Why is the command that is asked about in the first of nine lessons?", "response": "x"},
            "held_out_ngram",
        ),
        ({"messages": IN_A_SYSTEM_MESSAGE}, None),
    ],
)
def test_training_items_that_hold_a_held_out_one_are_dropped(site, tmp_path, item, reason):
    held = [{"prompt": "What is the command that is asked about in the first of nine lessons for?", "response": HELD_ANSWER}]
    found = build(site, tmp_path, [alpaca(1), item], held)
    assert found.dropped_by_reason == ({reason: 1} if reason else {})


def test_short_prompts_of_one_template_are_not_near(site, tmp_path):
    train = [{"instruction": f"用一句话说明 Linux 命令 {name} 的作用。", "output": name} for name in ("ls", "cp", "apt-get")]
    held = [{"instruction": "用一句话说明 Linux 命令 apt-key 的作用。", "output": "x"}]
    assert build(site, tmp_path, train, held).dropped_by_reason == {}


def test_held_out_items_keep_what_judges_them(site, tmp_path):
    held = [{"instruction": "Q", "output": "A", "group": "g", "keywords": ["x", "y"], "match": "all", "copied": True}]
    rows = {row["split"]: row for row in lines(build(site, tmp_path, [alpaca(1), alpaca(2)], held))}
    test = rows["test"]
    assert (test["keywords"], test["match"], test["copied"], test["group"]) == (["x", "y"], "all", True, "g")
    told = [alpaca(number, copied=said) for number, said in enumerate((None, False, "false", " ", "0", 0, "True", "1", 1.0))]
    copied = [row["copied"] for row in sorted(lines(build(site, tmp_path, told)), key=lambda row: row["id"])]
    assert copied == [False] * 6 + [True] * 3


@pytest.mark.parametrize(
    ("cell", "keywords"),
    [(None, []), ("", []), (" ", []), ('["a;b", "c"]', ["a;b", "c"]), ("a; b;", ["a", "b"]), ("a, b", ["a, b"])],
)
def test_keywords_of_a_csv_file_are_text(site, tmp_path, cell, keywords):
    (row,) = lines(build(site, tmp_path, [alpaca(1, keywords=cell)]))
    assert row["keywords"] == keywords


def test_few_held_out_items_that_can_judge_are_told_before_anything_is_trained(site, tmp_path, caplog):
    build(site, tmp_path, [alpaca(1)], [alpaca(number, keywords=["x"]) for number in range(50, 80)])
    assert not caplog.text
    found = build(site, tmp_path, [alpaca(1)], [alpaca(50), alpaca(51, keywords=["x"])])
    assert "1 of 2 held-out items have keywords and can judge, in 1 groups" in caplog.text
    assert found.summary() == "1 train, 0 validation, 2 test conversations, none dropped"


def test_validation_is_by_group_and_never_empty(site, tmp_path):
    items = [alpaca(number, group=f"group {number // 4}") for number in range(80)]
    found = build(site, tmp_path, items, validation_share=0.2)
    split_of = {}
    for row in lines(found):
        assert split_of.setdefault(row["group"], row["split"]) == row["split"]
    assert 0 < found.items_by_split["validation"] < 40
    smallest = build(site, tmp_path, [alpaca(1), alpaca(2)], validation_share=0.0001)
    assert smallest.items_by_split == {"train": 1, "validation": 1, "test": 0}


def test_answers_to_one_prompt_lie_in_one_split(site, tmp_path):
    rows = [
        alpaca(number, id=f"{number}/{answer}", output=f"{answer} of {number}") for number in range(40) for answer in range(3)
    ]
    rows += [alpaca(number, id=f"g{number}", group=f"g{number // 2}", output="by group") for number in range(40)]
    kept = lines(build(site, tmp_path, rows, validation_share=0.3))
    assert len(kept) == len(rows)
    splits = {}
    for row in kept:
        splits.setdefault(row["messages"][0]["content"], set()).add(row["split"])
    assert {len(found) for found in splits.values()} == {1}
    assert {"train", "validation"} == {row["split"] for row in kept}


def test_a_conversation_that_goes_on_from_another_lies_in_its_split(site, tmp_path):
    rows = [alpaca(number, id=f"whole {number}") for number in range(40)]
    asked = [[alpaca(number)["instruction"], "Earlier answer."] for number in range(40)]
    rows += [alpaca(number + 100, id=f"longer {number}", history=[asked[number], ["And?", "Yes."]]) for number in range(40)]
    split_of = {row["id"]: row["split"] for row in lines(build(site, tmp_path, rows, validation_share=0.3))}
    assert all(split_of[f"train/whole {number}"] == split_of[f"train/longer {number}"] for number in range(40))
    assert set(split_of.values()) == {"train", "validation"}
    greeted = [alpaca(number, history=[["Hello, how are you?", "Hi."]]) for number in range(40)]
    greeted += [{"instruction": "hello, how are you", "output": "Hi."}]
    found = build(site, tmp_path, greeted, [{"instruction": "Hello! How are you?", "output": "Fine."}], validation_share=0.3)
    assert found.dropped_by_reason == {"held_out_prompt": 1}
    assert found.items_by_split["validation"] > 1


def test_an_earlier_turn_of_either_side_is_held_out(site, tmp_path):
    held = [
        {"instruction": "中国的首都是哪里？", "output": "北京"},
        alpaca(50, history=[["What is the square root of nine?", "Three."], ["Thanks!", "Fine."]]),
    ]
    train = [alpaca(1), {"instruction": "那里有多少人？", "output": "很多", "history": [["中国的首都是哪里？", "北京"]]}]
    train += [{"instruction": "what is the square root of nine", "output": "3"}, {"instruction": "Thanks!", "output": "Welcome."}]
    found = build(site, tmp_path, train, held)
    assert found.dropped_by_reason == {"held_out_prompt": 2}
    assert found.items_by_split["train"] + found.items_by_split["validation"] == 2


def test_what_differs_by_a_sign_or_by_what_came_before_is_no_duplicate(site, tmp_path):
    def said(*turns, system="S"):
        roles = ("user", "assistant") * 2
        turns = [{"role": role, "content": text} for role, text in zip(roles, turns, strict=False)]
        return {"messages": [{"role": "system", "content": system}, *turns]}

    rows = [said("2*2", "4"), said("2+2", "4"), said("2+2", "4", system="T"), said("2+2", "four", "sure?", "yes")]
    rows += [said("2+2", "vier", "sure?", "yes"), said("2+2 ", "4")]
    found = build(site, tmp_path, [*rows, *(alpaca(number) for number in range(3))])
    assert found.dropped_by_reason == {"duplicate": 1}


def test_history_and_system_of_an_item_are_read(site, tmp_path):
    item = {"instruction": "And in 2020?", "output": "A", "system": "Be brief.", "history": [["Q1", "A1"], ["Q2", "A2"]]}
    found = lines(build(site, tmp_path, [item, *({"prompt": f"Q{n}", "response": "A", "system": "S"} for n in range(3))]))
    messages = next(row["messages"] for row in found if len(row["messages"]) > 3)
    assert [message["content"] for message in messages] == ["Be brief.", "Q1", "A1", "Q2", "A2", "And in 2020?", "A"]
    assert [message["role"] for message in messages] == ["system", *("user", "assistant") * 3]
    assert sum(row["messages"][0] == {"role": "system", "content": "S"} for row in found) == 3
    there = {"messages": [{"role": "system", "content": "S"}, *FORMS[0]["messages"][1:]], "system": "S"}
    assert len(lines(build(site, tmp_path, [there, alpaca(1)]))) == 2
    broken = [alpaca(1, history=[["Q1"]]), alpaca(2, history="Q"), there | {"system": "T"}]
    assert build(site, tmp_path, [*broken, alpaca(3)]).dropped_by_reason == {"broken_turns": 3}


def test_added_items_move_no_other(site, tmp_path):
    few = {row["id"]: row["split"] for row in lines(build(site, tmp_path, [alpaca(number) for number in range(60)]))}
    many = {row["id"]: row["split"] for row in lines(build(site, tmp_path, [alpaca(number) for number in range(90)]))}
    assert all(many[id] == split for id, split in few.items())


def test_shuffled_answers_are_all_there_and_all_elsewhere(site, tmp_path):
    items = [alpaca(number) for number in range(40)]
    straight, shuffled = (lines(build(site, tmp_path, items, shuffle_answers=flag)) for flag in (False, True))
    answers = {row["id"]: row["messages"][-1]["content"] for row in straight if row["split"] == "train"}
    moved = {row["id"]: row["messages"][-1]["content"] for row in shuffled if row["split"] == "train"}
    assert sorted(answers.values()) == sorted(moved.values())
    assert all(answers[id] != moved[id] for id in answers)
    assert [row for row in straight if row["split"] != "train"] == [row for row in shuffled if row["split"] != "train"]


def test_too_long_can_be_an_error(site, tmp_path):
    with pytest.raises(ContractError, match=r"train/item 1 has \d+ characters, max_chars is 20"):
        build(site, tmp_path, [alpaca(1)], max_chars=20, too_long="fail")


def test_nothing_left_to_tune_on_is_an_error(site, tmp_path):
    with pytest.raises(ContractError, match=r"no training conversation is left of 1 items: \{'unknown_form': 1\}"):
        build(site, tmp_path, [{"a": 1}])


def test_a_missing_file_is_the_users_error(site, tmp_path):
    with pytest.raises(RecipeError, match=r"nowhere\.jsonl matches no file"):
        read_conversations.build(spec_of(tmp_path / "nowhere.jsonl"), site=site)


def test_the_identity_holds_no_path(site, tmp_path):
    spec = spec_of(write_jsonl(tmp_path / "train.jsonl", [alpaca(1)]), write_jsonl(tmp_path / "held.jsonl", [alpaca(2)]))
    assert str(tmp_path) not in json.dumps(spec.pinned(site).identity())
    assert spec.pinned(site).train[0].digest != spec.pinned(site).heldout[0].digest


TOOLS = json.dumps([{"name": "add", "description": "两数之和", "parameters": {"type": "object"}}])
CALL = {"name": "add", "arguments": {"a": 1, "b": 2}}
CALLED = '<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": 2}}\n</tool_call>'


def sharegpt(*turns, **more):
    return {"conversations": [{"from": role, "value": value} for role, value in turns]} | more


def openai(*calls, answers=("3",), **more):
    turns = [{"role": "user", "content": "1+2?"}, {"role": "assistant", "content": None, "tool_calls": list(calls)}]
    turns += [{"role": "tool", "content": answer} for answer in answers]
    return {
        "messages": [*turns, {"role": "assistant", "content": "3."}],
        "tools": [{"type": "function", "function": json.loads(TOOLS)[0]}],
    } | more


def test_tools_calls_and_answers_become_turns_of_any_chat_template(site, tmp_path):
    spoken = [("human", "1+2?"), ("function_call", json.dumps(CALL)), ("observation", "3"), ("gpt", "3.")]
    twice = openai({"function": CALL | {"arguments": '{"a": 1, "b": 2}'}}, CALL, answers=("3", "three"))
    items = [sharegpt(("system", "Be brief."), *spoken, tools=TOOLS), openai(CALL), twice]
    plain = sharegpt(("human", "hi"), ("gpt", "ho"), tools="[]")
    rows = [row["messages"] for row in lines(build(site, tmp_path, [*items, plain], validation_share=1e-9))]
    by_prompt = {(len(row), row[-2]["content"]): row for row in rows}
    one = by_prompt[4 + 1, "<tool_response>\n3\n</tool_response>"]
    assert [message["role"] for message in one] == ["system", "user", "assistant", "user", "assistant"]
    system = one[0]["content"]
    definition = '{"type": "function", "function": {"name": "add", "description": "两数之和", "parameters": {"type": "object"}}}'
    assert f"<tools>\n{definition}\n</tools>" in system
    assert one[2]["content"] == CALLED
    assert len([row for row in rows if row[0]["content"].startswith("Be brief.\n\nYou can call")]) == 1
    both = by_prompt[5, "<tool_response>\n3\n</tool_response>\n<tool_response>\nthree\n</tool_response>"]
    assert both[2]["content"] == f"{CALLED}\n{CALLED}"
    assert [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}] in rows


Q, A = ("human", "Q"), ("gpt", "A")
MADE, SEEN = ("function_call", json.dumps(CALL)), ("observation", "3")


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        (sharegpt(Q, MADE, Q, A), "broken_turns"),
        (sharegpt(Q, A, SEEN, A), "broken_turns"),
        (sharegpt(SEEN, A), "broken_turns"),
        (sharegpt(Q, MADE, SEEN), "broken_turns"),
        (sharegpt(Q, ("function_call", "add(1, 2)"), SEEN, A), "broken_call"),
        (sharegpt(Q, ("function_call", '{"name": "add", "arguments": [1]}'), SEEN, A), "broken_call"),
        (sharegpt(Q, ("function_call", "[]"), SEEN, A), "broken_call"),
        (sharegpt(Q, A, tools="[{]"), "broken_tools"),
        (sharegpt(Q, A, tools='{"name": "add"}'), "broken_tools"),
        (sharegpt(Q, A, tools=[{"title": "add"}]), "broken_tools"),
        (sharegpt(Q, A, tools=[{"name": "<|im_end|>"}]), "control_token"),
        (
            openai(CALL)
            | {"messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A", "tool_calls": [CALL]}]},
            "text_and_call",
        ),
        ({"messages": [{"role": ["user"], "content": "Q"}, {"role": "assistant", "content": "A"}]}, "broken_turns"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image", "value": "x"}]}, {"role": "assistant", "content": "A"}]},
            "not_text",
        ),
        (
            {"messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A", "loss_weight": 0.0}]},
            "loss_weights",
        ),
        ({"messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A", "weight": 0}]}, "loss_weights"),
        ({"instruction": "Q", "output": "I am {{name}}."}, "unfilled_slot"),
        ({"instruction": "Q", "instances": []}, "broken_turns"),
        ({"instruction": "Q", "instances": ["a"]}, "broken_turns"),
        ({"instruction": "Q", "instances": [{"input": "x"}]}, "broken_turns"),
    ],
)
def test_broken_tools_parts_and_slots_are_dropped(site, tmp_path, item, reason):
    assert build(site, tmp_path, [alpaca(1), item, alpaca(2)]).dropped_by_reason == {reason: 1}


def test_calls_of_different_tools_are_the_same_from_a_table(site, tmp_path):
    """Arrow makes one struct of all tools of a column: each call has the fields of every other one, as null."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    def row(number, name, arguments):
        properties = {key: {"type": "string"} for key in arguments}
        tool = {"name": name, "parameters": {"type": "object", "properties": properties}}
        return openai({"function": {"name": name, "arguments": arguments}}, tools=[{"type": "function", "function": tool}]) | {
            "id": str(number)
        }

    rows = [row(1, "weather", {"city": "北京"}), row(2, "pay", {"amount": "3", "to": ["a", "b"]})]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "train.parquet")
    wanted = lines(build(site, tmp_path, rows, validation_share=1e-9))
    found = lines(read_conversations.build(spec_of(tmp_path / "train.parquet", validation_share=1e-9), site=site))
    assert found == wanted
    assert "null" not in json.dumps([turn["content"] for row in found for turn in row["messages"]])


def test_a_conversation_may_end_with_a_call(site, tmp_path):
    rows = lines(build(site, tmp_path, [alpaca(1), sharegpt(Q, MADE, tools=TOOLS)]))
    assert {row["messages"][-1]["content"] for row in rows} == {"Answer 1.", CALLED}


def test_slots_are_filled(site, tmp_path):
    items = [{"instruction": "Who are you, {{name}}?", "output": "{{name}} by {{author}}, not {{ name }} or {{x}}."}, alpaca(1)]
    rows = lines(build(site, tmp_path, items, slots={"name": "Milla", "author": "us"}, validation_share=1e-9))
    said = [message["content"] for row in rows for message in row["messages"]]
    assert {"Who are you, Milla?", "Milla by us, not {{ name }} or {{x}}."} < set(said)


def test_instances_of_an_instruction_are_items_of_one_group(site, tmp_path):
    task = {
        "id": "t",
        "group": float("nan"),
        "instruction": "Negate.",
        "instances": [{"input": "1", "output": "-1"}, {"input": "2", "output": "-2"}, {"output": ""}],
    }
    other = {"instruction": "Double.", "instances": [{"input": "1", "output": "2"}]}
    found = build(site, tmp_path, [task, other])
    rows = {row["id"]: row for row in lines(found)}
    assert (found.num_items_in, found.dropped_by_reason) == (4, {"empty_answer": 1})
    assert {id: row["group"] for id, row in rows.items()} == {
        "train/t/1": "train/t",
        "train/t/2": "train/t",
        "train/2": "train/2",
    }
    assert rows["train/t/2"]["messages"][0]["content"] == "Negate.\n2"


FRAME = "Below is an instruction that describes a task. Write.\n\n### Instruction:\n{}\n\n### Response:\n"


@pytest.mark.parametrize(
    ("prompt", "asked"),
    [
        (FRAME.format("What?"), "What?"),
        (FRAME.format("Sum.\n\n### Input:\n1 2"), "Sum.\n1 2"),
        ("Below is an instruction, and nothing else", "Below is an instruction, and nothing else"),
    ],
)
def test_the_frame_of_an_alpaca_prompt_is_taken_off(site, tmp_path, prompt, asked):
    rows = lines(build(site, tmp_path, [alpaca(1), {"id": "x", "prompt": prompt, "response": "A"}]))
    assert next(row for row in rows if row["id"] == "train/x")["messages"][0]["content"] == asked


REAL = {
    "alpaca_en_demo.json": (985, {"duplicate": 14}),
    "alpaca_zh_demo.json": (992, {"duplicate": 8}),
    "debian_translate_en_zh_messages.jsonl.gz": (812, {"too_long": 1}),
    "dolly_hhrlhf_train_small.jsonl": (998, {"too_long": 2}),
    "glaive_toolcall_en_demo.json": (263, {"duplicate": 35, "too_long": 2}),
    "glaive_toolcall_zh_demo.json": (255, {"broken_turns": 2, "duplicate": 43}),
    "identity.json": (91, {}),
    "linux_command_zh_sft.json": (614, {}),
    "self_instruct_seed_tasks.jsonl": (175, {}),
    "v1_sft_demo.jsonl": (499, {"duplicate": 1}),
}


def test_every_real_set_is_read(site, shared_data):
    paths = sorted((shared_data / "sft").iterdir())
    assert [path.name for path in paths] == list(REAL)
    for path in paths:
        found = read_conversations.build(spec_of(path, slots={"name": "Milla", "author": "us"}), site=site)
        assert (found.num_items, found.dropped_by_reason) == REAL[path.name]
        assert found.num_items_in == sum(found.dropped_by_reason.values()) + found.num_items
        assert not any("{{name}}" in message["content"] for row in lines(found) for message in row["messages"])
    open_slots = read_conversations.build(spec_of(shared_data / "sft" / "identity.json"), site=site)
    assert open_slots.dropped_by_reason == {"unfilled_slot": 85}
