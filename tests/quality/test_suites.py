"""Suites: each kind says no at its bound, mistakes in a file are named, a recipe reaches the numbers."""

import tomllib

import pytest

from data_quality.drift import measured, profile_of
from data_quality.suite import CORPUS, SUITES_DIR, CheckSpec, read_suite
from data_quality.validation import validate
from flows.presets import load_recipe
from tasks.core.errors import ContractError, RecipeError

DOCUMENT = {"source": "s", "split": "train", "id_key": 1, "text_key": 1, "num_bytes": 30, "num_lines": 1, "mean_line_chars": 1.0}
DOCUMENT |= {"han_share": 0.0, "letter_share": 0.9, "digit_share": 0.0, "broken_share": 0.0}
TABLES = {
    "raw_documents": [{"source": "s", "num_chars": 1, "num_bytes": 1}] * 20,
    "documents": [DOCUMENT | {"lang": "zh" if place < 4 else "en", "num_chars": place} for place in range(10)],
}
HEAD = 'name = "one"\nseverity = "warning"\ntable = "documents"\nremedy = "mend it"\n'


def write(folder, *checks, head=""):
    path = folder / "mine.toml"
    path.write_text(head + "".join(f"[[clean_corpus]]\n{check}\n" for check in checks), encoding="utf-8")
    return str(path)


def result(folder, body, compared=True, tables=TABLES):
    (check,) = read_suite(write(folder, HEAD + body), {})
    (found,) = validate([check.rule(tables)], tables, compared)
    return found


@pytest.mark.parametrize(
    ("body", "passes", "seen"),
    [
        ('kind = "range"\ncolumn = "num_chars"\nmin = 0\nmax = 9', True, "worst num_chars 0"),
        ('kind = "range"\ncolumn = "num_chars"\nmin = 0\nmax = 7', False, "worst num_chars 9, 2 of 10 outside"),
        ('kind = "range"\ncolumn = "num_chars"\nmin = 1', False, "worst num_chars 0, 1 of 10 outside"),
        ('kind = "range"\ncolumn = "num_chars"\nmin = 1\nmax_outside = 0.1', True, "worst num_chars 0, 1 of 10 outside"),
        ('kind = "quantile"\ncolumn = "num_chars"\nquantile = 1\nmax = 9', True, "num_chars is 9 there"),
        ('kind = "quantile"\ncolumn = "num_chars"\nquantile = 0.9\nmax = 7', False, "num_chars is 8 there"),
        ('kind = "share"\ncolumn = "lang"\nvalues = ["zh"]\nmin = 0.4', True, "4 of 10, 0.4"),
        ('kind = "share"\ncolumn = "lang"\nvalues = ["zh"]\nmin = 0.41', False, "4 of 10, 0.4"),
        ('kind = "share"\ncolumn = "lang"\nvalues = ["zh"]\nmax = 0.4', True, "4 of 10, 0.4"),
        ('kind = "share"\ncolumn = "lang"\nvalues = ["zh"]\nmax = 0.39', False, "4 of 10, 0.4"),
        ('kind = "unique"\ncolumn = "num_chars"', True, "0 of 10 not unique"),
        ('kind = "unique"\ncolumn = "id_key"', False, "10 of 10 not unique"),
        (
            'kind = "row_count"\nagainst = "raw_documents"\nmin = 0.5\nmax = 0.5',
            True,
            "10 rows, at least 10 and at most 10 asked for",
        ),
        ('kind = "row_count"\nagainst = "raw_documents"\nmin = 0.55', False, "10 rows, at least 11 asked for"),
    ],
)
def test_each_kind_says_yes_and_no_at_its_bound(tmp_path, body, passes, seen):
    found = result(tmp_path, body)
    assert (found.passed, found.seen, found.severity) == (passes, seen, "warning")


def test_rows_against_those_of_an_empty_table_cannot_be_decided(tmp_path):
    found = result(tmp_path, 'kind = "row_count"\nagainst = "reasons"\nmin = 0.5', tables=TABLES | {"reasons": []})
    assert (found.passed, found.severity) == (False, "critical")
    assert found.seen == "the check could not be made: table reasons is empty"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ('kind = "median"\ncolumn = "num_chars"\nmin = 1', "'median'.*'range', 'quantile'"),
        ('kind = "range"\ncolumn = "num_char"\nmin = 1', "table documents has no column 'num_char'; it has .*num_chars"),
        ('kind = "range"\ncolumn = "lang"\nmin = 1', "column lang holds names, and range takes numbers"),
        ('kind = "range"\ncolumn = "num_chars"', "set min or max"),
        ('kind = "row_count"\nagainst = "before"\nmin = 1', "no table 'before'; there are: raw_documents"),
        ('kind = "range"\ncolumn = "num_chars"\nmin = "fewest"', "no bound is called 'fewest'"),
        ('kind = "range"\ncolumn = "num_chars"\nmin = 1\nmim = 2', "mim: Extra inputs"),
        ('kind = "share"\ncolumn = "lang"\nvalues = ["zh"]\nmin = 0.1\nmax = 0.2', "either min or max"),
        ('kind = "drift"\ncolumn = "lang"\nmeasure = "ks"\nmax = 1', "ks takes numbers"),
        ('kind = "drift"\ncolumn = "id_key"\nmeasure = "psi"\nmax = 1', "no drift of 'id_key' is known"),
    ],
)
def test_a_mistake_is_named_with_its_file_and_check(tmp_path, body, message):
    with pytest.raises(RecipeError, match=rf"(?s)mine\.toml: check 'one' under \[\[clean_corpus\]\]: .*{message}"):
        read_suite(write(tmp_path, HEAD + body), {})


