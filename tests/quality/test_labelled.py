"""The check of labelled data: each rule at its bound, wrong labels found, numbers only, one page."""

import json
import random
import tomllib

import pytest

from data_quality.check import RequireQualitySpec, require_quality
from data_quality.labelled import CheckLabelledSpec, SuspectsSpec, check_labelled
from data_quality.labelled.judged import Judged
from data_quality.labelled.profile import _agreement, profile
from data_quality.labelled.suites import rules_for
from data_quality.labelled.suspects import judge
from data_quality.labelled_tables import TABLES
from data_quality.suite import LABELLED, read_suite
from data_quality.validation import validate
from tasks.core.errors import GateError, RecipeError
from tasks.core.tables import read_rows
from tasks.labelled import LabelledSpec, read_labelled
from tests.data.kit import write_jsonl

EVIL = "e {{ 7 * 7 }}"
SPLITS = ("train", "validation", "test")


def tables(**beyond):
    """Tables at the bounds of the default settings, or beyond them where a column is named."""

    def rows(number, **values):
        return [
            {name: value + (beyond.get(name, 0) if row == 0 else 0) for name, value in values.items()} for row in range(number)
        ]

    items = [{"id_key": number, "num_chars": 1, "num_broken": int(number < 2)} for number in range(100)]
    items[0] |= {"num_chars": 1 + beyond.get("num_chars", 0), "id_key": beyond.get("id_key", 0)}
    items[2]["num_broken"] = beyond.get("num_broken", 0)
    zeros = dict.fromkeys(("num_same_items", "num_inputs_in_two_splits", "num_groups_in_two_splits"), 0)
    shares = {"dropped_share": 0.2, "duplicate_share": 0.1, "conflict_share": 0.02, "suspect_share": 0.05, "agreement_gain": 0.05}
    return {
        "items": items,
        "data": rows(1, num_items=50, chars_p99=4_000, equal_scores_share=0.5, num_scores=5, **zeros, **shares),
        "splits": [{"num_items": 50 + beyond.get("split_items", 0), "outside_share": 0.01 + beyond.get("outside_share", 0)}],
        "labels": rows(2, num_train=10, num_fewest_heldout=1, share=0.5),
    }


CLASSIFICATION = [
    ({"num_items": -1}, "critical", "enough items"),
    ({"id_key": 1}, "critical", "ids unique"),
    ({"num_chars": -1}, "critical", "no empty input"),
    ({"num_same_items": 1}, "critical", "no item twice"),
    ({"num_inputs_in_two_splits": 1}, "critical", "no input in two splits"),
    ({"num_groups_in_two_splits": 1}, "critical", "no group in two splits"),
    ({"split_items": -1}, "warning", "enough in each split"),
    ({"dropped_share": 0.01}, "warning", "most rows used"),
    ({"duplicate_share": 0.01}, "warning", "few duplicates"),
    ({"conflict_share": 0.01}, "warning", "few contradictions"),
    ({"chars_p99": 1}, "info", "inputs short"),
    ({"num_broken": 1}, "warning", "text unbroken"),
    ({"num_train": -1}, "warning", "each label often enough"),
    ({"num_fewest_heldout": -1}, "warning", "each label held out"),
    ({"share": -0.491}, "warning", "no label rare"),
    ({"share": 0.401}, "warning", "no label dominates"),
    ({"suspect_share": 0.01}, "warning", "few suspect labels"),
    ({"agreement_gain": -0.01}, "warning", "labels follow the text"),
]
REGRESSION = [
    ({"equal_scores_share": 0.01}, "warning", "scores spread"),
    ({"num_scores": -1}, "warning", "enough different scores"),
    ({"outside_share": 0.01}, "warning", "held-out scores in range"),
]
EMPTY = [({"split_items": -50}, "critical", "each split filled"), ({"num_train": -10}, "critical", "each label in training")]


def failures(task, found):
    return {(one.severity, one.rule.name) for one in validate(rules_for(CheckLabelledSpec(), task), found) if not one.passed}


