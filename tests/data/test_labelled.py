"""Labelled data: every task and reason to drop, splits without leaks, the real sets with their exact counts."""

import json

import pytest
from pydantic import ValidationError

from tasks.core.errors import ContractError, RecipeError
from tasks.core.tables import read_rows
from tasks.labelled import LabelledSpec, read_labelled
from tests.data.kit import write_jsonl


def one_set(name, *paths, **settings):
    return {"name": name, "licence": "MIT", "paths": [str(path) for path in paths]} | settings


def build(site, folder, rows, task="classification", validation=None, heldout=None, columns=None, **settings):
    parts = {"train": rows, "validation": validation, "heldout": heldout}
    sets = {
        part: [one_set(part, write_jsonl(folder / f"{part}.jsonl", some), **(columns or {}))]
        for part, some in parts.items()
        if some is not None
    }
    return read_labelled.build(LabelledSpec.model_validate({"task": task} | sets | settings), site=site)


def items(labelled, **wanted):
    rows = list(read_rows(labelled.path / "items.parquet"))
    return [row for row in rows if all(row[name] == value for name, value in wanted.items())]


def rows_of(number, label=None, start=0):
    return [
        {"text": f"This is text number {place}.", "label": f"label {place % 2}" if label is None else label}
        for place in range(start, start + number)
    ]


PAIR = {"pair_column": "b"}
NAMED = {"names": {"0": "no", "1": "yes"}}


@pytest.mark.parametrize(
    ("task", "row", "columns", "found"),
    [
        ("classification", {"text": " x ", "label": " a "}, {}, {"text": "x", "labels": ["a"]}),
        ("classification", {"text": "x", "label": 1}, NAMED, {"labels": ["yes"]}),
        ("classification", {"text": "x", "label": 1.0}, NAMED, {"labels": ["yes"]}),
        ("classification", {"text": "x", "label": True}, {"names": {"true": "yes", "a": "a", "b": "b"}}, {"labels": ["yes"]}),
        ("classification", {"text": "x", "b": "y", "label": "a"}, PAIR, {"text": "x", "text_pair": "y"}),
        ("classification", {"title": "x", "class": "a"}, {"text_column": "title", "label_column": "class"}, {"text": "x"}),
        ("multi_label", {"text": "x", "label": ["b", "a", "b"]}, {}, {"labels": ["a", "b"]}),
        ("multi_label", {"text": "x", "label": "b; a;"}, {"label_separator": ";"}, {"labels": ["a", "b"]}),
        ("multi_label", {"text": "x", "label": []}, {}, {"labels": []}),
        ("multi_label", {"text": "x", "label": "['b', 'a']"}, {}, {"labels": ["a", "b"]}),
        ("multi_label", {"text": "x", "label": ' ["a", "it\'s"] '}, {}, {"labels": ["a", "it's"]}),
        ("multi_label", {"text": "x", "label": "[]"}, {}, {"labels": []}),
        ("multi_label", {"text": "x", "label": "[NUM]"}, {}, {"labels": ["[NUM]"]}),
        ("multi_label", {"text": "x", "label": "[IT];[HR]"}, {"label_separator": ";"}, {"labels": ["[HR]", "[IT]"]}),
        ("multi_label", {"text": "x", "label": """["a 'b' 'c'"]"""}, {}, {"labels": ["a 'b' 'c'"]}),
        ("multi_label", {"text": "x", "label": "[0, 1.0]"}, NAMED, {"labels": ["no", "yes"]}),
        ("classification", {"text": "x", "label": "1.0"}, NAMED, {"labels": ["yes"]}),
        ("regression", {"text": "x", "label": "2.5"}, {}, {"value": 2.5, "labels": None}),
        ("regression", {"text": "x", "label": 3}, {}, {"value": 3.0}),
        (
            "token_classification",
            {"words": ["New", "York", "!"], "label": ["B", "I", "O"]},
            {},
            {"words": ["New", "York", "!"], "labels": ["B", "I", "O"], "text": "New York !"},
        ),
        (
            "token_classification",
            {"w": "to be", "tags": "O O"},
            {"words_column": "w", "label_column": "tags"},
            {"words": ["to", "be"]},
        ),
        (
            "token_classification",
            {"words": "['to', 'be']", "label": '["O", "B"]'},
            {},
            {"words": ["to", "be"], "labels": ["O", "B"]},
        ),
        ("token_classification", {"words": "[ 1 ]", "label": "O O O"}, {}, {"words": ["[", "1", "]"]}),
        ("token_classification", {"words": '["to", "be"]', "label": "[O] [O]"}, {}, {"words": ['["to",', '"be"]']}),
    ],
)
def test_a_row_becomes_an_item_of_its_task(site, tmp_path, task, row, columns, found):
    read = {"text": "text", "label": "label", "words": "words"} | {
        name.removesuffix("_column"): value for name, value in columns.items() if name.endswith("_column")
    }
    labels = {"regression": [1, 2, 3], "token_classification": ["a", "b", "a"]}.get(task, list(columns.get("names", "ab")) * 2)
    others = [
        {
            read["text"]: f"t{number}",
            read["words"]: [f"t{number}"],
            read["label"]: [label] if task[0] in "mt" else label,
            "b": "p",
        }
        for number, label in enumerate(labels)
    ]
    labelled = build(site, tmp_path, [row, *others], task, columns=columns)
    item = next(one for one in items(labelled) if one["id"] == "train/1")
    assert found.items() <= item.items()
    unused = {"text_pair": "pair_column" not in columns, "words": task[0] != "t", "value": task != "regression"}
    assert all(item[name] is None for name, is_unused in unused.items() if is_unused)
    assert labelled.dropped_by_reason == {}


