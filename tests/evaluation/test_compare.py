"""The comparison and its page."""

import json
import re

import pytest

from tasks.contracts import EvalReport, Interval, Scores
from tasks.core.errors import ContractError
from tasks.core.site import Site
from tasks.evaluation import CompareSpec, ScoreSpec, compare, score_champion
from tasks.evaluation.compare import paired_differences
from tasks.evaluation.metrics import Unit
from tasks.evaluation.page import bar, render, title_of
from tasks.evaluation.specs import BootstrapSpec
from tests.evaluation.conftest import SETTINGS
from tests.evaluation.kit import ToyChampionSpec, toy_champion


@pytest.fixture(scope="module")
def nobody(corpus: object, conversations: object, shared_site: Site) -> Scores:
    champion = toy_champion.build(ToyChampionSpec(digest=None), site=shared_site)
    return score_champion.build(ScoreSpec(role="champion", settings=SETTINGS), champion, corpus, conversations, site=shared_site)


@pytest.fixture(scope="module")
def report(base_scores: Scores, tuned_scores: Scores, nobody: Scores, shared_site: Site) -> EvalReport:
    return compare.build(CompareSpec(), base_scores, tuned_scores, nobody, site=shared_site)


def test_differences_are_those_of_the_figures(report: EvalReport, base_scores: Scores, tuned_scores: Scores) -> None:
    assert report.champion_digest is None
    assert set(report.differences) == {f"base/{name}" for name in base_scores.metrics}
    for name, interval in base_scores.metrics.items():
        difference = report.differences[f"base/{name}"]
        assert difference.mean == pytest.approx(tuned_scores.metrics[name].mean - interval.mean, abs=1e-12)
        assert difference.low <= difference.mean <= difference.high
    written = json.loads((report.path / "comparison.json").read_text())
    assert written["metrics"]["tuned/answer_loss"]["mean"] == report.metrics["tuned/answer_loss"].mean


def test_the_page_stands_alone_and_escapes(report: EvalReport) -> None:
    page = (report.path / "report.html").read_text()
    assert "default-src &#39;none&#39;" in page or "default-src 'none'" in page
    assert not re.search(r"(src|href)=", page)
    assert "http" not in page.replace("http-equiv", "")
    assert "<script" not in page
    assert "about &lt;b&gt;files&lt;/b&gt;" in page
    assert "better" in page


def test_scores_in_the_wrong_place_are_refused(base_scores: Scores, tuned_scores: Scores, nobody: Scores) -> None:
    with pytest.raises(ContractError, match="scores of a tuned model as base"):
        compare.fn(CompareSpec(), tuned_scores, base_scores, nobody, ctx=None)


def test_only_what_both_were_scored_on_is_compared() -> None:
    spec = BootstrapSpec(num_resamples=100)
    one = {"answer_bits_per_byte": {"a": Unit(1, 1, "a"), "b": Unit(2, 1, "b")}, "answer_loss": {"a": Unit(1, 4, "a")}}
    other = {"answer_bits_per_byte": {"a": Unit(3, 1, "a"), "c": Unit(9, 1, "c")}, "answer_loss": {"a": Unit(1, 5, "a")}}
    found = paired_differences(spec, one, other)
    assert set(found) == {"answer_bits_per_byte"}  # a loss per token means nothing where the tokens differ
    assert (found["answer_bits_per_byte"].mean, found["answer_bits_per_byte"].num_items) == (-2.0, 1)
    with pytest.raises(ContractError, match="not scored on a single common"):
        paired_differences(spec, {"answer_loss": {"a": Unit(1, 1, "a")}}, {"answer_loss": {"b": Unit(1, 1, "b")}})


@pytest.mark.parametrize(
    ("name", "low", "high", "verdict"),
    [
        ("base/answer_loss", -2.0, -1.0, "better"),
        ("base/bits_per_byte/zh", 0.1, 0.2, "worse"),
        ("base/keyword_accuracy", 0.1, 0.2, "better"),
        ("champion/prompt_gain", -0.1, 0.2, "unclear"),
    ],
)
def test_bars(name: str, low: float, high: float, verdict: str) -> None:
    placed = bar(name, Interval(mean=(low + high) / 2, low=low, high=high, num_items=9))
    assert placed.verdict == verdict
    assert 0 <= placed.left < placed.mean < placed.left + placed.width <= 100
    assert (placed.zero < placed.left) == (low > 0)


def test_bars_say_how_sure_their_intervals_are() -> None:
    said = {share: render("bars.html.jinja", 100, bars=[], confidence=share) for share in (0.6, 0.999)}
    assert "mean and 60% interval" in said[0.6]
    assert "mean and 99.9% interval" in said[0.999]


def test_a_metric_of_one_language_reads_like_that_of_all() -> None:
    assert title_of("bits_per_byte/zh") == "General text, zh"
    assert title_of("keyword_accuracy/copied") == "The same where the keywords stand in the prompt"
