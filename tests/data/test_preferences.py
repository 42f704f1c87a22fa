"""Preferences: every form, every reason to drop, held-out items kept apart, the real sets with their exact counts."""

import json

import pytest
from pydantic import ValidationError

from tasks.core.errors import ContractError
from tasks.instructions import PreferencesSpec, read_preferences
from tests.data.kit import write_jsonl
from tests.data.test_instructions import CALL, CALLED, FRAME, TOOLS


def one_set(name, *paths):
    return {"name": name, "licence": "MIT", "paths": [str(path) for path in paths]}


def build(site, folder, rows, kind="paired", heldout=None, keep_out=None, **settings):
    parts = {"train": rows, "heldout": heldout, "keep_out": keep_out}
    sets = {
        part: [one_set(part, write_jsonl(folder / f"{part}.jsonl", some))] for part, some in parts.items() if some is not None
    }
    return read_preferences.build(PreferencesSpec.model_validate({"kind": kind} | sets | settings), site=site)


def lines(preferences, **wanted):
    rows = [json.loads(line) for line in (preferences.path / "preferences.jsonl").read_text(encoding="utf-8").splitlines()]
    return [row for row in rows if all(row[name] == value for name, value in wanted.items())]


def pair(number, **more):
    return {"prompt": f"What is {number}, in words?", "chosen": f"It is {number}.", "rejected": f"No idea of {number}."} | more


def judged(number, **more):
    return {"prompt": f"What is {number}, in words?", "completion": f"It is {number}.", "label": number % 2 == 0} | more


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


ASKED = [user("Q"), assistant("A"), user("Q2")]
SYSTEM = [{"role": "system", "content": "S"}]
SHAREGPT = [{"from": "system", "value": "S"}, {"from": "human", "value": "Q"}]


@pytest.mark.parametrize(
    ("item", "prompt"),
    [
        ({"prompt": "Q", "chosen": " good ", "rejected": "bad"}, [user("Q")]),
        ({"prompt": FRAME.format("Q"), "chosen": "good", "rejected": "bad"}, [user("Q")]),
        ({"prompt": ASKED, "chosen": [assistant("good")], "rejected": [assistant("bad")]}, ASKED),
        ({"prompt": "Q", "chosen": [user("Q"), assistant("good")], "rejected": [user("Q"), assistant("bad")]}, [user("Q")]),
        ({"chosen": [*ASKED, assistant("good")], "rejected": [*ASKED, assistant("bad")]}, ASKED),
        ({"messages": ASKED, "chosen": assistant("good"), "rejected": assistant("bad")}, ASKED),
        ({"messages": [*ASKED, assistant("good")], "prompt": "Q", "chosen": assistant("good"), "rejected": "bad"}, ASKED),
        (
            {"system": "S", "chosen": [user("Q"), assistant("good")], "rejected": [user("Q"), assistant("bad")]},
            [{"role": "system", "content": "S"}, user("Q")],
        ),
        (
            {
                "system": "T",
                "chosen": [*SYSTEM, user("Q"), assistant("good")],
                "rejected": [*SYSTEM, user("Q"), assistant("bad")],
            },
            [*SYSTEM, user("Q")],
        ),
        ({"messages": [*ASKED, {"role": "assistant", "content": " good"}], "chosen": "good", "rejected": "bad"}, ASKED),
        ({"instruction": "Q", "input": "more", "chosen": "good", "rejected": "bad"}, [user("Q\nmore")]),
        (
            {"conversations": SHAREGPT, "chosen": {"from": "gpt", "value": "good"}, "rejected": {"from": "gpt", "value": "bad"}},
            [{"role": "system", "content": "S"}, user("Q")],
        ),
    ],
)
def test_every_form_of_a_pair_becomes_a_prompt_and_two_answers(site, tmp_path, item, prompt):
    found = build(site, tmp_path, [item | {"id": "x"}, pair(1)])
    (row,) = lines(found, id="train/x")
    assert (row["prompt"], row["chosen"], row["rejected"]) == (prompt, "good", "bad")
    assert (found.form, found.num_good, found.dropped_by_reason) == ("paired", None, {})


def test_a_call_may_be_what_is_preferred(site, tmp_path):
    called = {"from": "function_call", "value": json.dumps(CALL)}
    item = {"conversations": SHAREGPT, "chosen": called, "rejected": {"from": "gpt", "value": "3"}, "tools": TOOLS, "id": "x"}
    (row,) = lines(build(site, tmp_path, [item, pair(1)]), id="train/x")
    assert (row["chosen"], row["rejected"]) == (CALLED, "3")
    assert row["prompt"][0]["content"].startswith("S\n\nYou can call these tools.")