@pytest.mark.parametrize(("task", "cases"), [("classification", CLASSIFICATION), ("regression", REGRESSION)])
def test_every_rule_holds_at_its_bound_and_not_beyond(task, cases):
    assert failures(task, tables()) == set()
    low, high = ([case for case in cases if ("share" in case[0] and case[0]["share"] < 0) is is_low] for is_low in (True, False))
    for some in (low, high):  # a label cannot be too rare and too common at once
        beyond = {name: step for case in some for name, step in case[0].items()}
        assert not some or failures(task, tables(**beyond)) == {(severity, name) for _, severity, name in some}


def test_what_is_empty_is_critical():
    found = failures("classification", tables(split_items=-50, num_train=-10))
    assert found == {(severity, name) for _, severity, name in EMPTY} | {
        *(("warning", "enough in each split"), ("warning", "each label often enough")),
    }


def test_every_rule_has_a_test_that_it_says_no():
    tested = {name for _, _, name in [*CLASSIFICATION, *REGRESSION, *EMPTY]}
    assert tested == {check.name for check in read_suite("default", {}, LABELLED)}


BOUNDS = tomllib.loads((LABELLED.folder / "default.toml").read_text(encoding="utf-8"))["bounds"]


@pytest.mark.parametrize("name", BOUNDS)
def test_every_bound_changes_one_rule(name):
    def rules(**bounds):
        spec = CheckLabelledSpec(bounds=bounds)
        found = [*rules_for(spec, "classification"), *rules_for(spec, "regression")]
        return {rule.name: rule.bound for rule in found}

    before, after = rules(), rules(**{name: BOUNDS[name] / 2})
    assert len([rule for rule in before if before[rule] != after[rule]]) == 1


def test_a_suite_of_ones_own_extends_the_shipped_one(tmp_path):
    path = tmp_path / "mine.toml"
    own = 'name = "short"\nkind = "quantile"\nquantile = 0.5\nseverity = "info"\ntable = "items"\ncolumn = "num_chars"\nmax = 9\n'
    path.write_text(f'extends = "default"\n[[labels]]\n{own}remedy = "r"\n', encoding="utf-8")
    spec = CheckLabelledSpec(suite=str(path))
    assert [rule.name for rule in rules_for(spec, "classification")].count("short") == 1
    assert "short" not in {rule.name for rule in rules_for(spec, "regression")}
    path.write_text(path.read_text().replace("num_chars", "num_char"), encoding="utf-8")
    with pytest.raises(RecipeError, match="table items has no column 'num_char'; it has split, id_key"):
        rules_for(spec, "classification")
    path.write_text(path.read_text().replace('"items"', '"documents"'), encoding="utf-8")
    with pytest.raises(RecipeError, match="no table 'documents'; there are: items, splits"):
        rules_for(spec, "classification")
    path.write_text(path.read_text().replace("[[labels]]", "[[clean_corpus]]"), encoding="utf-8")
    with pytest.raises(RecipeError, match="no such section 'clean_corpus'"):
        rules_for(spec, "classification")


def test_rules_are_those_of_the_task():
    def names(task, **settings):
        return {rule.name for rule in rules_for(CheckLabelledSpec(**settings), task)}

    assert "few suspect labels" in names("classification") & names("multi_label")
    assert "labels follow the text" in names("classification") - names("multi_label")
    assert "few suspect labels" in names("token_classification") & names("regression")
    assert "few suspect labels" not in names("classification", suspects=None) | names("regression", suspects=None)
    assert "scores spread" in names("regression")
    assert "no label rare" not in names("regression")


GOOD, BAD = ("fine", "lovely", "warm", "bright", "kind"), ("poor", "dreadful", "cold", "dim", "rude")


def text_of(words, number):
    choose = random.Random(number)
    return f"in place number {number} it was {choose.choice(words)} and {choose.choice(words)}"


def item(number, labels, text, group=None):
    return {"id": f"i{number}", "group": group or f"g{number}", "text": text, "text_pair": None, "labels": labels}


