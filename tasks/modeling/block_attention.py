# ruff: noqa: TID253  (runs in training and scoring children only; holds no Spec)
"""Causal attention within short documents by a few large products in bf16, which CPUs are made for.

In: queries, keys and values of documents side by side, and the lengths of these. Out: what each position mixes. Invariants: a
position sees itself and what lies before it in its document; what is kept for gradients grows with the longest document, not
with the square of the whole.

Positions are cut into blocks, whatever documents they belong to. The queries of a block meet the keys from the beginning of its
first document on, and a mask keeps documents apart: a hundred documents take no more products than one.

Shapes: N positions, H heads, K heads of keys and values, G = H / K, D head width; C blocks of L queries and S keys each.
"""

from functools import lru_cache
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from tasks.modeling.batches import Ids

_BLOCK = 256  # queries; fewer waste less on the mask, more make larger products


class _Blocks(NamedTuple):
    """Blocks side by side that are taken at once, as places among the positions.

    Attributes:
        num_blocks: C.
        mask: 0 where a query may look, minus infinity elsewhere, in bf16: (C K, G L, S), or (1, G L, S) of one block.
    """

    num_blocks: int
    queries: slice
    keys: slice
    mask: Tensor


def block_attention(
    query_NHD: Tensor, key_NKD: Tensor, value_NKD: Tensor, scaling: float, lengths: tuple[int, ...], window: int | None
) -> Tensor:
    """Returns what each position mixes (N, H, D), in bf16.

    Args:
        scaling: Of the scores.
        lengths: Of the documents, N together.
        window: Positions that one looks back over, its own included; none: the whole document.
    """
    with torch.autocast("cpu", enabled=False):
        return _BlockAttention.apply(query_NHD, key_NKD, value_NKD, scaling, lengths, window)  # type: ignore[no-untyped-call, no-any-return]


class _BlockAttention(torch.autograd.Function):
    """softmax(s Q K^T + mask) V block by block, and its gradients; sums over blocks are taken in fp32."""

    @staticmethod
    def forward(
        ctx: Any,
        query_NHD: Tensor,
        key_NKD: Tensor,
        value_NKD: Tensor,
        scaling: float,
        lengths: tuple[int, ...],
        window: int | None,
    ) -> Tensor:
        ctx.scaling, ctx.inputs = scaling, [(states.shape, states.dtype) for states in (query_NHD, key_NKD, value_NKD)]
        ctx.num_groups = query_NHD.shape[1] // key_NKD.shape[1]
        ctx.blocks = _cut(lengths, window, key_NKD.shape[1], ctx.num_groups)
        mixed_NHD, kept = torch.empty_like(query_NHD, dtype=torch.bfloat16), []
        for block in ctx.blocks:
            query = _by_head(query_NHD[block.queries], block.num_blocks, ctx.num_groups)
            key, value = (_by_head(states[block.keys], block.num_blocks) for states in (key_NKD, value_NKD))
            scores = torch.baddbmm(block.mask.expand(len(key), -1, -1), query, key.mT, alpha=scaling)
            shares = torch.softmax(scores, dim=-1)
            mixed_NHD[block.queries] = _by_place(torch.bmm(shares, value), block.num_blocks, ctx.num_groups)
            kept += [query, key, value, shares]
        ctx.save_for_backward(*kept)
        return mixed_NHD

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_NHD: Tensor) -> tuple[Tensor | None, ...]:
        grad_query, grad_key, grad_value = (torch.zeros(shape) for shape, _ in ctx.inputs)
        saved = iter(ctx.saved_tensors)
        for block in ctx.blocks:
            query, key, value, shares = (next(saved) for _ in range(4))
            grad = _by_head(grad_NHD[block.queries], block.num_blocks, ctx.num_groups)
            grad_value[block.keys] += _by_place(torch.bmm(shares.mT, grad), block.num_blocks)
            grad_scores = torch.ops.aten._softmax_backward_data(torch.bmm(grad, value.mT), shares, -1, shares.dtype)
            grad_key[block.keys].add_(_by_place(torch.bmm(grad_scores.mT, query), block.num_blocks), alpha=ctx.scaling)
            grad_query[block.queries].add_(
                _by_place(torch.bmm(grad_scores, key), block.num_blocks, ctx.num_groups), alpha=ctx.scaling
            )
        grads = zip((grad_query, grad_key, grad_value), ctx.inputs, strict=True)
        return *(grad.to(dtype) for grad, (_, dtype) in grads), None, None, None


@lru_cache(maxsize=4)
def _cut(lengths: tuple[int, ...], window: int | None, num_heads: int, num_groups: int) -> list[_Blocks]:
    """Returns the blocks of documents of these lengths; all layers of a model ask for the same."""
    ends_D = np.cumsum(lengths)
    place_N = np.arange(int(ends_D[-1]))
    earliest_N: Ids = np.repeat(ends_D - lengths, lengths)
    if window is not None:
        earliest_N = np.maximum(earliest_N, place_N - window + 1)
    blocks = [(place_N[first : first + _BLOCK], int(earliest_N[first])) for first in range(0, len(place_N), _BLOCK)]
    found = []
    for _, same in groupby(enumerate(blocks), key=lambda one: _kind(*one)):
        some = [block for _, block in same]
        mask = _mask(earliest_N, some).repeat(1, num_groups, 1).repeat_interleave(num_heads if len(some) > 1 else 1, dim=0)
        (place_L, begin), stop = some[0], int(some[-1][0][-1]) + 1
        found.append(_Blocks(len(some), slice(int(place_L[0]), stop), slice(begin, stop), mask))
    return found


def _kind(number: int, block: tuple[Ids, int]) -> int:
    """Tells apart what is not taken at once: only whole blocks are that meet no keys but their own."""
    place_L, begin = block
    return -1 if len(place_L) == _BLOCK and place_L[0] == begin else number


def _mask(earliest_N: Ids, blocks: list[tuple[Ids, int]]) -> Tensor:
    """Returns the masks (C, L, S) of blocks of one shape."""
    hidden = []
    for place_L, begin in blocks:
        key_S = np.arange(begin, place_L[-1] + 1)
        hidden.append((key_S > place_L[:, None]) | (key_S < earliest_N[place_L, None]))
    hidden_CLS = torch.from_numpy(np.stack(hidden))
    return torch.zeros(hidden_CLS.shape, dtype=torch.bfloat16).masked_fill_(hidden_CLS, -torch.inf)


def _by_head(states: Tensor, count: int, num_groups: int = 1) -> Tensor:
    """Returns states by place (C L, H, D) as those of each head of keys in each block (C K, G L, D), in bf16."""
    num_places, num_heads, width = states.shape
    states_CKGLD = states.view(count, num_places // count, -1, num_groups, width).permute(0, 2, 3, 1, 4)
    return states_CKGLD.to(torch.bfloat16).reshape(count * num_heads // num_groups, -1, width)


def _by_place(states: Tensor, count: int, num_groups: int = 1) -> Tensor:
    """Takes back what `_by_head` did."""
    width = states.shape[-1]
    states_CLKGD = states.view(count, -1, num_groups, states.shape[1] // num_groups, width).permute(0, 3, 1, 2, 4)
    return states_CLKGD.reshape(-1, len(states) // count * num_groups, width)