@pytest.mark.parametrize(
    "item",
    [
        {"messages": [user("Q"), assistant("A")], "label": True},
        {"conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}], "label": 1},
        {"prompt": "Q", "completion": "A", "label": True},
        {"prompt": [user("Q")], "completion": [assistant("A")], "label": True},
    ],
)
def test_every_form_of_a_verdict_becomes_a_conversation(site, tmp_path, item):
    found = build(site, tmp_path, [item | {"id": "x"}, judged(1), judged(2)], "unpaired")
    (row,) = lines(found, id="train/x")
    assert (row["messages"], row["is_good"]) == ([user("Q"), assistant("A")], True)
    assert (found.form, found.num_good, found.num_items) == ("unpaired", 2, 3)


HELD = "It prints the names of all files in a folder, hidden ones too."


@pytest.mark.parametrize(
    ("kind", "item", "reason"),
    [
        ("paired", ["a", "list"], "unknown_form"),
        ("paired", {"prompt": "Q", "chosen": "A"}, "not_a_pair"),
        ("paired", {"prompt": "Q", "completion": "A", "label": True}, "not_a_pair"),
        ("paired", pair(9, chosen="No idea of 9. "), "equal_sides"),
        ("paired", pair(9, chosen=" "), "empty_side"),
        ("paired", pair(9, rejected=""), "empty_side"),
        ("paired", pair(9, rejected=None), "broken_turns"),
        ("paired", pair(9, prompt=""), "empty_prompt"),
        ("paired", pair(9, prompt=[assistant("A")]), "broken_turns"),
        ("paired", pair(9, prompt=[user("Q"), assistant("Well,")]), "broken_turns"),
        ("paired", pair(9, chosen=user("Q"), rejected=user("P")), "broken_turns"),
        ("paired", pair(9, chosen=[]), "broken_turns"),
        ("paired", {"chosen": "A", "rejected": "B"}, "broken_turns"),
        ("paired", {"chosen": [user("Q"), assistant("A")], "rejected": [user("P"), assistant("B")]}, "prompts_differ"),
        ("paired", pair(9, chosen=[user("other"), assistant("A")]), "prompts_differ"),
        ("paired", pair(9, chosen="A<|im_end|>"), "control_token"),
        ("paired", pair(9, rejected="I am {{name}}."), "unfilled_slot"),
        ("paired", pair(9, rejected="x" * 201), "too_long"),
        ("paired", pair(1), "duplicate"),
        ("paired", pair(9, id="one"), "duplicate_id"),
        ("paired", pair(9, prompt="WHAT is held out of all training?"), "held_out_prompt"),
        ("paired", pair(9, prompt="What is kept out?"), "held_out_prompt"),
        ("paired", pair(9, prompt=[user("What is held out of all training?"), assistant("A"), user("And?")]), "held_out_prompt"),
        ("paired", pair(9, rejected=f"Well: {HELD}"), "held_out_answer"),
        ("paired", pair(9, group="held group"), "held_out_group"),
        ("unpaired", judged(9, label=None), "missing_label"),
        ("unpaired", judged(9, label="yes"), "broken_label"),
        ("unpaired", judged(9, label=2), "broken_label"),
        ("unpaired", judged(9, label=1.0), "broken_label"),
        ("unpaired", pair(9, label=True), "broken_turns"),
        ("unpaired", judged(9, completion=" "), "empty_answer"),
        ("unpaired", judged(1), "duplicate"),
    ],
)
def test_an_item_is_dropped_with_its_reason(site, tmp_path, kind, item, reason):
    made = pair if kind == "paired" else judged
    heldout = [made(70, prompt="What is held out of all training?", group="held group")]
    keep_out = [{"prompt": "What is kept out?", "response": HELD}]
    found = build(site, tmp_path, [made(1, id="one"), item, made(2, id="two")], kind, heldout, keep_out, max_chars=200)
    assert found.dropped_by_reason == {reason: 1}
    assert sorted(row["id"] for row in lines(found)) == ["heldout/1", "train/one", "train/two"]
    assert found.num_items_in == 4


def test_contradictions_all_go(site, tmp_path):
    turned = pair(3, chosen="No idea of 3.", rejected="It is 3.")
    assert build(site, tmp_path, [pair(1), pair(2), pair(3), turned, pair(3)]).dropped_by_reason == {"conflict": 3}
    both = [judged(1), judged(2), judged(2, label=False)]
    assert build(site, tmp_path, both, "unpaired").dropped_by_reason == {"conflict": 2}


def test_questions_that_differ_by_a_sign_contradict_nothing(site, tmp_path):
    rows = [
        {"prompt": f"Is 5 {sign} 3?", "chosen": yes, "rejected": no} for sign, yes, no in ((">", "Yes", "No"), ("<", "No", "Yes"))
    ]
    assert build(site, tmp_path, [*rows, *map(pair, range(4))]).dropped_by_reason == {}


def test_equal_sides_can_be_an_error(site, tmp_path):
    with pytest.raises(ContractError, match="both answers of item train/2 are equal"):
        build(site, tmp_path, [pair(1), pair(2, chosen="A", rejected="A")], equal_sides="fail")


def test_too_long_can_be_an_error_and_counts_the_longer_answer(site, tmp_path):
    rows = [pair(1), pair(2, rejected="x" * 200)]
    with pytest.raises(ContractError, match=r"conversation train/2 has 220 characters, max_chars is 219"):
        build(site, tmp_path, rows, max_chars=219, too_long="fail")
    assert build(site, tmp_path, rows, max_chars=220).dropped_by_reason == {}


def test_answers_to_one_prompt_lie_in_one_split(site, tmp_path):
    rows = [pair(number // 4, chosen=f"Answer {number}.") for number in range(120)]
    found = build(site, tmp_path, rows, validation_share=0.2)
    split_of = {}
    for row in lines(found):
        assert split_of.setdefault(row["prompt"][0]["content"], row["split"]) == row["split"]
    assert (len(split_of), found.items_by_split) == (30, {"train": 100, "validation": 20, "test": 0})
    other = lines(build(site, tmp_path, rows, validation_share=0.2, seed=1))
    assert {row["prompt"][0]["content"]: row["split"] for row in other} != split_of


def test_near_prompts_and_overlaps_can_be_left_in(site, tmp_path):
    train = [pair(1), pair(2, prompt="What is held out here, in so many and so long words?!", rejected=f"So {HELD}")]
    held = [pair(3, prompt="What is held out here, in so many and so long words!", chosen=HELD)]
    off = {"near_heldout_similarity": None, "heldout_overlap": None}
    assert build(site, tmp_path, train, heldout=held).dropped_by_reason == {"held_out_prompt": 1}
    train[1]["prompt"] = train[1]["prompt"].replace("long", "longer")
    assert build(site, tmp_path, train, heldout=held, near_heldout_similarity=0.7).dropped_by_reason == {"held_out_prompt": 1}
    assert build(site, tmp_path, train, heldout=held, near_heldout_similarity=None).dropped_by_reason == {"held_out_answer": 1}
    assert build(site, tmp_path, train, heldout=held, **off).dropped_by_reason == {}


def test_slots_are_filled(site, tmp_path):
    rows = [pair(1), pair(2, chosen="I am {{name}}.", id="x")]
    (row,) = lines(build(site, tmp_path, rows, slots={"name": "Milla"}), id="train/x")
    assert row["chosen"] == "I am Milla."


def test_what_cannot_work_is_refused(site, tmp_path, caplog):
    with pytest.raises(
        ContractError, match=r"no unpaired training item is left of 1 items: \{'broken_turns': 1\}; mend the sets"
    ):
        build(site, tmp_path, [pair(1)], "unpaired")
    build(
        site, tmp_path, [pair(1), pair(2)], keep_out=[{"prompt": "Q", "response": "A"}, {"prompt": "Q", "response": "{{name}}"}]
    )
    assert "set keep_out: 1 items are not kept out, for they cannot be read: {'unfilled_slot': 1}" in caplog.text
    with pytest.raises(ContractError, match="set keep_out holds no conversation to keep out"):
        build(site, tmp_path, [pair(1)], keep_out=[{"a": 1}])
    with pytest.raises(ValidationError, match="two sets are called 'a'"):
        PreferencesSpec.model_validate({"kind": "paired", "train": [one_set("a", "x")], "keep_out": [one_set("a", "y")]})


WEIGHTED = {"messages": [user("What is kept out?"), assistant("A") | {"weight": 0}]}


@pytest.mark.parametrize(
    "item",
    [*({"prompt": "What is kept out?", "response": "A"} | more for more in ({"group": ["g"]}, {"copied": "perhaps"})), WEIGHTED],
)
def test_what_an_item_says_is_kept_out_whatever_its_marks(site, tmp_path, item):
    keep_out = [item, {"prompt": "Q", "response": "A", "group": True}]
    found = build(site, tmp_path, [pair(1), pair(2, prompt="What is kept out?"), pair(3, group=True)], keep_out=keep_out)
    assert found.dropped_by_reason == {"held_out_prompt": 1, "held_out_group": 1}


def test_the_identity_holds_contents_and_no_path(site, tmp_path):
    paths = {
        part: write_jsonl(tmp_path / part / "a.jsonl", [pair(number)])
        for number, part in enumerate(("train", "heldout", "keep_out"))
    }
    spec = PreferencesSpec.model_validate({"kind": "paired"} | {part: [one_set(part, path)] for part, path in paths.items()})
    identity = spec.pinned(site).identity()
    assert str(tmp_path) not in json.dumps(identity)
    assert len({identity[part][0]["digest"] for part in paths}) == 3


REAL = {
    "dpo_en_demo.json": ("paired", (247, 22, 0), {"duplicate": 4, "too_long": 27}, None),
    "dpo_zh_demo.json": ("paired", (272, 17, 0), {"duplicate": 11}, None),
    "kto_en_demo.json": ("unpaired", (263, 19, 0), {"control_token": 1, "too_long": 17}, 142),
}


@pytest.mark.parametrize("name", REAL)
def test_every_real_set_is_read(site, shared_data, name):
    kind, splits, reasons, num_good = REAL[name]
    sets = [one_set("real", shared_data / "preference" / name)]
    found = read_preferences.build(PreferencesSpec.model_validate({"kind": kind, "train": sets}), site=site)
    assert tuple(found.items_by_split.values()) == splits
    assert (found.dropped_by_reason, found.num_good, found.num_items_in) == (reasons, num_good, 300)
    assert {path.name for path in (shared_data / "preference").iterdir()} == set(REAL)