def test_wrong_labels_are_found_and_no_others():
    items = [
        item(number, ["good" if number % 2 else "bad"], text_of(GOOD if number % 2 else BAD, number)) for number in range(200)
    ]
    wrong = {"i10", "i21", "i52", "i77"}
    for one in items:
        if one["id"] in wrong:
            one["labels"] = ["bad" if one["labels"] == ["good"] else "good"]
    judged = judge(items, "classification", ["bad", "good"], SuspectsSpec())
    assert len(judged) == 200
    assert {one.item["id"] for one in judged if one.probability < 0.5} == wrong
    assert {one.item["id"] for one in judged[:4]} == wrong
    assert all((one.likely != tuple(one.item["labels"])) is (one.item["id"] in wrong) for one in judged)
    assert len(judge(items, "classification", ["bad", "good"], SuspectsSpec(max_items=50))) == 50
    assert judge(items, "classification", ["bad", "good"], SuspectsSpec(folds=2))[0].probability != judged[0].probability
    cut = judge(items, "classification", ["bad", "good"], SuspectsSpec(max_chars=16))
    assert all(0.45 < one.probability < 0.55 for one in cut)  # it reads no further than the number


def test_a_missing_label_of_many_is_found():
    items = [item(number, [], f"{text_of(GOOD, number)} {text_of(BAD, -number)}") for number in range(120)]
    for number, one in enumerate(items):
        one["labels"] = ["bad", "good"] if number % 3 else ["good"]
        one["text"] = one["text"] if number % 3 else text_of(GOOD, number)
    items[31]["labels"] = ["good"]
    judged = judge(items, "multi_label", ["bad", "good"], SuspectsSpec())
    assert judged[0].item["id"] == "i31"
    assert judged[0].likely == ("bad",)
    assert judged[1].probability > 0.5


def scored(number):
    words = [GOOD if number * place % 3 else BAD for place in range(1, 5)]
    value = sum(some is GOOD for some in words) + 0.1 * (number % 3)
    text = " ".join(random.Random(f"{number}/{place}").choice(some) for place, some in enumerate(words))
    return item(number, None, text) | {"value": value}


def test_scores_far_off_from_what_the_text_says_are_found():
    items = [scored(number) for number in range(300)]
    items[17]["value"], items[80]["value"] = 12.0, -12.0
    judged = judge(items, "regression", (), SuspectsSpec())
    below = SuspectsSpec().below("regression")
    assert len(judged) == 300
    assert {one.item["id"] for one in judged if one.probability < below} >= {"i17", "i80"}
    assert {one.item["id"] for one in judged[:2]} == {"i17", "i80"}
    assert judged[0].given in (("12",), ("-12",))
    assert sum(one.probability < below for one in judged) < 0.05 * 300
    assert SuspectsSpec(deviations=5.0).below("regression") < below
    assert judge([one | {"value": 1.0} for one in items], "regression", (), SuspectsSpec()) == []


def test_tags_that_do_not_fit_their_word_are_found():
    def tagged(number):
        choose = random.Random(number)
        words = [choose.choice(("in", "at", "Paris", "Rome", "saw", "went")) for _ in range(6)]
        return item(number, ["PLACE" if word in ("Paris", "Rome") else "O" for word in words], "") | {"words": words}

    items = [tagged(number) for number in range(120)]
    place = items[9]["words"].index(next(word for word in items[9]["words"] if word in ("Paris", "Rome", "in", "at")))
    right = items[9]["labels"][place]
    items[9]["labels"][place] = wrong = "O" if right == "PLACE" else "PLACE"
    judged = judge(items, "token_classification", ["O", "PLACE"], SuspectsSpec())
    assert len(judged) == 720
    word = items[9]["words"][place]
    assert (judged[0].item["id"], judged[0].given, judged[0].likely) == ("i9", (f"{word}: {wrong}",), (f"{word}: {right}",))
    assert judged[1].probability > 0.5
    assert len(judge(items, "token_classification", ["O", "PLACE"], SuspectsSpec(max_items=60))) == 60


def test_what_no_other_fold_has_seen_is_not_judged():
    items = [item(number, ["bad" if number % 2 else "good"], text_of(GOOD, number)) for number in range(40)]
    items += [item(number, ["rare"], text_of(BAD, number), group="one group") for number in range(90, 93)]
    judged = judge(items, "classification", ["bad", "good", "rare"], SuspectsSpec())
    assert {one.item["labels"][0] for one in judged} == {"bad", "good"}
    assert judge(items[40:], "classification", ["bad", "good", "rare"], SuspectsSpec()) == []


