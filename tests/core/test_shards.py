"""Token shards: round trip, and every kind of damage refused."""

import numpy as np
import pytest

from tasks.core.errors import ContractError
from tasks.core.shards import HEADER, open_shard, shard_name, shard_paths, token_dtype, write_shard

DIGEST = "ab" * 32


@pytest.mark.parametrize(("vocab_size", "dtype"), [(65_536, np.uint16), (65_537, np.uint32)])
def test_the_smallest_type_that_holds_all_ids(vocab_size, dtype):
    assert token_dtype(vocab_size) == dtype


@pytest.mark.parametrize("dtype", [np.uint16, np.uint32])
def test_tokens_come_back(tmp_path, dtype):
    path = tmp_path / shard_name("train", 0)
    parts = [np.array([0, 1, 65_535], dtype), np.array([], dtype), np.array([7], dtype)]
    assert write_shard(path, iter(parts), DIGEST) == 4
    tokens = open_shard(path, DIGEST)
    assert isinstance(tokens, np.memmap)
    assert tokens.dtype == dtype
    assert tokens.tolist() == [0, 1, 65_535, 7]
    assert path.stat().st_size == HEADER.size + 4 * dtype().itemsize


def test_an_empty_shard(tmp_path):
    write_shard(tmp_path / "a", np.array([], np.uint16), DIGEST)
    assert open_shard(tmp_path / "a", DIGEST).tolist() == []


def test_the_header_is_64_bytes():
    assert HEADER.size == 64


def test_paths_in_order(tmp_path):
    for number in (10, 2):
        write_shard(tmp_path / shard_name("train", number), np.array([number], np.uint16), DIGEST)
    write_shard(tmp_path / shard_name("test", 0), np.array([0], np.uint16), DIGEST)
    assert [path.name for path in shard_paths(tmp_path, "train")] == ["train-00002.tokens", "train-00010.tokens"]


def test_another_tokenizer_is_refused(tmp_path):
    write_shard(tmp_path / "a", np.array([1], np.uint16), DIGEST)
    with pytest.raises(ContractError, match=r"made with tokenizer abababababab, not cdcdcdcdcdcd"):
        open_shard(tmp_path / "a", "cd" * 32)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: b"X" + data[1:], "no token shard"),
        (lambda data: data[:30], "no token shard"),
        (lambda data: b"", "no token shard"),
        (lambda data: data[:8] + b"\x02" + data[9:], "shard version 2"),
        (lambda data: data[:-1], "its header says"),
        (lambda data: data + b"\0", "its header says"),
        (lambda data: data[:12] + b"\x03" + data[13:], "its header says"),
        (lambda data: data[:16] + b"\xff" + data[17:], "its header says"),
        (lambda data: data[:30] + bytes([data[30] ^ 1]) + data[31:], "made with tokenizer"),
    ],
)
def test_a_damaged_header_or_length_is_refused(tmp_path, damage, message):
    path = tmp_path / "a"
    write_shard(path, np.arange(5, dtype=np.uint16), DIGEST)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ContractError, match=message):
        open_shard(path, DIGEST)
