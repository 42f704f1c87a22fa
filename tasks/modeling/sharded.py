# ruff: noqa: TID253  (runs in training children only; holds no Spec)
"""Tensors of many processes in one folder: each writes its shards, any number of processes reads them back.

In: tensors by name, sharded or whole. Out: one safetensors file a process, written and read by torch.distributed.checkpoint.
Invariant: nothing is pickled into a file: of DCP's two formats this is the one whose index lies in the safetensors headers.

A name is `<part>/<...>/<weight>`: what belongs to a weight is spread over the processes as the weight is, but for the number
of its steps, which each has whole.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

_FILES = "shard-*.safetensors"
_NUMBERS = "/step/"  # in their names; by its shape alone a number is no other than a weight of one number


def holds_shards(folder: Path) -> bool:
    """Says whether a checkpoint was written by many processes."""
    return any(folder.glob(_FILES))


def write(folder: Path, tensors: dict[str, Tensor]) -> None:
    """Writes the shards of this process; all processes take part. A number is kept as one row: the format has no others."""
    state = {name: tensor.detach() if tensor.ndim else tensor.detach().reshape(1) for name, tensor in tensors.items()}
    save(state, storage_writer=HuggingFaceStorageWriter(str(folder), save_distributed=True))


def read(folder: Path, part: str, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns the tensors of a part, without the part's name; each process reads what it holds and waits for none."""
    reader = HuggingFaceStorageReader(str(folder))
    found = reader.read_metadata().state_dict_metadata
    state = {
        name: _room(stored, weights.get(name.rpartition("/")[2]), is_spread=_NUMBERS not in name)
        for name, stored in found.items()
        if name.startswith(f"{part}/") and isinstance(stored, TensorStorageMetadata)
    }
    load(dict(state), storage_reader=reader, no_dist=True)
    return {name.removeprefix(f"{part}/"): value.reshape(()) if _NUMBERS in name else value for name, value in state.items()}


def _room(stored: TensorStorageMetadata, weight: Tensor | None, *, is_spread: bool) -> Tensor:
    """Returns an empty tensor for what is stored, spread as its weight is where that is asked."""
    dtype = stored.properties.dtype
    if is_spread and weight is not None and stored.size == weight.shape:
        return torch.empty_like(weight.detach(), dtype=dtype)
    return torch.empty(stored.size, dtype=dtype, device=None if weight is None else weight.device)
