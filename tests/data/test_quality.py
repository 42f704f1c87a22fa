"""Quality scores: good text scores high, teachers are scored by a model that did not see them, drops are counted."""

import json
import math
from collections import Counter

import numpy as np
import pytest

from tasks.cleaning import DedupSpec, QualitySpec, dedup, score_quality
from tasks.cleaning.quality import BelowPercentile, BelowScore, thresholds
from tasks.cleaning.reliability import area_under_curve, bins_of, calibration_error
from tasks.cleaning.scorer import NUM_FOLDS, WHOLE, load_scorer, train
from tasks.core.errors import ContractError, RecipeError
from tasks.core.run import Run, running
from tasks.core.site import Site
from tasks.core.tables import read_rows
from tasks.ingest import IngestSpec, ingest
from tests.data.kit import CleanSpec, chinese, clean, documents, english, source, write_jsonl

SIDES = {"positive": {"sources": ["good"]}, "negative": {"sources": ["crawl"]}}


def junk(number):
    return "buy now cheap click here " * 3 + " ".join(f"offer {number} {place} free pills best price" for place in range(12))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Good English, Chinese prose without a counterpart, a crawl of adverts with some good text in it."""
    folder = tmp_path_factory.mktemp("quality")
    site = Site(state_dir=folder / "state", data_workers=1)
    texts = {
        "good": [english(number) for number in range(120)] + [chinese(number) for number in range(2)],
        "crawl": [junk(number) for number in range(120)] + [english(1_000 + number) for number in range(10)],
        "other": [english(2_000 + number) for number in range(20)] + [junk(500 + number) for number in range(20)],
    }
    sources = []
    for name, found in texts.items():
        rows = [{"id": f"{number:03d}", "text": text} for number, text in enumerate(found)]
        sources.append(source(write_jsonl(folder / f"{name}.jsonl", rows), name=name))
    raw = ingest.build(IngestSpec(sources=tuple(sources)), site=site)
    filtered = clean.build(CleanSpec(filters=(), min_language_score=0), raw, site=site)
    return dedup.build(DedupSpec(near=None, validation_share=0.2, test_share=0.1), filtered, site=site)


def scored(corpus, site, **settings):
    return score_quality.build(QualitySpec.model_validate({"method": {"kind": "linear"} | SIDES | settings}), corpus, site=site)


def test_off_is_the_corpus_itself_and_reads_nothing(corpus, site):
    with running(Run(site)):
        record = score_quality.outcome(QualitySpec(), corpus)
    assert (record.result, record.artifact) == ("reused", corpus)
    assert not site.store_dir.exists()


def test_good_text_scores_above_the_other_and_a_language_without_examples_is_not_scored(corpus, site):
    found = scored(corpus, site)
    rows = documents(found)
    unseen = [row for row in rows if row["source"] == "other"]
    good = [row["quality"] for row in unseen if "buy now" not in row["text"]]
    junky = [row["quality"] for row in unseen if "buy now" in row["text"]]
    assert min(good) > 0.7 > 0.3 > max(junky)
    assert {row["quality"] for row in rows if row["lang"] == "zh"} == {None}
    assert found.num_documents == corpus.num_documents
    assert found.low_quality_by_reason == {}
    assert found.quality["en/auc"] > 0.9
    assert found.quality["en/calibration_error"] < 0.15
    assert (found.path / "extra" / "reliability.svg").stat().st_size > 1_000


def test_the_column_is_what_the_kept_weights_say_and_nothing_is_pickled(corpus, site):
    found = scored(corpus, site)
    with np.load(found.path / "quality" / "en.npz", allow_pickle=False) as arrays:
        assert arrays["weights"].shape == (1, 1 << 17)
    row = next(row for row in documents(found) if row["source"] == "other")
    score = load_scorer(found.path / "quality" / "en.npz").scores([row["text"]], [0])[0]
    assert row["quality"] == pytest.approx(score, abs=5e-7)


def test_a_teacher_is_scored_by_the_model_that_did_not_see_it():
    texts = [english(number) for number in range(40)] + [junk(number) for number in range(40)]
    texts[7] = junk(1_000)  # labelled good, and nothing like the good ones
    labels, folds = [True] * 40 + [False] * 40, [number % NUM_FOLDS for number in range(80)]
    scorer = train("en", texts, labels, folds)
    out_of_fold, seen = scorer.scores([texts[7]] * 2, [folds[7], WHOLE])
    assert out_of_fold < seen
    assert len({tuple(row) for row in scorer.weights[:, :5_000]}) == NUM_FOLDS + 1


def test_documents_are_dropped_by_threshold_and_counted(corpus, site):
    found = scored(corpus, site, drop={"kind": "threshold", "min_score": 0.5})
    low = list(read_rows(found.path / "low_quality.parquet"))
    assert found.low_quality_by_reason == {"threshold:en": len(low)}
    assert found.num_documents == corpus.num_documents - len(low)
    assert Counter(row["source"] for row in low)["good"] == 0
    assert max(row["quality"] for row in low) < 0.5 <= min(row["quality"] for row in documents(found) if row["lang"] == "en")
    looked_for = found.model_copy(update={"num_heldout_items": 3})
    assert f"{len(low)} low quality (threshold:en)" in looked_for.summary()


def test_a_percentile_is_of_each_language_and_of_training_documents():
    scores = {"en": [0.9, 0.1, 0.5, 0.3], "zh": [0.2, 0.8]}
    assert thresholds(BelowPercentile(kind="percentile", share=0.5), scores) == {"en": 0.5, "zh": 0.8}
    assert thresholds(BelowScore(kind="threshold", min_score=0.4), scores) == {"en": 0.4, "zh": 0.4}
    assert thresholds(None, scores) == {}


def test_a_percentile_drops_its_share(corpus, site):
    found = scored(corpus, site, drop={"kind": "percentile", "share": 0.25})
    low = [row for row in read_rows(found.path / "low_quality.parquet") if row["split"] == "train"]
    kept = [row for row in documents(found) if row["split"] == "train" and row["lang"] == "en"]
    assert 0.15 < len(low) / (len(low) + len(kept)) <= 0.25  # documents with the score of the bound stay


def test_files_teach_as_well_and_workers_and_position_change_no_byte(corpus, site, tmp_path):
    rows = [{"text": junk(9_000 + number)} for number in range(80)]
    where = {"negative": {"files": [{"name": "adverts", "paths": [str(write_jsonl(tmp_path / "a.jsonl", rows))]}]}}
    moved = {"negative": {"files": [{"name": "adverts", "paths": [str(write_jsonl(tmp_path / "b" / "a.jsonl", rows))]}]}}
    first = scored(corpus, site, **where)
    again = scored(corpus, Site(state_dir=tmp_path / "again", data_workers=2), **moved)
    assert first.digest == again.digest
    assert first.fingerprint == again.fingerprint
    assert first.digest != scored(corpus, site).digest


@pytest.mark.parametrize("change", [{"seed": 1}, {"max_examples": 40}])
def test_each_option_changes_something(corpus, site, change):
    assert scored(corpus, site, **change).digest != scored(corpus, site).digest


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"positive": {"sources": ["goood"]}}, ContractError, "no source 'goood'; it has crawl, good, other"),
        ({"negative": {"sources": ["good"]}}, ContractError, "named as good and as not good"),
        ({"positive": {}}, RecipeError, "each need sources or files"),
        ({"drop": {"kind": "threshold", "min_score": 0.9999}}, ContractError, "leaves none for"),
    ],
)
def test_what_cannot_be_done_is_said(corpus, site, settings, error, message):
    with pytest.raises(error, match=message):
        scored(corpus, site, **settings)


def test_too_few_examples_are_refused(site, tmp_path, corpus):
    path = write_jsonl(tmp_path / "few.jsonl", [{"text": junk(number)} for number in range(15)])
    with pytest.raises(ContractError, match="no language has enough examples"):
        scored(corpus, site, negative={"files": [{"name": "few", "paths": [str(path)]}]})


def test_reliability_by_hand():
    bins = bins_of([0.1, 0.15, 0.9, 1.0], [False, True, True, True])
    assert [(one.score, one.share, one.count) for one in bins] == [(0.125, 0.5, 2), (0.95, 1.0, 2)]
    assert math.isclose(calibration_error(bins), 0.5 * 0.375 + 0.5 * 0.05)
    assert area_under_curve([0.1, 0.4, 0.4, 0.9], [False, False, True, True]) == 0.875


def test_a_finished_piece_is_not_scored_again(corpus, site, monkeypatch):
    from tasks.cleaning import quality as module

    real, calls = module.score_piece, []

    def breaks_after(piece):
        calls.append(piece.number)
        real(piece)
        raise OSError("the power went")

    monkeypatch.setattr(module, "score_piece", breaks_after)
    with pytest.raises(OSError, match="power"):
        scored(corpus, site)
    monkeypatch.setattr(module, "score_piece", lambda piece: calls.append(piece.number))
    made = scored(corpus, site)
    assert calls == [0]
    assert made.num_documents == corpus.num_documents
    assert json.loads((made.path / "manifest.json").read_text())["stage"] == "score_quality"
