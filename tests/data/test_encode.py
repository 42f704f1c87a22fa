"""Encode: every document once, in its order, ended; shards bound to the tokenizer; honest warnings."""

import numpy as np
import pyarrow as pa
import pytest

from tasks.core.errors import ContractError
from tasks.core.shards import open_shard, shard_paths
from tasks.core.site import Site
from tasks.core.tables import read_rows
from tasks.tokenization import EncodeSpec, TokenizerSpec, encode, make_tokenizer
from tasks.tokenization.training import load_plain
from tasks.tokenization.warnings import interval_bits, share_gap
from tests.data.kit import chinese, clean_of, documents, english, no_base

SPLITS = ("train", "validation", "test")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    site = Site(state_dir=folder / "state", data_workers=1)
    texts = [(english if number % 2 else chinese)(number) + " <|endoftext|> is text" for number in range(80)]
    rows = [{"id": f"d{number:03d}", "text": text} for number, text in enumerate(texts)]
    corpus = clean_of(site, folder, rows, validation_share=0.1, test_share=0.1)
    spec = TokenizerSpec.model_validate({"source": {"kind": "train", "vocab_size": 600}})
    return corpus, make_tokenizer.build(spec, corpus, no_base(site), site=site), site


def shards(found, split):
    return [open_shard(path, found.tokenizer_digest) for path in shard_paths(found.path, split)]


def test_every_document_is_there_once_and_ended(made):
    corpus, tokenizer, site = made
    found = encode.build(EncodeSpec(), corpus, tokenizer, site=site)
    model = load_plain(tokenizer.path)
    texts = {row["id"]: row for row in documents(corpus)}
    for split in SPLITS:
        tokens = np.concatenate(shards(found, split))
        table = list(read_rows(found.path / f"documents-{split}.parquet"))
        assert sorted(row["id"] for row in table) == sorted(id for id, row in texts.items() if row["split"] == split)
        start = 0
        for row in table:
            ids = tokens[start : start + row["num_tokens"]].tolist()
            assert ids[-1] == 0
            assert 0 not in ids[:-1], "a special token was made from text"
            assert model.decode(ids[:-1], skip_special_tokens=False) == texts[row["id"]]["text"]
            assert row["num_bytes"] == len(texts[row["id"]]["text"].encode())
            start += row["num_tokens"]
        assert start == len(tokens) == found.tokens_by_split[split]
        assert found.bytes_by_split[split] == sum(row["num_bytes"] for row in table)
    assert found.tokens_by_language.keys() == {"zh", "en"}
    assert sum(found.tokens_by_language.values()) == sum(found.tokens_by_split.values())
    assert tokens.dtype == np.uint16


def test_the_order_is_shuffled_by_the_seed_and_the_ids_alone(made):
    corpus, tokenizer, site = made

    def order(**settings):
        found = encode.build(EncodeSpec.model_validate(settings), corpus, tokenizer, site=site)
        return [row["id"] for row in read_rows(found.path / "documents-train.parquet")]

    assert order(seed=0) != sorted(order(seed=0))
    assert order(seed=0) != order(seed=1)
    assert sorted(order(seed=0)) == sorted(order(seed=1))


def test_small_shards_hold_whole_documents_and_add_up(made):
    corpus, tokenizer, site = made
    one = encode.build(EncodeSpec(), corpus, tokenizer, site=site)
    many = encode.build(EncodeSpec(shard_tokens=1_000), corpus, tokenizer, site=site)
    assert len(shards(many, "train")) > 3
    assert np.concatenate(shards(many, "train")).tolist() == np.concatenate(shards(one, "train")).tolist()
    assert all(shard[-1] == 0 for shard in shards(many, "train"))


def test_the_output_does_not_depend_on_workers(made, tmp_path):
    corpus, tokenizer, site = made
    one = encode.build(EncodeSpec(), corpus, tokenizer, site=site)
    two = encode.build(EncodeSpec(), corpus, tokenizer, site=Site(state_dir=tmp_path, data_workers=2))
    assert one.digest == two.digest
    assert one.uri != two.uri


def test_an_interrupted_run_does_only_what_is_left(made, tmp_path, monkeypatch):
    from tasks.tokenization import encoding

    corpus, tokenizer, site = made
    mine = Site(state_dir=tmp_path, data_workers=1)
    write_split, calls = encoding._write_split, []

    def failing(*arguments):
        if calls:
            raise KeyboardInterrupt
        calls.append(arguments)
        write_split(*arguments)

    monkeypatch.setattr(encoding, "_write_split", failing)
    with pytest.raises(KeyboardInterrupt):
        encode.build(EncodeSpec(), corpus, tokenizer, site=mine)
    monkeypatch.setattr(encoding, "_write_split", write_split)
    monkeypatch.setattr(encoding, "encode_piece", lambda piece: pytest.fail("encoded again"))
    assert (
        encode.build(EncodeSpec(), corpus, tokenizer, site=mine).digest
        == encode.build(EncodeSpec(), corpus, tokenizer, site=site).digest
    )