def labelled_of(site, folder, rows, task="classification", **settings):
    path = write_jsonl(folder / "all.jsonl", rows)
    sets = [{"name": "set", "licence": "MIT", "paths": [str(path)], "id_column": "id"}]
    return read_labelled.build(LabelledSpec.model_validate({"task": task, "train": sets} | settings), site=site)


@pytest.fixture
def labelled(site, tmp_path):
    rows = [{"id": n, "text": text_of(GOOD if n % 2 else BAD, n), "label": "good" if n % 2 else "bad"} for n in range(300)]
    rows += [
        {"id": EVIL, "text": "<script>" + text_of(BAD, 7), "label": "good"},
        {"id": "w", "text": text_of(BAD, 8) + "!", "label": "good"},
    ]
    rows += [rows[0] | {"id": "twice"}, {"id": "none", "text": "x"}, rows[1] | {"id": "other", "label": "bad"}]
    return labelled_of(site, tmp_path, rows, conflict="keep")


def test_a_report_tells_what_was_measured(labelled, site):
    spec = CheckLabelledSpec(bounds={"min_split_items": 20}, suspects={"probability": 0.5})
    report = check_labelled.build(spec, labelled, site=site)
    assert (report.corpus_digest, report.passed, report.num_checks) == (labelled.digest, True, 20)
    assert report.warnings == ()
    rows = {name: list(read_rows(report.path / "tables" / f"{name}.parquet")) for name in TABLES}
    data = rows["data"][0]
    assert (data["num_items_in"], data["num_items"], data["num_same_items"]) == (305, 303, 0)
    assert (data["duplicate_share"], data["conflict_share"]) == (1 / 305, 2 / 305)
    assert data["dropped_share"] == 2 / 305
    assert [(row["label"], row["num_items"], row["share"]) for row in rows["labels"]] == [
        ("bad", 151, 151 / 303),
        ("good", 152, 152 / 303),
    ]
    assert {row["split"]: row["num_items"] for row in rows["splits"]} == labelled.items_by_split
    assert {row["reason"]: row["num_documents"] for row in rows["reasons"]} == {"duplicate": 1, "missing_label": 1}
    suspects = list(read_rows(report.path / "suspects.parquet"))
    assert {row["id"] for row in suspects[:3]} == {f"set/{EVIL}", "set/w", "set/other"}
    assert {row["id"]: (row["given"], row["likely"]) for row in suspects}["set/w"] == (["good"], ["bad"])
    assert data["num_suspect"] == len(suspects) == 3


