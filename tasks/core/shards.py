"""Token shards: a checked header, then token ids, read by mapping the file.

In: token ids. Out: `<split>-00000.tokens`. Layout (little endian, 64 bytes): magic `TMTOKENS`, version u32, bytes a token
u32, number of tokens u64, digest of the tokenizer 32 bytes, 8 bytes zero; then the ids. Invariant: a file that is cut, of
another version or made with another tokenizer is refused before a token of it is used.
"""

import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from tasks.core.errors import ContractError

MAGIC = b"TMTOKENS"
VERSION = 1
HEADER = struct.Struct("<8sIIQ32s8x")
SUFFIX = ".tokens"

Tokens = NDArray[np.unsignedinteger[Any]]


def token_dtype(vocab_size: int) -> DTypeLike:
    """Returns the smallest type that holds every id of a vocabulary."""
    return np.uint16 if vocab_size <= 1 << 16 else np.uint32


def shard_name(split: str, number: int) -> str:
    """Returns the file name of a shard."""
    return f"{split}-{number:05d}{SUFFIX}"


def shard_paths(folder: Path, split: str) -> list[Path]:
    """Returns the shards of a split in order."""
    return sorted(folder.glob(f"{split}-*{SUFFIX}"))


def write_shard(path: Path, tokens: Tokens | Iterable[Tokens], tokenizer_digest: str) -> int:
    """Writes a shard and returns its number of tokens; after a crash it is there whole or not at all.

    Args:
        path: File to write.
        tokens: Ids as one array or as pieces, all uint16 or all uint32.
        tokenizer_digest: Digest of the tokenizer artifact, 64 hexadecimal digits.
    """
    beside = path.with_name(f".{path.name}.part")
    num_tokens, dtype = 0, np.dtype(np.uint16)
    with beside.open("wb") as file:
        file.write(bytes(HEADER.size))
        for piece in [tokens] if isinstance(tokens, np.ndarray) else tokens:
            dtype = piece.dtype
            file.write(np.ascontiguousarray(piece).astype(dtype.newbyteorder("<"), copy=False).tobytes())
            num_tokens += len(piece)
        file.seek(0)
        file.write(HEADER.pack(MAGIC, VERSION, dtype.itemsize, num_tokens, bytes.fromhex(tokenizer_digest)))
    beside.replace(path)
    return num_tokens


def open_shard(path: Path, tokenizer_digest: str) -> Tokens:
    """Maps the tokens of a shard.

    Raises:
        ContractError: It is no shard, of another version, cut off, or made with another tokenizer.
    """
    with path.open("rb") as file:
        header = file.read(HEADER.size)
    if len(header) < HEADER.size or not header.startswith(MAGIC):
        raise ContractError(f"{path} is no token shard; remove its folder and run again")
    _, version, itemsize, num_tokens, digest = HEADER.unpack(header)
    if version != VERSION:
        raise ContractError(f"{path} has shard version {version}, this Textmill reads version {VERSION}; encode the corpus again")
    if digest.hex() != tokenizer_digest:
        raise ContractError(
            f"{path} was made with tokenizer {digest.hex()[:12]}, not {tokenizer_digest[:12]}; "
            "encode the corpus with the tokenizer of the model"
        )
    expected = HEADER.size + itemsize * num_tokens
    if itemsize not in (2, 4) or path.stat().st_size != expected:
        raise ContractError(
            f"{path} has {path.stat().st_size} bytes, its header says {expected}; remove its folder and run again"
        )
    dtype = np.dtype(f"<u{itemsize}")
    if not num_tokens:
        return np.zeros(0, dtype=dtype)
    return np.memmap(path, dtype=dtype, mode="r", offset=HEADER.size, shape=(num_tokens,))
