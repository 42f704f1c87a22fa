"""Scoring stages on small models."""

import json
import math
from pathlib import Path

import pytest
import torch

from tasks.contracts import Checkpoint, CleanCorpus, Conversations, Scores
from tasks.core.errors import ContractError
from tasks.core.site import Site
from tasks.core.tables import read_rows
from tasks.evaluation import ScoreSpec, score_champion, score_model
from tasks.modeling.attention import packed_mask
from tasks.modeling.model import load_model
from tasks.modeling.words import load_tokenizer
from tests.evaluation.conftest import SETTINGS
from tests.evaluation.kit import ToyChampionSpec, toy_champion


def test_every_metric_is_there_with_its_units(base_scores: Scores) -> None:
    counts = {name: interval.num_items for name, interval in base_scores.metrics.items()}
    assert counts == {
        "bits_per_byte": 16,
        "bits_per_byte/en": 8,
        "bits_per_byte/zh": 8,
        "answer_loss": 30,
        "answer_bits_per_byte": 30,
        "keyword_accuracy": 24,
        "keyword_accuracy/copied": 6,
        "prompt_gain": 30,
    }
    assert all(interval.low <= interval.mean <= interval.high for interval in base_scores.metrics.values())


def test_a_short_document_s_figure_by_the_plain_model(base_scores: Scores, base: Checkpoint, corpus: CleanCorpus) -> None:
    rows = {row["id"]: row for row in read_rows(base_scores.path / "documents.parquet")}
    texts = {row["id"]: row["text"][:120] for row in read_rows(corpus.path / "documents") if row["id"] in rows}
    model, tokenizer = load_model(base.path / "model"), load_tokenizer(base.path / "model")
    name = min(texts, key=lambda one: len(texts[one]))
    ids = [0, *tokenizer.encode(texts[name]), 0]
    assert len(ids) <= 65
    inputs = torch.tensor([ids[:-1]])
    mask = packed_mask(torch.zeros_like(inputs), torch.float32)
    with torch.no_grad():
        logits = model(input_ids=inputs, attention_mask=mask, use_cache=False).logits[0].log_softmax(-1)
    nats = -logits[torch.arange(len(ids) - 1), torch.tensor(ids[1:])].sum().item()
    assert rows[name]["nats"] == pytest.approx(nats, rel=1e-4)
    assert rows[name]["num_bytes"] == len(texts[name].encode())
    total = sum(row["nats"] for row in rows.values()) / math.log(2) / sum(row["num_bytes"] for row in rows.values())
    assert base_scores.metrics["bits_per_byte"].mean == pytest.approx(total)


def test_windows_overlap_as_far_as_is_asked(
    base: Checkpoint, corpus: CleanCorpus, conversations: Conversations, site: Site
) -> None:
    """Only of a document longer than the context do the figures hang on it."""
    nats: list[dict[str, float]] = []
    for stride in (64, 8, None, 32):
        settings = SETTINGS.model_copy(update={"document_chars": None, "stride_tokens": stride})
        scores = score_model.build(ScoreSpec(role="base", settings=settings), base, corpus, conversations, site=site)
        rows = list(read_rows(scores.path / "documents.parquet"))
        nats.append({row["id"]: row["nats"] for row in rows})
    long = {row["id"] for row in rows if row["num_tokens"] > 64}
    apart, near, unset, half = nats
    assert 0 < len(long) < len(rows)
    assert {name for name in apart if apart[name] != pytest.approx(near[name], rel=1e-5)} == long
    assert unset == half


def test_tuning_shows_in_the_figures(base_scores: Scores, tuned_scores: Scores) -> None:
    assert tuned_scores.metrics["answer_loss"].high < base_scores.metrics["answer_loss"].low
    assert tuned_scores.metrics["keyword_accuracy"].mean > 0.9
    assert base_scores.metrics["keyword_accuracy"].mean < 0.1


def test_the_same_score_twice_gives_the_same_bytes(
    base_scores: Scores, base: Checkpoint, corpus: CleanCorpus, conversations: Conversations, site: Site
) -> None:
    again = score_model.build(ScoreSpec(role="base", settings=SETTINGS), base, corpus, conversations, site=site)
    assert again.digest == base_scores.digest


def test_samples_and_refusals_are_kept(tuned_scores: Scores) -> None:
    found = json.loads((tuned_scores.path / "samples.json").read_text())
    assert [sample["prompt"] for sample in found["samples"]] == ["about <b>files</b>"]
    assert found["refused"] == {"no_keywords": 0, "too_long": 0}


def test_no_champion_has_no_figures(corpus: CleanCorpus, conversations: Conversations, site: Site) -> None:
    nobody = toy_champion.build(ToyChampionSpec(digest=None), site=site)
    scores = score_champion.build(ScoreSpec(role="champion", settings=SETTINGS), nobody, corpus, conversations, site=site)
    assert (scores.role, scores.model_digest, scores.metrics) == ("champion", None, {})
    assert "no model" in scores.summary()


def test_a_champion_that_labels_is_not_scored_as_one_that_writes(
    corpus: CleanCorpus, conversations: Conversations, site: Site
) -> None:
    labels = toy_champion.build(ToyChampionSpec(architecture="BertForSequenceClassification"), site=site)
    with pytest.raises(ContractError, match=r"the champion m version 1 labels text and writes none; set registry\.name"):
        score_champion.build(ScoreSpec(role="champion", settings=SETTINGS), labels, corpus, conversations, site=site)


def test_items_that_do_not_fit_the_context_are_counted(base: Checkpoint, conversations: Conversations, tmp_path: Path) -> None:
    from tasks.evaluation.ask import _item_rows
    from tasks.evaluation.items import read_items
    from tasks.modeling.infer import Reader

    reader = Reader.load(base.path / "model", "cpu", "fp32")
    items, _ = read_items(conversations.path)
    lengths = sorted(sum(map(len, reader.question_and_answer(item.messages))) for item in items)
    reader.model.config.max_position_embeddings = lengths[10] - 1
    rows, num_too_long = _item_rows(reader, items, SETTINGS, tmp_path)
    assert num_too_long == sum(length > lengths[10] for length in lengths) > 0
    assert len(rows) == len(items) - num_too_long
    reader.model.config.max_position_embeddings = 4
    with pytest.raises(ContractError, match="none of 30 held-out items fits"):
        _item_rows(reader, items, SETTINGS, tmp_path)