def test_the_tables_hold_no_text_and_the_page_runs_nothing(labelled, site):
    report = check_labelled.build(CheckLabelledSpec(suspects={"probability": 0.9, "num_listed": 3}), labelled, site=site)
    words = {
        value
        for rows in profile(labelled, list(read_rows(labelled.path / "items.parquet")), [], 0.1).values()
        for row in rows
        for value in row.values()
        if isinstance(value, str)
    }
    assert words == {*SPLITS, "bad", "good", "labelled", "duplicate", "missing_label"}
    page = (report.path / "report.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    for needle in ("Labelled data quality", "Labels that look wrong", "missing_label", "few suspect labels", f"set/{EVIL}"):
        assert needle in page
    assert page.count("<details") == len(list(read_rows(report.path / "suspects.parquet"))) == 3
    assert len(json.loads((report.path / "results.json").read_text())) == report.num_checks


def test_labels_that_have_nothing_to_do_with_the_text_are_told(site, tmp_path):
    choose = random.Random(0)
    rows = [{"id": n, "text": text_of(GOOD + BAD, n), "label": choose.choice("abc")} for n in range(120)]
    report = check_labelled.build(CheckLabelledSpec(bounds={"min_split_items": 1}), labelled_of(site, tmp_path, rows), site=site)
    assert {line.split(" (")[0] for line in report.warnings} == {"few suspect labels", "labels follow the text"}


def test_agreement_is_counted_by_label():
    def said(given, likely):
        return Judged(item(0, [given], ""), (given,), 0.5, (likely,))

    judged = [said("a", "a"), said("a", "a"), said("a", "b"), said("a", "a"), said("b", "b"), said("b", "a")]
    assert _agreement(judged) == pytest.approx((3 / 4 + 1 / 2) / 2 - 1 / 2)
    assert _agreement([]) is None
    assert _agreement([Judged(item(0, ["10", "2"], ""), ("10", "2"), 0.5, ("2", "10"))]) == 0.0  # all of it, which one label is


def test_scores_have_a_histogram_and_bounds(site, tmp_path):
    rows = [{"id": n, "text": f"text {n}", "label": 7.0 if n == 5 else n % 4} for n in range(80)]
    labelled = labelled_of(site, tmp_path, rows, "regression", validation_share=0.3, test_share=0.3)
    report = check_labelled.build(CheckLabelledSpec(suspects=None, bounds={"min_split_items": 1}), labelled, site=site)
    scores = list(read_rows(report.path / "tables" / "scores.parquet"))
    assert (len(scores), scores[0]["from"], scores[-1]["to"]) == (20, 0.0, 7.0)
    assert [row["num_items"] for row in scores if row["num_items"]] == [20, 19, 20, 20, 1]
    train = [row["value"] for row in read_rows(labelled.path / "items.parquet") if row["split"] == "train"]
    assert bool(report.warnings) is (7.0 not in train)
    assert "Scores" in (report.path / "report.html").read_text(encoding="utf-8")


def test_so_many_deviations_off_is_suspect(site, tmp_path):
    rows = [{"id": n, "text": scored(n)["text"], "label": 9.0 if n == 17 else scored(n)["value"]} for n in range(120)]
    labelled = labelled_of(site, tmp_path, rows, "regression")
    found = []
    for deviations in (2.0, 4.0, 100.0):
        spec = CheckLabelledSpec(bounds={"min_split_items": 1}, suspects={"deviations": deviations})
        report = check_labelled.build(spec, labelled, site=site)
        found.append({row["id"] for row in read_rows(report.path / "suspects.parquet")})
    assert found[0] > found[1] >= {"set/17"} > found[2] == set()


def test_tags_are_counted_by_word(site, tmp_path):
    rows = [{"id": n, "words": ["a", f"w{n}"], "label": ["O", "X"]} for n in range(60)]
    report = check_labelled.build(
        CheckLabelledSpec(bounds={"min_split_items": 1}), labelled_of(site, tmp_path, rows, "token_classification"), site=site
    )
    assert [row["share"] for row in read_rows(report.path / "tables" / "labels.parquet")] == [0.5, 0.5]
    assert list(read_rows(report.path / "suspects.parquet")) == []


def test_a_critical_failure_stops_the_run(labelled, site):
    report = check_labelled.build(CheckLabelledSpec(bounds={"min_items": 10_000}, suspects=None), labelled, site=site)
    with pytest.raises(GateError, match=r"(?s)the data failed 1 critical checks.*enough items.*num_items is 303"):
        require_quality.build(RequireQualitySpec(), report, site=site)


@pytest.mark.slow
def test_injected_label_errors_of_real_reviews_come_first(site, shared_data):
    columns = {"text_column": "review", "names": {"0": "negative", "1": "positive"}}
    sets = [
        {"name": "hotels", "licence": "-", "paths": [str(shared_data / "tasks/zh_sentiment/ChnSentiCorp_htl_all.csv")]} | columns
    ]
    labelled = read_labelled.build(LabelledSpec.model_validate({"task": "classification", "train": sets}), site=site)
    items = list(read_rows(labelled.path / "items.parquet"))
    wrong = set(random.Random(0).sample(range(len(items)), len(items) // 20))
    for number in wrong:
        items[number]["labels"] = ["negative" if items[number]["labels"] == ["positive"] else "positive"]
    judged = judge(items, "classification", labelled.label_names, SuspectsSpec())
    numbers = {one["id"]: number for number, one in enumerate(items)}
    found = [numbers[one.item["id"]] in wrong for one in judged[: len(wrong)]]
    assert sum(found) / len(wrong) > 0.45  # by chance 0.05
