"""Encoders: gigatoken where it gives the ids of `tokenizers`, which remain the measure."""

import json
import random
import shutil

import numpy as np
import pytest

from tasks.core.site import Site
from tasks.tokenization import EncodeSpec, TokenizerSpec, encode, make_tokenizer, runs
from tasks.tokenization.encoders import choose_encoder, load_encoder
from tasks.tokenization.training import load_plain
from tests.data.kit import chinese, clean_of, english, no_base

TEXTS = [english(1), chinese(2), "", "<|endoftext|> is text, <|im_start|> too", "e\u0301 \U0001f469\u200d\U0001f467 12345 İ"]

HARD = list("abe'stSrRevlLdDmM   \n\n\r\t 1234 中文汉，。!!-. \u017f\u0301\u3000\u00a0é\x1f〇⺀²İ😀")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    rows = [{"id": f"d{number:03d}", "text": (english if number % 2 else chinese)(number)} for number in range(60)]
    return clean_of(Site(state_dir=folder / "state", data_workers=1), folder, rows, validation_share=0.1, test_share=0.1)


def trained(corpus, folder, **settings):
    spec = TokenizerSpec.model_validate({"source": {"kind": "train", "vocab_size": 500, "split": "llama3"} | settings})
    site = Site(state_dir=folder, data_workers=1)
    return make_tokenizer.build(spec, corpus, no_base(site), site=site)


@pytest.mark.parametrize("digits", [1, 3])
def test_a_trained_tokenizer_is_encoded_by_gigatoken_with_the_ids_of_tokenizers(corpus, tmp_path, digits):
    folder = trained(corpus, tmp_path, max_digits=digits).path
    assert choose_encoder(folder, TEXTS)[0] == "gigatoken"
    model = load_plain(folder)
    found = load_encoder(folder, "gigatoken")(TEXTS)
    parts = np.split(found.ids_N, np.cumsum(found.lengths_D)[:-1])
    assert [part.tolist() for part in parts] == [model.encode(text, add_special_tokens=False).ids for text in TEXTS]


def test_a_way_of_splitting_that_no_fast_encoder_knows_is_left_to_tokenizers(corpus, tmp_path):
    folder = trained(corpus, tmp_path, max_digits=2).path
    name, why = choose_encoder(folder, TEXTS)
    assert name == "tokenizers"
    assert "gigatoken does not take this tokenizer" in why
    assert "another split than han_runs" in why
    found = load_encoder(folder, name)(TEXTS)
    assert found.lengths_D.tolist() == [len(load_plain(folder).encode(text, add_special_tokens=False).ids) for text in TEXTS]


@pytest.mark.parametrize(("digits", "chars_at_once"), [(1, 2_000_000), (2, 60), (3, 1)])
def test_the_default_split_is_encoded_by_parts_with_the_ids_of_tokenizers(corpus, tmp_path, monkeypatch, digits, chars_at_once):
    monkeypatch.setattr(runs, "_CHARS_AT_ONCE", chars_at_once)
    folder = trained(corpus, tmp_path, split="han_runs", max_digits=digits).path
    assert choose_encoder(folder, TEXTS)[0] == "runs"
    choose = random.Random(digits)
    texts = [*TEXTS, "\U0010ffff 二〇", *("".join(choose.choices(HARD, k=choose.randrange(40))) for _ in range(3_000))]
    model, encoder = load_plain(folder), load_encoder(folder, "runs")
    for part in (texts[:1_000], texts[1_000:], texts[:0]):
        found = encoder(part)
        sure = [one.ids for one in model.encode_batch_fast(part, add_special_tokens=False)]
        assert found.lengths_D.tolist() == [len(ids) for ids in sure]
        assert found.ids_N.tolist() == [id for ids in sure for id in ids]


def test_other_ids_on_a_probe_are_noticed(corpus, tmp_path):
    """A token that stands for a whole word, matched before any splitting, is where the two go apart or must not."""
    folder = tmp_path / "changed"
    shutil.copytree(trained(corpus, tmp_path / "state").path, folder)
    data = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    data["normalizer"] = {"type": "Lowercase"}
    (folder / "tokenizer.json").write_text(json.dumps(data), encoding="utf-8")
    assert choose_encoder(folder, TEXTS)[0] == "tokenizers"


def test_both_make_the_same_shards(corpus, tmp_path, monkeypatch):
    from tasks.tokenization import encoding

    tokenizer = trained(corpus, tmp_path)
    fast = encode.build(EncodeSpec(), corpus, tokenizer, site=Site(state_dir=tmp_path / "fast", data_workers=2))
    monkeypatch.setattr(encoding, "choose_encoder", lambda folder, probes: ("tokenizers", "asked for"))
    slow = encode.build(EncodeSpec(), corpus, tokenizer, site=Site(state_dir=tmp_path / "slow", data_workers=1))
    assert fast.digest == slow.digest
