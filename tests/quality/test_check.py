"""The check stage and the gate: numbers only, always a report, a no that stops the run."""

import json
import re
from html.parser import HTMLParser

import pytest

from data_quality.baseline import BaselineSpec, resolve_baseline
from data_quality.check import CheckSpec, RequireQualitySpec, check, require_quality
from data_quality.profile import TABLES, profile
from data_quality.report import histogram
from tasks.cleaning import CleanSpec, DedupSpec, clean, dedup
from tasks.core.errors import ContractError, GateError
from tasks.core.tables import read_rows
from tests.data.kit import chinese, english, raw_of

EVIL = "<script>alert('x')</script><img src=http://evil.example/x onerror=alert(1)> \u202e {{ 7 * 7 }}"


@pytest.fixture(scope="module")
def corpora(tmp_path_factory):
    from tasks.core.site import Site

    folder = tmp_path_factory.mktemp("corpora")
    site = Site(state_dir=folder / "state", data_workers=1)
    texts = [(english if number % 2 else chinese)(number) for number in range(60)]
    texts[2] += " a@x.cn"
    texts += [texts[0], texts[1] + " More of it.", EVIL, english(200) + " " + EVIL, english(200) + " " + EVIL + "!", "1234", ""]
    raw = raw_of(
        site, folder, [{"id": f"d{number:03d} {EVIL if number > 60 else ''}", "text": text} for number, text in enumerate(texts)]
    )
    filtered = clean.build(CleanSpec(filters=()), raw, site=site)
    return raw, filtered, dedup.build(DedupSpec(validation_share=0.1, test_share=0.1), filtered, site=site)


def checked(corpora, site, **settings):
    spec = CheckSpec.model_validate(settings)
    baseline = resolve_baseline.build(BaselineSpec(name="toy", check=spec), corpora[2], site=site)
    return check.build(spec, *corpora, baseline, site=site)


@pytest.fixture(scope="module")
def report(corpora, tmp_path_factory):
    from tasks.core.site import Site

    return checked(corpora, Site(state_dir=tmp_path_factory.mktemp("report")))


def test_the_tables_hold_numbers_and_names_only(corpora, report):
    tables = profile(*corpora)
    assert tables.keys() == TABLES.keys()
    for name, rows in tables.items():
        assert rows or name == "reasons"
        assert list(read_rows(report.path / "tables" / f"{name}.parquet")) == rows
        words = {value for row in rows for value in row.values() if isinstance(value, str)}
        allowed = {"zh", "en", "test", "train", "validation", "ingest", "clean", "dedup", "decontaminate"} | set(
            corpora[0].quarantined
        )
        assert words <= allowed | set(corpora[1].drops_by_reason) | set(corpora[2].removed_by_reason)


def test_the_numbers_add_up(corpora):
    raw, filtered, corpus = corpora
    tables = profile(*corpora)
    totals = tables["corpus"][0]
    assert totals["num_documents"] == corpus.num_documents == len(tables["documents"])
    assert totals["num_bytes"] == corpus.num_bytes == sum(row["num_bytes"] for row in tables["splits"])
    assert totals["masked_per_mb"] == pytest.approx(filtered.masked["mail"] / (filtered.num_bytes / 1e6))
    assert totals["num_same_texts"] == totals["num_clusters_in_two_splits"] == 0
    assert totals["quarantined_share"] == pytest.approx(1 / raw.num_records)
    assert sum(row["byte_share"] for row in tables["languages"]) == pytest.approx(1)
    assert tables["sources"][0]["num_raw"] == raw.num_documents
    assert tables["sources"][0]["num_filtered"] == filtered.num_documents
    chinese_row = next(row for row in tables["documents"] if row["lang"] == "zh")
    assert chinese_row["han_share"] > 0.7
    assert chinese_row["letter_share"] >= chinese_row["han_share"]


def test_shares_of_a_text_by_hand():
    from data_quality.profile import _numbers

    numbers = _numbers("id", "中文a1\ufffd\n\n x")
    assert (numbers["num_chars"], numbers["num_bytes"], numbers["num_lines"]) == (9, 15, 2)
    assert numbers["han_share"] == pytest.approx(2 / 9)
    assert numbers["letter_share"] == pytest.approx(4 / 9)
    assert numbers["digit_share"] == numbers["broken_share"] == pytest.approx(1 / 9)
    assert numbers["mean_line_chars"] == pytest.approx((5 + 2) / 2)


def test_the_histogram_by_hand():
    found = histogram(
        [{"lang": "zh", "num_chars": chars} for chars in (10, 11, 99, 100)] + [{"lang": "en", "num_chars": 1_000}], "lang"
    )
    assert [one["name"] for one in found["languages"]] == ["en", "zh"]
    assert found["languages"][1]["counts"] == [2, 0, 0, 1, 1, 0, 0, 0, 0]
    assert found["languages"][0]["counts"] == [0, 0, 0, 0, 0, 0, 0, 0, 1]
    assert [(one["place"], one["label"]) for one in found["decades"]] == [(0, "10"), (4, "100"), (8, "1,000")]
    assert found["languages"][1]["shares"][0] == 0.5
    assert found["top"] == 1


def test_the_report_is_bound_to_the_corpus_and_lists_every_check(corpora, report):
    assert report.corpus_digest == corpora[2].digest
    results = json.loads((report.path / "results.json").read_text(encoding="utf-8"))
    assert len(results) == report.num_checks == 17
    assert report.passed is not any(not row["passed"] and row["severity"] == "critical" for row in results)


