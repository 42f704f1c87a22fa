"""Mixtures: training tokens follow the weights, passes are stated, other splits stay, off costs nothing."""

from collections import Counter

import numpy as np
import pytest
from pydantic import ValidationError

from tasks.core.errors import ContractError
from tasks.core.run import Run, running
from tasks.core.shards import open_shard, shard_paths
from tasks.core.site import Site
from tasks.core.tables import read_rows
from tasks.tokenization import EncodeSpec, MixSpec, TokenizerSpec, encode, make_tokenizer, mix
from tasks.tokenization.diversity import diversity, growth, source_entropy
from tasks.tokenization.mixing import Part, drawn
from tests.data.kit import CleanSpec, DedupSpec, IngestSpec, chinese, clean, dedup, english, ingest, no_base, source, write_jsonl


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mix")
    site = Site(state_dir=folder / "state", data_workers=1)
    texts = {
        "prose": [english(number) for number in range(120)] + [chinese(number) for number in range(40)],
        "poems": [chinese(1_000 + number) for number in range(60)],
    }
    sources = []
    for name, found in texts.items():
        rows = [{"id": f"{number:03d}", "text": text} for number, text in enumerate(found)]
        sources.append(source(write_jsonl(folder / f"{name}.jsonl", rows), name=name))
    raw = ingest.build(IngestSpec(sources=tuple(sources)), site=site)
    filtered = clean.build(CleanSpec(filters=()), raw, site=site)
    kept = dedup.build(DedupSpec(near=None, validation_share=0.1, test_share=0.1), filtered, site=site)
    spec = TokenizerSpec.model_validate({"source": {"kind": "train", "vocab_size": 600}})
    tokenizer = make_tokenizer.build(spec, kept, no_base(site), site=site)
    return encode.build(EncodeSpec(shard_tokens=3_000), kept, tokenizer, site=site)


WEIGHTS = [
    {"source": "prose", "language": "en", "weight": 2},
    {"source": "prose", "language": "zh", "weight": 1},
    {"source": "poems", "weight": 1},
]


def mixed(corpus, site, **settings):
    return mix.build(MixSpec.model_validate({"method": {"kind": "weights", "weights": WEIGHTS} | settings}), corpus, site=site)


def rows_of(corpus):
    return list(read_rows(corpus.path / "documents-train.parquet"))


def stream(corpus):
    return np.concatenate([open_shard(path, corpus.tokenizer_digest) for path in shard_paths(corpus.path, "train")])


def test_off_is_the_corpus_itself(corpus, site):
    with running(Run(site)):
        record = mix.outcome(MixSpec(), corpus)
    assert (record.result, record.artifact) == ("reused", corpus)
    assert not site.store_dir.exists()


def test_tokens_follow_the_weights_and_every_figure_is_what_the_rows_say(corpus, site):
    found = mixed(corpus, site, num_tokens=36_000)
    tokens = Counter()
    for row in rows_of(found):
        tokens[row["source"], row["lang"]] += row["num_tokens"]
    total = sum(tokens.values())
    assert found.tokens_by_split["train"] == total == len(stream(found)) == pytest.approx(36_000, rel=0.005)
    parts = {("prose", "en"): ("prose en", 0.5), ("prose", "zh"): ("prose zh", 0.25), ("poems", "zh"): ("poems any", 0.25)}
    for key, (name, asked) in parts.items():
        assert abs(tokens[key] / total - asked) < 0.005
        assert found.mixture[f"{name}/share"] == pytest.approx(tokens[key] / total, abs=1e-6)
        before = sum(row["num_tokens"] for row in rows_of(corpus) if (row["source"], row["lang"]) == key)
        assert found.mixture[f"{name}/epochs"] == pytest.approx(tokens[key] / before, abs=1e-6)
    assert found.warnings == corpus.warnings
    assert (found.path / "extra" / "mixture.svg").stat().st_size > 1_000


def test_documents_stay_whole_and_passes_differ_by_one_at_most(corpus, site):
    found = mixed(corpus, site)
    whole = {}
    for artifact in (corpus, found):
        tokens, start = stream(artifact), 0
        for row in rows_of(artifact):
            ids = tokens[start : start + row["num_tokens"]].tolist()
            assert whole.setdefault(row["id"], ids) == ids
            start += row["num_tokens"]
    copies = Counter(row["id"] for row in rows_of(found))
    by_group = {}
    for row in rows_of(corpus):
        by_group.setdefault((row["source"], row["lang"]), set()).add(copies[row["id"]])
    assert all(max(counts) - min(counts) <= 1 for counts in by_group.values())


