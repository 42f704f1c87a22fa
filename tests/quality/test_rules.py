"""Rules: each one says no when it should; what cannot be decided has failed."""

import dataclasses

import pytest

from data_quality.rules import Rule
from data_quality.suite import read_suite
from data_quality.validation import validate
from tasks.core.errors import ContractError

DOCUMENT = {
    "lang": "zh",
    "source": "s",
    "split": "train",
    "id_key": 1,
    "text_key": 1,
    "num_chars": 100,
    "num_bytes": 300,
    "num_lines": 5,
    "mean_line_chars": 20.0,
    "han_share": 0.9,
    "letter_share": 0.9,
    "digit_share": 0.0,
    "broken_share": 0.0,
}
GOOD = {
    "documents": [DOCUMENT | {"id_key": number, "text_key": number} for number in range(200)],
    "sources": [
        {
            "source": name,
            "num_raw": 100,
            "num_filtered": 95,
            "num_clean": 90,
            "num_bytes": 30_000,
            "kept_share": 0.9,
            "byte_share": 0.5,
        }
        for name in ("one", "two")
    ],
    "languages": [{"lang": name, "num_documents": 100, "num_bytes": 30_000, "byte_share": 0.5} for name in ("zh", "en")],
    "splits": [{"split": name, "num_documents": 60, "num_bytes": 20_000} for name in ("train", "validation", "test")],
    "reasons": [],
    "corpus": [
        {"num_records": 210, "num_documents": 200, "num_bytes": 60_000, "num_masked": 3, "num_same_texts": 0}
        | {"num_clusters_in_two_splits": 0, "quarantined_share": 0.0, "dropped_share": 0.04, "duplicate_share": 0.01}
        | {"masked_per_mb": 50.0}
    ],
}


def changed(table, **values):
    """The good tables with the first row of one of them changed."""
    first, *rest = GOOD[table]
    return GOOD | {table: [first | values, *rest]}


def rules(tables=GOOD, **bounds):
    return [check.rule(tables) for check in read_suite("default", bounds)]


def failures(tables):
    results = validate(rules(tables), tables)
    return {(result.severity, result.rule.name) for result in results if not result.passed}


def test_good_tables_pass_every_rule():
    results = validate(rules(), GOOD)
    assert len(results) == 17
    assert [result.line for result in results if not result.passed] == []
    assert not any(result.broken for result in results)


@pytest.mark.parametrize(
    ("tables", "severity", "name"),
    [
        (changed("corpus", num_documents=49), "critical", "enough documents"),
        (changed("corpus", num_bytes=9_999), "critical", "enough text"),
        (changed("corpus", quarantined_share=0.11), "critical", "few records quarantined"),
        (changed("documents", id_key=7), "critical", "ids unique"),
        (changed("documents", num_chars=0), "critical", "no empty document"),
        (changed("corpus", num_same_texts=1), "critical", "no text twice"),
        (changed("corpus", num_clusters_in_two_splits=1), "critical", "no cluster in two splits"),
        (changed("splits", num_documents=19), "warning", "enough held out"),
        (changed("languages", byte_share=0.04), "warning", "each language has its share"),
        (changed("sources", byte_share=0.91), "warning", "no source dominates"),
        (changed("corpus", dropped_share=0.61), "warning", "filters moderate"),
        (changed("sources", kept_share=0.09), "warning", "each source survives"),
        (changed("corpus", duplicate_share=0.51), "warning", "few duplicates"),
        (changed("corpus", masked_per_mb=201.0), "info", "little personal data"),
    ],
)
def test_each_rule_says_no_at_its_bound(tables, severity, name):
    assert failures(tables) == {(severity, name)}


def test_an_empty_split_is_critical():
    assert failures(changed("splits", num_documents=0)) == {("critical", "each split filled"), ("warning", "enough held out")}


@pytest.mark.parametrize(
    ("column", "severity", "name"), [("broken_share", "critical", "text unbroken"), ("letter_share", "warning", "mostly letters")]
)
def test_rules_for_most_documents_allow_a_few(column, severity, name):
    bad = 0.5 if column == "broken_share" else 0.1

    def tables(number):
        return GOOD | {
            "documents": [row | ({column: bad} if place < number else {}) for place, row in enumerate(GOOD["documents"])]
        }

    allowed = 4 if column == "broken_share" else 2
    assert failures(tables(allowed)) == set()
    assert failures(tables(allowed + 1)) == {(severity, name)}


def test_every_rule_has_a_test_that_it_says_no():
    tested = {case[2] for case in test_each_rule_says_no_at_its_bound.pytestmark[0].args[1]}
    assert tested | {"each split filled", "text unbroken", "mostly letters"} == {rule.name for rule in rules()}


def test_a_line_names_expectation_value_bound_and_remedy():
    result = next(one for one in validate(rules(min_documents=300), GOOD) if not one.passed)
    assert result.line == (
        "enough documents (ExpectColumnValuesToBeBetween): num_documents is 200, asked for num_documents >= 300; add sources"
    )


def test_a_line_tells_how_many_rows_are_outside():
    result = next(one for one in validate(rules(min_language_share=0.6), GOOD) if not one.passed)
    assert result.seen == "worst byte_share 0.5, 2 of 2 outside"


def test_no_rules_is_an_error():
    with pytest.raises(ContractError, match="the quality suite is empty"):
        validate([], GOOD)


INFO = Rule(
    "a rule", "corpus", "info", "ExpectColumnValuesToBeBetween", {"column": "num_bytes", "min_value": 1}, "bound", "remedy"
)


@pytest.mark.parametrize(
    ("rule", "tables", "why"),
    [
        (INFO, {key: rows for key, rows in GOOD.items() if key != "corpus"}, "table corpus is missing"),
        (INFO, GOOD | {"corpus": []}, "table corpus is empty"),
        (dataclasses.replace(INFO, settings={"column": "gone", "min_value": 1}), GOOD, "gone"),
        (INFO, changed("corpus", num_bytes="many"), "the check could not be made"),
        (INFO, changed("corpus", num_bytes=None), "the check could not be made"),
        (INFO, changed("corpus", num_bytes=float("nan")), "the check could not be made"),
    ],
)
def test_what_cannot_be_decided_has_failed_critically(rule, tables, why):
    (result,) = validate([rule], tables)
    assert not result.passed
    assert result.broken
    assert result.severity == "critical"
    assert why in result.line


def test_a_rule_that_does_not_exist_in_great_expectations_is_an_error():
    with pytest.raises(AttributeError, match="ExpectMiracles"):
        validate([dataclasses.replace(INFO, expectation="ExpectMiracles")], GOOD)


def test_an_answer_that_never_comes_has_failed(monkeypatch):
    from data_quality import validation

    monkeypatch.setattr(validation, "_run", lambda *arguments: {})
    (result,) = validate([INFO], GOOD)
    assert (result.passed, result.severity) == (False, "critical")
    assert "gave no result" in result.line