class Page(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.attributes, self.policy = [], [], ""

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes.extend((tag, name, value) for name, value in attrs)
        values = dict(attrs)
        if values.get("http-equiv") == "Content-Security-Policy":
            self.policy = values["content"]


def test_the_page_runs_nothing_and_loads_nothing(report):
    text = (report.path / "report.html").read_text(encoding="utf-8")
    page = Page()
    page.feed(text)
    assert "default-src 'none'" in page.policy
    assert not {"script", "img", "link", "iframe", "object", "form", "a"} & set(page.tags)
    assert not [name for _, name, _ in page.attributes if name in ("src", "href", "srcset", "action") or name.startswith("on")]
    assert not re.search(r"url\(|@import", text)
    assert "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;" in text
    assert "{{ 7 * 7 }}" in text
    assert "\u202e" not in text


def test_the_page_shows_what_was_lost_and_copied(report):
    text = (report.path / "report.html").read_text(encoding="utf-8")
    for needle in ("language:not_wanted", "empty_text", "near", "exact", "enough documents", "kept", "test/d"):
        assert needle in text


def test_the_same_corpus_gives_the_same_bytes(corpora, report, tmp_path):
    from tasks.core.site import Site

    assert checked(corpora, Site(state_dir=tmp_path)).digest == report.digest


def test_a_good_report_lets_the_run_go_on(corpora, report, site):
    assert report.passed, report.failures
    assert require_quality.build(RequireQualitySpec(), report, site=site) == report


def test_a_critical_failure_is_committed_and_stops_the_run(corpora, site):
    report = checked(corpora, site, bounds={"min_documents": 1_000_000})
    assert not report.passed
    assert (report.path / "report.html").exists()
    with pytest.raises(GateError, match=r"(?s)failed 1 critical checks.*enough documents.*num_documents is \d+.*>= 1,000,000"):
        require_quality.build(RequireQualitySpec(), report, site=site)


def test_a_warning_marks_and_does_not_stop(corpora, site):
    report = checked(corpora, site, bounds={"max_source_share": 0.5})
    assert report.passed
    assert [line.split(" (")[0] for line in report.warnings if "dominates" in line] == ["no source dominates"]
    require_quality.build(RequireQualitySpec(), report, site=site)


def test_an_info_is_neither(corpora, site):
    report = checked(corpora, site, bounds={"max_masked_per_mb": 0})
    lenient = checked(corpora, site, bounds={"max_masked_per_mb": 1e9})
    assert (report.passed, report.warnings, report.failures) == (lenient.passed, lenient.warnings, lenient.failures)


def test_a_check_that_breaks_stops_the_run(corpora, site, monkeypatch):
    from data_quality.checks import Range
    from data_quality.rules import Rule

    def broken(self, tables):
        settings = {"column": "gone", "max_value": 1}
        return Rule(self.name, self.table, "info", "ExpectColumnMeanToBeBetween", settings, "b", "r")

    monkeypatch.setattr(Range, "rule", broken)
    report = checked(corpora, site)
    assert not report.passed
    with pytest.raises(GateError, match=r"enough text .*the check could not be made"):
        require_quality.build(RequireQualitySpec(), report, site=site)


def test_corpora_that_do_not_belong_together_are_refused(corpora, site, tmp_path):
    _, filtered, corpus = corpora
    other = raw_of(site, tmp_path, [{"text": english(1)}])
    with pytest.raises(
        ContractError, match=r"was made from \d+ documents, but raw-corpus/\w+ has 1: they do not belong together"
    ):
        checked((other, filtered, corpus), site)


def test_the_report_shows_how_far_the_corpus_is_from_the_registered_one(corpora, site, monkeypatch):
    from data_quality.drift import profile_of, write_profile
    from tasks.contracts import Baseline
    from tests.registry.kit import commit, partial

    first = checked(corpora, site, suite="drift", bounds={"max_ks": 0.2})
    assert "nothing to compare with" in (first.path / "report.html").read_text(encoding="utf-8")
    documents = list(read_rows(first.path / "tables" / "documents.parquet"))
    longer = [row | {"num_chars": row["num_chars"] + 10_000} for row in documents]
    write_profile(partial(site, Baseline, "longer"), profile_of(longer))
    facts = {"model_name": "toy", "version": 3, "corpus_digest": "c" * 64, "has_profile": True}
    baseline = commit(site, Baseline, "longer", {}, **facts)
    spec = CheckSpec(suite="drift", bounds={"max_ks": 0.2})
    small = check.build(spec, *corpora, baseline, site=site.model_copy(update={"state_dir": site.state_dir / "small"}))
    assert len(documents) < 200
    assert small.num_checks == first.num_checks
    assert "fewer than 200 documents" in (small.path / "report.html").read_text(encoding="utf-8")
    monkeypatch.setattr("data_quality.check.MIN_COMPARED", len(documents))
    report = check.build(spec, *corpora, baseline, site=site)
    assert report.num_checks == first.num_checks + 4
    assert [line for line in report.warnings if "registered" in line] == [
        "lengths as registered (ExpectColumnValuesToBeBetween): num_chars_ks is 1, asked for ks of num_chars <= 0.2; "
        "compare the sources with those of the registered corpus"
    ]
    page = (report.path / "report.html").read_text(encoding="utf-8")
    assert "toy version 3" in page
    assert next(read_rows(report.path / "tables" / "drift.parquet"))["lang_psi"] == 0