@pytest.mark.parametrize(
    ("task", "row", "reason"),
    [
        ("classification", ["a", "list"], "no_object"),
        ("classification", {"label": "a"}, "no_text"),
        ("classification", {"text": 7, "label": "a"}, "no_text"),
        ("classification", {"text": " \n", "label": "a"}, "empty_text"),
        ("classification", {"text": "x \ud800", "label": "a"}, "lone_surrogate"),
        ("classification", {"text": "x" * 61, "label": "a"}, "too_long"),
        ("classification", {"text": "x"}, "missing_label"),
        ("classification", {"text": "x", "label": " "}, "missing_label"),
        ("classification", {"text": "x", "label": float("nan")}, "missing_label"),
        ("classification", {"text": "x", "label": ["a"]}, "broken_label"),
        ("classification", {"text": "x", "label": "a\u202e"}, "broken_label"),
        ("classification", {"text": "t1 ", "label": "a"}, "duplicate"),
        ("classification", {"text": "HELD  out", "label": "b"}, "held_out_input"),
        ("classification", {"text": "to SELECT on", "label": "b"}, "held_out_input"),
        ("classification", {"text": "x", "label": "a", "group": "held group"}, "held_out_group"),
        ("classification", {"text": "x", "label": "a", "id": "t1"}, "duplicate_id"),
        ("multi_label", {"text": "x", "label": None}, "missing_label"),
        ("multi_label", {"text": "x", "label": 7}, "broken_label"),
        ("multi_label", {"text": "x", "label": [None]}, "missing_label"),
        ("multi_label", {"text": "x", "label": "['a' 'b']"}, "broken_label"),
        ("multi_label", {"text": "x", "label": "[a, b]"}, "broken_label"),
        ("multi_label", {"text": "x", "label": "[0 1]"}, "broken_label"),
        ("classification", {"text": "x", "label": "a", "group": ["g"]}, "broken_group"),
        ("regression", {"text": "x", "label": ""}, "missing_label"),
        ("regression", {"text": "x", "label": "many"}, "not_a_number"),
        ("regression", {"text": "x", "label": "1_0"}, "not_a_number"),
        ("regression", {"text": "x", "label": float("inf")}, "not_a_number"),
        ("regression", {"text": "x", "label": 10**400}, "not_a_number"),
        ("regression", {"text": "x", "label": 5.1}, "out_of_range"),
        ("regression", {"text": "x", "label": -0.1}, "out_of_range"),
        ("token_classification", {"words": ["x", "y"], "label": ["a"]}, "words_and_tags_differ"),
        ("token_classification", {"words": ["x", " "], "label": ["a", "a"]}, "empty_word"),
        ("token_classification", {"words": ["x", 7], "label": ["a", "a"]}, "no_text"),
        ("token_classification", {"words": [], "label": []}, "empty_text"),
        ("token_classification", {"words": ["\ud800"], "label": ["a"]}, "lone_surrogate"),
        ("token_classification", {"words": "x y", "label": ["a", None]}, "missing_label"),
    ],
)
def test_a_row_is_dropped_with_its_reason(site, tmp_path, task, row, reason):
    def made(name, label, number):
        target = {"classification": label, "regression": number}.get(task, [label])
        return {"id": name, "text": name, "words": [name], "label": target}

    labelled = build(
        site,
        tmp_path,
        [made("t1", "a", 1), row, made("t2", "b", 2)],
        task,
        validation=[made("to select on", "a", 3)],
        heldout=[made("held out", "b", 4), made("t3", "a", 5) | {"group": "held group"}],
        columns={"group_column": "group", "id_column": "id"},
        max_chars=60,
        **({"min_value": 0, "max_value": 5} if task == "regression" else {}),
    )
    assert labelled.dropped_by_reason == {reason: 1}
    assert labelled.num_items_in == 6
    assert [row["id"] for row in items(labelled)] == [
        *("train/t1", "train/t2", "validation/to select on"),
        *("heldout/held out", "heldout/t3"),
    ]