def test_an_empty_suite_a_strange_section_and_an_unknown_name_are_refused(tmp_path):
    with pytest.raises(RecipeError, match="is empty: nothing would be checked"):
        read_suite(write(tmp_path), {})
    with pytest.raises(RecipeError, match="no such section 'cleen_corpus'; did you mean 'clean_corpus'"):
        read_suite(write(tmp_path, head="[[cleen_corpus]]\n"), {})
    with pytest.raises(RecipeError, match=r"no suite 'defualt'.*default, drift"):
        read_suite("defualt", {})
    with pytest.raises(RecipeError, match=r"each check of clean_corpus stands under \[\[clean_corpus\]\]"):
        read_suite(write(tmp_path, head="[clean_corpus]\nname = 'one'\n"), {})
    with pytest.raises(RecipeError, match=r"bounds is 3, and should be a table"):
        read_suite(write(tmp_path, head="bounds = 3\n"), {})
    with pytest.raises(RecipeError, match="two checks are called 'one'"):
        read_suite(write(tmp_path, HEAD, HEAD), {})


def test_a_suite_that_only_compares_never_passes_where_nothing_is_registered(tmp_path):
    with pytest.raises(ContractError, match="nothing would be checked"):
        result(tmp_path, 'kind = "drift"\ncolumn = "lang"\nmeasure = "psi"\nmax = 1', compared=False)


def test_a_child_replaces_a_check_of_its_parent_and_a_recipe_sets_its_numbers(tmp_path):
    child = 'name = "enough text"\nseverity = "info"\ntable = "corpus"\nremedy = "r"\nkind = "range"\ncolumn = "num_bytes"\n'
    path = write(tmp_path, child + 'min = "fewest"', head='extends = "default"\n[bounds]\nfewest = 5\n')
    default, mine = (read_suite(name, {}) for name in ("default", path))
    assert [check.name for check in mine] == [check.name for check in default]
    changed = next(check for check in mine if check.name == "enough text")
    assert (changed.severity, changed.min) == ("info", 5)
    assert next(check for check in read_suite(path, {"fewest": 7}) if check.name == "enough text").min == 7
    with pytest.raises(RecipeError, match=r"check\.bounds\.fewset: .*did you mean 'fewest'"):
        read_suite(path, {"fewset": 7})


@pytest.mark.parametrize("name", CORPUS.names)
def test_every_bound_of_a_shipped_suite_is_used(name):
    bounds = tomllib.loads((SUITES_DIR / f"{name}.toml").read_text(encoding="utf-8"))["bounds"]
    before = read_suite(name, {})
    for bound, value in bounds.items():
        assert read_suite(name, {bound: value / 2}) != before, bound


def test_a_suite_lies_beside_its_recipe_and_its_checks_are_what_counts(tmp_path, site):
    write(tmp_path, HEAD + 'kind = "unique"\ncolumn = "id_key"')
    (tmp_path / "recipe.toml").write_text('extends = "demo"\n[check]\nsuite = "mine.toml"\n', encoding="utf-8")
    spec = load_recipe(str(tmp_path / "recipe.toml")).check
    before = spec.pinned(site).identity()
    (tmp_path / "mine.toml").rename(tmp_path / "moved.toml")
    moved = CheckSpec(suite=str(tmp_path / "moved.toml"))
    assert moved.pinned(site).identity() == before
    assert CheckSpec(bounds={"min_documents": 50}).pinned(site).identity() == CheckSpec().pinned(site).identity()
    assert CheckSpec(bounds={"min_documents": 51}).pinned(site).identity() != CheckSpec().pinned(site).identity()


def test_drift_by_hand():
    before = profile_of([DOCUMENT | {"lang": "zh" if place < 50 else "en", "num_chars": place} for place in range(100)])
    moved = [DOCUMENT | {"lang": "zh" if place < 25 else "en", "num_chars": place + 50} for place in range(100)]
    assert measured("num_chars", "ks", moved, before) == pytest.approx(0.5, abs=0.002)
    assert measured("lang", "psi", moved, before) == pytest.approx(0.274653, abs=1e-6)  # (1/4-1/2) ln(1/2) + (3/4-1/2) ln(3/2)
    # Five of ten bins are empty now (1e-4 in place of 0), four are as full as before, the last holds six tenths.
    assert measured("num_chars", "psi", moved, before) == pytest.approx(5 * 0.0999 * 6.907755 + 0.5 * 1.791759, rel=0.02)
    same = [DOCUMENT | {"lang": "zh" if place < 50 else "en", "num_chars": place} for place in range(100)]
    assert measured("num_chars", "ks", same, before) < 0.002
    assert measured("num_chars", "psi", same, before) == pytest.approx(0, abs=1e-3)
    assert measured("lang", "psi", same, before) == 0