def test_pieces_of_another_size_that_an_attempt_left_are_not_taken_for_these(made, tmp_path, monkeypatch):
    from tasks.core import tables
    from tasks.tokenization import encoding

    monkeypatch.setattr(tables, "_GROUP_ROWS", 10)
    site = Site(state_dir=tmp_path / "state", data_workers=1)
    rows = [{"id": f"d{number:03d}", "text": english(number)} for number in range(50)]
    corpus, tokenizer = clean_of(site, tmp_path, rows, validation_share=0.1, test_share=0.1), made[1]
    whole = encode.build(EncodeSpec(), corpus, tokenizer, site=Site(state_dir=tmp_path / "whole", data_workers=1))

    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(encoding, "_PIECE_BYTES", dict.fromkeys(encoding._PIECE_BYTES, 1))
    with monkeypatch.context() as patched:
        patched.setattr(encoding, "_read_documents", stopped)
        with pytest.raises(KeyboardInterrupt):
            encode.build(EncodeSpec(), corpus, tokenizer, site=site)
    monkeypatch.setattr(encoding, "_PIECE_BYTES", dict.fromkeys(encoding._PIECE_BYTES, 20_000_000))
    assert encode.build(EncodeSpec(), corpus, tokenizer, site=site).digest == whole.digest


def test_the_shards_refuse_another_tokenizer(made):
    corpus, tokenizer, site = made
    found = encode.build(EncodeSpec(), corpus, tokenizer, site=site)
    with pytest.raises(ContractError, match="made with tokenizer"):
        open_shard(shard_paths(found.path, "train")[0], "0" * 64)


def test_a_flipped_byte_in_a_shard_is_found(made, tmp_path):
    from tasks.core.store import Store

    corpus, tokenizer, _ = made
    mine = Site(state_dir=tmp_path, data_workers=1)
    found = encode.build(EncodeSpec(), corpus, tokenizer, site=mine)
    path = shard_paths(found.path, "train")[0]
    data = bytearray(path.read_bytes())
    data[500] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(ContractError, match=r"train-00000.tokens is damaged"):
        Store(mine.store_dir).verify(found)


def table(*rows):
    """Documents in the order of their tokens, from (split, lang, num_tokens, num_bytes)."""
    names = ("split", "lang", "num_tokens", "num_bytes")
    columns = {name: [row[place] for row in rows] for place, name in enumerate(names)}
    return pa.table(columns | {"piece": [0] * len(rows)})


def test_the_gap_of_shares_by_hand():
    train = [("train", "zh", 50, 1), ("train", "en", 50, 1)]
    assert share_gap(table(*train, ("validation", "zh", 3, 1), ("validation", "en", 1, 1)), "lang") == pytest.approx(0.25)
    assert share_gap(table(*train, ("validation", "fr", 1, 1)), "lang") == pytest.approx(1)
    assert share_gap(table(*train, ("validation", "zh", 7, 1), ("validation", "en", 7, 1)), "lang") == 0


def test_the_interval_by_hand():
    """Tokens 0 and 1 are equally frequent in training, so a token costs one bit and a bit more for the one never seen."""
    tokens = np.array([0, 1] * 500 + [0, 0, 0, 0] + [1, 1], np.uint16)
    train, first = ("train", "zh", 1_000, 1_000), ("validation", "zh", 4, 4)
    assert interval_bits(table(train, first, ("validation", "zh", 2, 2)), [tokens]) == pytest.approx(0, abs=1e-9)
    # bits 4 and 2 of 4 bytes each: ratio 0.75, residuals 1 and -1, deviation sqrt(2)
    other = table(train, first, ("validation", "zh", 2, 4))
    assert interval_bits(other, [tokens]) == pytest.approx(1.96 * 2**0.5 * 2**0.5 / 8, rel=1e-3)
    assert interval_bits(table(train, first), [tokens]) is None


def test_the_interval_does_not_depend_on_how_documents_lie_in_pieces():
    rows = [("train", "zh", 5, 9), ("validation", "zh", 3, 4), ("train", "zh", 2, 2), ("validation", "zh", 4, 9)]
    tokens = np.array([0, 1, 0, 2, 0, 1, 1, 2, 0, 0, 1, 2, 3, 0], np.uint16)
    one = interval_bits(table(*rows), [tokens])
    pieces = table(*rows).set_column(4, "piece", [[0, 0, 1, 1]])
    assert interval_bits(pieces, [tokens[:8], tokens[8:]]) == pytest.approx(one)


def test_warnings_say_what_to_do(made, tmp_path):
    corpus, tokenizer, site = made
    strict = encode.build(EncodeSpec(max_interval_bits=1e-6, max_share_gap=1e-6), corpus, tokenizer, site=site)
    assert [warning.split(":")[0] for warning in strict.warnings] == [
        "validation has other langs than training",
        f"validation is small ({strict.documents_by_split['validation']} documents)",
    ]
    assert all("raise dedup.validation_share" in warning for warning in strict.warnings)
    assert encode.build(EncodeSpec(max_interval_bits=9, max_share_gap=1), corpus, tokenizer, site=site).warnings == ()