def test_a_column_a_label_says_yes_or_no(site, tmp_path):
    rows = [{"text": f"t{number}", "a": (0.0, True, "0.0", "1.0")[number % 4], "b": 1} for number in range(20)]
    rows += [{"text": "x", "a": None, "b": 1}, {"text": "y", "a": 2, "b": 1}, {"text": "z", "a": "maybe", "b": 1}]
    columns = {"label_columns": ["a", "b"], "names": {"a": "odd", "b": "all"}}
    found = build(site, tmp_path, rows, "multi_label", columns=columns)
    assert (found.items_by_label, found.dropped_by_reason) == ({"all": 20, "odd": 10}, {"missing_label": 1, "broken_label": 2})
    with pytest.raises(ValidationError, match="label_columns are of many labels an item"):
        build(site, tmp_path, rows, "classification", columns=columns)


def test_a_label_without_a_name_is_dropped(site, tmp_path):
    rows = [*rows_of(20), {"text": "x", "label": "2"}]
    named = {"names": {"label 0": "no", "label 1": "yes"}}
    found = build(site, tmp_path, rows, columns=named)
    assert (found.label_names, found.dropped_by_reason) == (("no", "yes"), {"unknown_label": 1})
    listed = build(site, tmp_path, rows, label_names=["label 1", "label 0"])
    assert (listed.label_names, listed.dropped_by_reason) == (("label 1", "label 0"), {"unknown_label": 1})


def test_labels_are_those_of_the_training_sets_in_order(site, tmp_path):
    rows = [{"text": f"t{number}", "label": number % 11} for number in range(44)]
    found = build(site, tmp_path, rows, heldout=[{"text": "u", "label": 3}, {"text": "v", "label": 11}])
    assert found.label_names == tuple(map(str, range(11)))  # by size, not 0, 1, 10, 2
    assert found.dropped_by_reason == {"unknown_label": 1}
    assert found.items_by_label == {str(number): 5 if number == 3 else 4 for number in range(11)}
    assert found.items_by_split["test"] == 1


def test_words_are_counted_by_label_and_scores_have_a_range(site, tmp_path):
    words = [{"words": f"w{number} x", "label": "B O"} for number in range(5)]
    assert build(site, tmp_path, words, "token_classification").items_by_label == {"B": 5, "O": 5}
    scores = build(site, tmp_path, [{"text": f"t{number}", "label": number / 2} for number in range(5)], "regression")
    assert (scores.value_range, scores.items_by_label, scores.label_names) == ((0.0, 2.0), {}, ())


CONFLICT = [{"text": "Same text", "label": "label 0"}, {"text": "same  TEXT", "label": "label 1"}]


def test_equal_inputs_with_different_labels_all_go_or_all_stay_in_one_split(site, tmp_path):
    rows = [*rows_of(30), *CONFLICT, CONFLICT[0]]
    assert build(site, tmp_path, rows).dropped_by_reason == {"conflict": 2, "duplicate": 1}
    kept = build(site, tmp_path, rows, conflict="keep")
    assert kept.dropped_by_reason == {"duplicate": 1}
    same = [row for row in items(kept) if row["text"].lower().startswith("same")]
    assert [row["labels"] for row in same] == [["label 0"], ["label 1"]]
    assert len({(row["split"], row["group"]) for row in same}) == 1