def test_other_splits_are_the_same_bytes(corpus, site):
    found = mixed(corpus, site)
    for split in ("validation", "test"):
        for path in [*shard_paths(corpus.path, split), corpus.path / f"documents-{split}.parquet"]:
            assert (found.path / path.name).read_bytes() == path.read_bytes()
    assert found.tokens_by_split["validation"] == corpus.tokens_by_split["validation"]
    assert sum(found.tokens_by_language.values()) == sum(found.tokens_by_split.values())


def test_passes_by_hand():
    parts = [Part({"id": str(number), "num_tokens": size}, 0, 0) for number, size in enumerate((5, 3, 2))]
    got = list(drawn(parts, 25, seed=0))
    assert [number for number, _ in got] == [0, 0, 0, 1, 1, 1, *[2] * (len(got) - 6)]
    last = {part.num_tokens for number, part in got if number == 2}
    assert last in ({5}, {3, 2})
    assert list(drawn(parts, 0, seed=0)) == []


def test_a_source_of_weight_0_is_left_out(corpus, site):
    weights = [{"source": "poems", "weight": 0}, {"weight": 1}]
    found = mixed(corpus, site, weights=weights)
    assert {row["source"] for row in rows_of(found)} == {"prose"}
    assert found.mixture["poems any/epochs"] == 0


def test_what_is_read_too_often_and_what_cannot_be_reached_are_warnings(corpus, site):
    often = mixed(corpus, site, num_tokens=200_000)
    assert [line for line in often.warnings if "poems any is read" in line]
    assert mixed(corpus, site, num_tokens=200_000, max_epochs=99.0).warnings == corpus.warnings
    few = mixed(corpus, site, num_tokens=450)
    assert [line for line in few.warnings if "of the training tokens" in line]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weights": [{"source": "prose", "weight": 1}]}, "source poems in zh fit no weight"),
        ({"weights": [{"source": "books", "weight": 1}, {"weight": 1}]}, "no training document fits the weight of 'books any'"),
        ({"num_tokens": 10}, r"no document of source \w+ is as short as the \d tokens"),
    ],
)
def test_what_cannot_be_mixed_is_said(corpus, site, settings, message):
    with pytest.raises(ContractError, match=message):
        mixed(corpus, site, **settings)


@pytest.mark.parametrize("weights", [[{"weight": 1}, {"weight": 2}], [{"weight": 0}]])
def test_weights_that_say_nothing_are_refused(weights):
    with pytest.raises(ValidationError):
        MixSpec.model_validate({"method": {"kind": "weights", "weights": weights}})


def test_the_same_again_elsewhere_and_other_for_another_seed(corpus, site, tmp_path):
    first = mixed(corpus, site)
    assert mixed(corpus, Site(state_dir=tmp_path / "other")).digest == first.digest
    other = mixed(corpus, site, seed=1)
    assert other.digest != first.digest
    assert other.mixture["prose en/share"] == pytest.approx(first.mixture["prose en/share"], abs=0.005)


def test_a_written_shard_is_not_written_again(corpus, site, monkeypatch):
    from tasks.tokenization import mixing

    real, written = mixing.write_shard, []

    def write(path, *rest):
        if len(written) == 2 and len(set(written)) == 2:
            written.append("stopped")
            raise OSError("the power went")
        written.append(path.name)
        return real(path, *rest)

    monkeypatch.setattr(mixing, "_SHARD_TOKENS", 4_000)
    monkeypatch.setattr(mixing, "write_shard", write)
    with pytest.raises(OSError, match="power"):
        mixed(corpus, site)
    found = mixed(corpus, site)
    assert Counter(written)["train-00000.tokens"] == Counter(written)["train-00001.tokens"] == 1
    assert len(stream(found)) == found.tokens_by_split["train"]


def test_diversity_by_hand():
    tokens = np.array([1, 2, 1, 2, 3], dtype=np.uint16)
    assert diversity(tokens) == {"distinct_1": 0.6, "distinct_2": 0.75, "distinct_3": 1.0}
    assert growth(tokens) == [(1, 1), (2, 2), (3, 2), (4, 2), (5, 3)]
    assert source_entropy({"a": 2, "b": 2, "c": 0}) == 1.0
    assert source_entropy({"a": 7}) == 0.0


def test_variety_is_compared_before_and_after(corpus, site):
    found = mixed(corpus, site).diversity
    figures = ("distinct_1", "distinct_2", "distinct_3", "source_entropy_bits")
    assert found.keys() == {f"{when}/{what}" for when in ("before", "mixed") for what in figures}
    assert found["before/source_entropy_bits"] != found["mixed/source_entropy_bits"]