def test_groups_that_share_an_input_lie_in_one_split(site, tmp_path):
    """Each group of two holds the first item of the next one under another label: all are one."""
    texts = [{"text": f"text {number}", "group": number // 2} for number in range(40)]
    shared = [row | {"group": row["group"] - 1, "label": "label 1"} for row in texts[2::2]]
    rows = [row | {"label": "label 0"} for row in texts] + shared
    apart = [{"text": f"other {number}", "group": f"g{number}", "label": "label 0"} for number in range(40)]
    kept = build(site, tmp_path, rows + apart, conflict="keep", columns={"group_column": "group"})
    chained = [row for row in items(kept) if row["text"].startswith("text")]
    assert len(chained) == len(rows)
    assert len({row["split"] for row in chained}) == len({row["group"] for row in chained}) == 1


def test_a_group_lies_in_one_split_and_shares_hold(site, tmp_path):
    rows = [row | {"group": (int, float)[number % 2](number // 5)} for number, row in enumerate(rows_of(400))]
    found = build(site, tmp_path, rows, columns={"group_column": "group"}, validation_share=0.2, test_share=0.3)
    split_of = {}
    for row in items(found):
        assert split_of.setdefault(row["group"], row["split"]) == row["split"]
    assert len(split_of) == 80
    assert found.items_by_split == {"train": 215, "validation": 70, "test": 115}  # 200, 80 and 120 on average
    other = build(site, tmp_path, rows, columns={"group_column": "group"}, validation_share=0.2, test_share=0.3, seed=1)
    assert {row["group"]: row["split"] for row in items(other)} != split_of


def test_a_csv_file_with_gaps_and_one_without_name_labels_and_groups_alike(site, tmp_path):
    rows = [(f"text {number}", number % 2, number // 3) for number in range(60)]
    lines = {
        "whole.csv": [f"{text},{label},{user}" for text, label, user in rows],
        "gaps.csv": [f"other {text},{label}.0,{user}.0" for text, label, user in rows] + ["gap,,", "gap too,1.0,"],
    }
    for name, written in lines.items():
        (tmp_path / name).write_text("\n".join(["text,label,user", *written]))
    given = {"task": "classification", "train": [one_set("set", tmp_path / "*.csv", group_column="user")]}
    found = read_labelled.build(LabelledSpec.model_validate(given), site=site)
    assert (found.label_names, found.dropped_by_reason) == (("0", "1"), {"missing_label": 1})
    split_of = {}
    assert all(split_of.setdefault(row["group"], row["split"]) == row["split"] for row in items(found))
    assert len(split_of) == 21


def test_a_label_that_the_recipe_writes_as_1_0_is_so_called(site, tmp_path):
    rows = [row | {"label": f"{number % 2 + 1}.0"} for number, row in enumerate(rows_of(20))]
    assert build(site, tmp_path, rows, label_names=["1.0", "2.0"]).items_by_label == {"1.0": 10, "2.0": 10}


def test_only_missing_splits_are_set_apart(site, tmp_path):
    one = build(site, tmp_path, rows_of(60), heldout=rows_of(7, start=100))
    assert one.items_by_split["test"] == 7
    assert 0 < one.items_by_split["validation"] < 20
    both = build(site, tmp_path, rows_of(60), validation=rows_of(5, start=90), heldout=rows_of(7, start=100))
    assert both.items_by_split == {"train": 60, "validation": 5, "test": 7}


def test_what_is_held_out_is_taken_from_validation_too(site, tmp_path):
    held = rows_of(3, start=100)
    found = build(site, tmp_path, rows_of(20), validation=[*rows_of(2, start=50), held[0]], heldout=held)
    assert found.dropped_by_reason == {"held_out_input": 1}
    assert found.items_by_split == {"train": 20, "validation": 2, "test": 3}


def test_rows_can_be_chosen_by_a_column(site, tmp_path):
    rows = [row | {"part": "dev" if number < 4 else 1} for number, row in enumerate(rows_of(24))]
    path = write_jsonl(tmp_path / "all.jsonl", rows)
    sets = {
        "train": [one_set("a", path, where={"part": ["1"]})],
        "validation": [one_set("b", path, where={"part": ["dev", "other"]})],
    }
    found = read_labelled.build(LabelledSpec.model_validate({"task": "classification"} | sets), site=site)
    assert found.dropped_by_reason == {"not_selected": 24}
    assert found.items_by_split["validation"] == 4
    assert found.items_by_source == {"a": 20, "b": 4}


def test_files_of_any_format_make_one_set(site, tmp_path):
    write_jsonl(tmp_path / "a.jsonl", rows_of(10))
    lines = [f"{row['text']},{row['label']}" for row in rows_of(10, start=10)]
    (tmp_path / "b.csv").write_text("\n".join(["text,label", *lines, "broken"]))
    (tmp_path / "c.txt").write_text("no table")
    found = read_labelled.build(
        LabelledSpec.model_validate({"task": "classification", "train": [one_set("set", tmp_path / "*.*")]}), site=site
    )
    assert (found.num_items, found.dropped_by_reason) == (20, {"broken_csv": 1, "unknown_format": 1})
    assert {row["id"] for row in items(found)} == {f"set/{number}" for number in range(1, 21)}


def test_sentences_of_a_conll_file_are_items_of_words(site, tmp_path):
    (tmp_path / "a.conll").write_text("\n\n".join(f"New NNP B-LOC\nYork{number} NNP I-LOC\n. . O" for number in range(20)))
    sets = [one_set("news", tmp_path / "a.conll", words_column="1", label_column="3")]
    found = read_labelled.build(LabelledSpec.model_validate({"task": "token_classification", "train": sets}), site=site)
    assert (found.label_names, found.items_by_label) == (("B-LOC", "I-LOC", "O"), {"B-LOC": 20, "I-LOC": 20, "O": 20})
    assert items(found, id="news/3")[0]["words"] == ["New", "York2", "."]


@pytest.mark.parametrize(
    ("task", "rows", "message"),
    [
        ("classification", rows_of(5, "same"), r"all 5 training items have the same label or score, 'same' \(column 'label'\)"),
        ("token_classification", [{"words": "a", "label": "O"}], "the same label or score, 'O'"),
        ("multi_label", [{"text": "a", "label": []}], "the same label or score, 'none'"),
        ("multi_label", [{"text": "a", "no": 0}], r"training items have the same label or score, 'none' \(column 'no'\)"),
        ("regression", [{"text": "a", "label": 1}, {"text": "b", "label": 1}], "the same label or score, 1.0"),
        (
            "classification",
            [{"text": "a"}, {"text": "b"}],
            r"no training item is left; refused: \{'missing_label': 2\}.*column 'label'",
        ),
        ("classification", [], "refused: nothing was read"),
        ("classification", rows_of(2), "no item is left for test; refused"),
        ("classification", [*CONFLICT, *rows_of(1)], "no item is left for validation and test"),
    ],
)
def test_data_that_teaches_nothing_is_refused_with_a_remedy(site, tmp_path, task, rows, message):
    columns = {"label_columns": ["no"]} if rows and "no" in rows[0] else None
    with pytest.raises(ContractError, match=message):
        build(site, tmp_path, rows, task, columns=columns)


def test_one_class_left_for_training_is_refused(site, tmp_path):
    with pytest.raises(ContractError, match="all 4 training items have the same label"):
        build(
            site,
            tmp_path,
            [*rows_of(4, "a"), {"text": "b", "label": "b"}],
            heldout=[{"text": "b", "label": "b"}],
            validation=rows_of(1, "a", 9),
        )


def test_too_long_can_be_an_error(site, tmp_path):
    with pytest.raises(ContractError, match=r"item train/1 has 22 characters, max_chars is 20"):
        build(site, tmp_path, rows_of(4), max_chars=20, too_long="fail")


def test_a_missing_column_names_those_there_are(site, tmp_path):
    (tmp_path / "a.csv").write_text("label,review\n1,x\n")
    spec = LabelledSpec.model_validate({"task": "classification", "train": [one_set("a", tmp_path / "a.csv")]})
    with pytest.raises(ContractError, match=r"a\.csv has no column 'text', only label, review"):
        read_labelled.build(spec, site=site)


@pytest.mark.parametrize(
    ("task", "settings", "message"),
    [
        ("regression", {"label_names": ["a", "b"]}, "a regression has scores, not labels"),
        ("classification", {"min_value": 0}, "bounds of a regression; leave them out of classification"),
        ("regression", {"min_value": 1, "max_value": 1}, r"min_value 1\.0 must be below max_value 1\.0"),
        ("classification", {"label_names": ["a", "a"]}, "names a label twice"),
        ("token_classification", {"train": [one_set("a", "x", **PAIR)]}, "reads words, not pairs"),
        ("classification", {"heldout": [one_set("a", "y")]}, "two sets are called 'a'"),
    ],
)
def test_settings_that_do_not_fit_are_refused(task, settings, message):
    with pytest.raises(ValidationError, match=message):
        LabelledSpec.model_validate({"task": task, "train": [one_set("a", "x")]} | settings)


def test_files_are_pinned_by_content_and_never_by_path(site, tmp_path):
    path = write_jsonl(tmp_path / "train.jsonl", rows_of(20))
    spec = LabelledSpec.model_validate({"task": "classification", "train": [one_set("a", path)]})
    identity = json.dumps(spec.pinned(site).identity())
    assert str(tmp_path) not in identity
    moved = write_jsonl(tmp_path / "b" / "train.jsonl", rows_of(20))
    other = LabelledSpec.model_validate({"task": "classification", "train": [one_set("a", moved)]})
    assert json.dumps(other.pinned(site).identity()) == identity
    write_jsonl(moved, rows_of(21))
    assert json.dumps(other.pinned(site).identity()) != identity
    with pytest.raises(RecipeError, match=r"nowhere\.csv matches no file"):
        LabelledSpec.model_validate({"task": "regression", "train": [one_set("a", tmp_path / "nowhere.csv")]}).pinned(site)


PLACES = {"has_header": False, "text_column": "1", "label_column": "2", "names": {"0": "negative", "1": "positive"}}
SCORED = {"has_header": False, "text_column": "1", "pair_column": "2", "label_column": "3"}
REVIEWS = {"text_column": "review", "names": {"0": "negative", "1": "positive"}}
REAL = {
    "sst2": (
        {
            "task": "classification",
            "train": [("train", "tasks/sst2/train.tsv", PLACES)],
            "validation": [("dev", "tasks/sst2/dev.tsv", PLACES)],
            "heldout": [("test", "tasks/sst2/test.tsv", PLACES)],
        },
        (6_909, 872, 1_821),
        {"duplicate": 9, "held_out_input": 2},
        {"negative": 4_644, "positive": 4_958},
    ),
    **{
        f"stsb-{lang}": (
            {
                "task": "regression",
                "min_value": 0,
                "max_value": 5,
                "train": [("train", f"tasks/stsb/stsb-{lang}-train.csv", SCORED)],
                "validation": [("dev", f"tasks/stsb/stsb-{lang}-dev.csv", SCORED)],
                "heldout": [("test", f"tasks/stsb/stsb-{lang}-test.csv", SCORED)],
            },
            splits,
            reasons,
            {},
        )
        for lang, splits, reasons in (
            ("en", (5_688, 1_496, 1_378), {"conflict": 8, "duplicate": 43, "held_out_input": 15}),
            ("zh", (5_661, 1_493, 1_369), {"conflict": 34, "duplicate": 46, "held_out_input": 25}),
        )
    },
    "hotels": (
        {"task": "classification", "train": [("hotels", "tasks/zh_sentiment/ChnSentiCorp_htl_all.csv", REVIEWS)]},
        (6_164, 809, 792),
        {"empty_text": 1},
        {"negative": 2_443, "positive": 5_322},
    ),
    "takeaway": (
        {"task": "classification", "train": [("takeaway", "tasks/zh_sentiment/waimai_10k.csv", REVIEWS)]},
        (9_567, 1_184, 1_218),
        {"conflict": 14, "duplicate": 4},
        {"negative": 7_979, "positive": 3_990},
    ),
    "mail": (
        {"task": "classification", "train": [("mail", "corpus/spamassassin_part1.jsonl.gz", {"id_column": "id"})]},
        (2_384, 295, 291),
        {"too_long": 28},
        {"ham": 2_489, "spam": 481},
    ),
}


@pytest.mark.parametrize("name", REAL)
def test_the_real_sets_are_read(site, shared_data, name):
    settings, splits, reasons, labels = REAL[name]
    sets = {
        part: [one_set(title, shared_data / path, **columns) for title, path, columns in value]
        for part, value in settings.items()
        if isinstance(value, list)
    }
    found = read_labelled.build(LabelledSpec.model_validate(settings | sets), site=site)
    assert tuple(found.items_by_split.values()) == splits
    assert found.dropped_by_reason == reasons
    assert found.items_by_label == labels
    assert found.value_range == ((0.0, 5.0) if "stsb" in name else None)
