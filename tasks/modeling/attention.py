# ruff: noqa: TID253  (runs in training and scoring children only; holds no Spec)
"""Attention of packed rows: who may look at whom, and the products.

In: segments of a batch, or queries, keys and values of a layer. Out: masks, and what the layer's attention mixes. Invariant:
positions of different segments never see each other.

Shapes: B rows, T positions, S positions of the source, H heads, D head width, L positions of a document.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from tasks.modeling.block_attention import block_attention
from tasks.modeling.precision import product_dtype

PACKED_ATTENTION = "textmill_packed"
_SHORT = 1024  # positions of documents that lie in blocks: what those keep for gradients grows with it


_takes_blocks = ContextVar("takes_blocks", default=True)


@contextmanager
def without_blocks() -> Iterator[None]:
    """Takes each document alone: no product is masked away, and their number is the model's."""
    token = _takes_blocks.set(False)
    try:
        yield
    finally:
        _takes_blocks.reset(token)


@dataclass(frozen=True, slots=True)
class Documents:
    """Lengths of the documents of a batch, row after row; an object, for a compiled layer is made anew for other numbers."""

    lengths: tuple[int, ...]

    @classmethod
    def of(cls, segments_BT: Tensor) -> "Documents | None":
        """Returns the runs of equal segments; none of a batch on a device, which would have to be waited for."""
        if segments_BT.device.type != "cpu":
            return None
        of_row_B1 = torch.arange(len(segments_BT))[:, None] * (segments_BT.max() + 1)
        _, lengths = torch.unique_consecutive(segments_BT + of_row_B1, return_counts=True)
        return cls(tuple(lengths.tolist()))

    def stretches(self) -> list[tuple[int, ...]]:
        """Returns the lengths of neighbouring short documents together, and those of long ones alone."""
        runs = groupby(enumerate(self.lengths), key=lambda one: -1 if one[1] <= _SHORT else one[0])
        return [tuple(length for _, length in run) for _, run in runs]


def with_packed_attention(model: Any) -> Any:
    """Returns the model with our attention for packed rows."""
    from transformers import AttentionInterface

    AttentionInterface.register(PACKED_ATTENTION, _packed_attention)
    if model.config._attn_implementation != PACKED_ATTENTION:
        model.own_attention = model.config._attn_implementation
    model.set_attn_implementation(PACKED_ATTENTION)
    return model


@contextmanager
def own_attention(model: Any) -> Iterator[None]:
    """Gives the model the attention it was loaded with: for texts alone, and for generation."""
    before = model.config._attn_implementation
    model.set_attn_implementation(getattr(model, "own_attention", before))
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def _packed_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor,
    scaling: float,
    position_bias: Tensor | None = None,
    documents: Documents | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention within each document where these are known, else by a mask, with which products beat the fused kernel on CPUs.

    Args:
        sliding_window: Positions a layer looks back over, its own included; none: all.
        softcap: Scores are softcap * tanh(scores / softcap) (Gemma 2, arXiv:2408.00118, section 2).
        s_aux: Score (H,) of a place that all may look at and nothing is mixed from (gpt-oss, arXiv:2508.10925, section 2.1).
        dropout: Share of the looks left out; `transformers` says 0 outside of training.
    """
    has_prefix = key.shape[2] > query.shape[2]  # virtual tokens, which all documents see
    look = _Look(scaling, sliding_window, softcap, s_aux, dropout)
    if documents is not None and not has_prefix and not torch.compiler.is_compiling():
        return _within(documents, look, query, key, value).view(*query.transpose(1, 2).shape), None
    key, value = _shared(query.shape[1] // key.shape[1], key, value)
    if sliding_window is not None and getattr(module, "is_causal", True):  # an encoder's mask holds its window
        is_beyond_TS = _is_beyond(query.shape[2], key.shape[2], sliding_window, query.device)
        attention_mask = attention_mask.masked_fill(is_beyond_TS, -torch.inf)
    if position_bias is not None:
        attention_mask = attention_mask + position_bias
    if query.is_cuda and look.fits_kernel:
        mask = attention_mask.to(query.dtype)
        mixed_BHTD = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout, scale=scaling)
    else:
        mixed_BHTD = torch.matmul(look.shares(look.scores(query, key) + attention_mask), value)
    return mixed_BHTD.transpose(1, 2).contiguous(), None


class _Look(NamedTuple):
    """How a layer looks back; fields as the arguments of `_packed_attention`."""

    scaling: float
    sliding_window: int | None
    softcap: float | None
    sinks_H: Tensor | None
    dropout: float

    @property
    def fits_kernel(self) -> bool:
        """Whether torch's fused kernel can do it, given a mask."""
        return self.softcap is None and self.sinks_H is None

    @property
    def is_plain(self) -> bool:
        """Whether it is no more than a softmax of scores; CPUs have no kernel that leaves out."""
        return self.fits_kernel and not self.dropout

    def scores(self, query: Tensor, key: Tensor) -> Tensor:
        """Returns the scores (..., T, T) of queries and keys (..., T, D)."""
        scores = torch.matmul(query * self.scaling, key.transpose(-2, -1))
        return scores if self.softcap is None else self.softcap * torch.tanh(scores / self.softcap)

    def shares(self, scores: Tensor) -> Tensor:
        """Returns how much of each value is mixed, of masked scores (..., H, T, T)."""
        if self.sinks_H is None:
            shares = torch.softmax(scores, dim=-1)
        else:
            sinks = self.sinks_H.view(-1, 1, 1).expand(*scores.shape[:-1], 1)
            shares = torch.softmax(torch.cat([scores, sinks], dim=-1), dim=-1)[..., :-1]
        return F.dropout(shares, self.dropout) if self.dropout else shares


def _shared(num_groups: int, *states: Tensor) -> list[Tensor]:
    """Returns keys and values, their heads in the second dimension, once for each head of queries that shares them."""
    return [one.repeat_interleave(num_groups, dim=1) if num_groups > 1 else one for one in states]


def _within(documents: Documents, look: _Look, *states_BHTD: Tensor) -> Tensor:
    """Returns what causal attention mixes within documents (N, H, D): short ones together, where products pay, others alone."""
    device, states_NHD = states_BHTD[0].device, [states.transpose(1, 2).flatten(0, 1) for states in states_BHTD]
    takes_blocks = look.is_plain and product_dtype(device) == torch.bfloat16 and _takes_blocks.get()
    stretches = documents.stretches() if takes_blocks else [(length,) for length in documents.lengths]
    sizes = [sum(lengths) for lengths in stretches]
    parts = zip(*(torch.split_with_sizes(states, sizes) for states in states_NHD), strict=True)
    mixed = []
    for lengths, (query_LHD, key_LKD, value_LKD) in zip(stretches, parts, strict=True):
        if takes_blocks and lengths[0] <= _SHORT:
            mixed.append(block_attention(query_LHD, key_LKD, value_LKD, look.scaling, lengths, look.sliding_window))
        else:
            mixed.append(_alone(look, query_LHD, key_LKD, value_LKD))
    return torch.cat(mixed)


def _alone(look: _Look, query_LHD: Tensor, key_LKD: Tensor, value_LKD: Tensor) -> Tensor:
    """Returns what one document mixes (L, H, D)."""
    shared = _shared(query_LHD.shape[1] // key_LKD.shape[1], key_LKD, value_LKD)
    states_HLD = [states.transpose(0, 1) for states in (query_LHD, *shared)]
    sees_all = look.sliding_window is None or len(query_LHD) <= look.sliding_window
    return (_causal(look.scaling, *states_HLD) if look.is_plain and sees_all else _near(look, *states_HLD)).transpose(0, 1)


def _near(look: _Look, query_HLD: Tensor, key_HLD: Tensor, value_HLD: Tensor) -> Tensor:
    """Causal attention of one document in all the ways that a layer may look back."""
    length = query_HLD.shape[1]
    is_hidden_LL = torch.ones(length, length, dtype=torch.bool, device=query_HLD.device).triu_(1)
    if look.sliding_window is not None:
        is_hidden_LL |= _is_beyond(length, length, look.sliding_window, query_HLD.device)
    scores_HLL = look.scores(query_HLD, key_HLD).masked_fill(is_hidden_LL, -torch.inf)
    return torch.matmul(look.shares(scores_HLL), value_HLD)


def _is_beyond(num_queries: int, num_keys: int, window: int, device: torch.device) -> Tensor:
    """Says (T, S) which keys lie further back than a window reaches; a document is a run, so places in the row will do."""
    return torch.ones(num_queries, num_keys, dtype=torch.bool, device=device).tril_(-window)


def _causal(scaling: float, *states_HLD: Tensor) -> Tensor:
    """Causal attention of one document by the fused kernel."""
    query, key, value = (states[None] for states in states_HLD)  # fused only with a dimension for rows
    return F.scaled_dot_product_attention(query, key, value, is_causal=True, scale=scaling)[0]


def packed_mask(segments_BT: Tensor, dtype: torch.dtype) -> Tensor:
    """Returns the additive mask (B, 1, T, T): 0 where a position may look, a large negative number elsewhere."""
    return _additive((segments_BT[:, :, None] == segments_BT[:, None, :]).tril(), dtype)


def both_ways_mask(from_BT: Tensor, to_BS: Tensor, dtype: torch.dtype, reach: int | None = None) -> Tensor:
    """Returns the additive mask (B, 1, T, S) of equal segments, no further apart than `reach` where that is given."""
    allowed_BTS = from_BT[:, :, None] == to_BS[:, None, :]
    if reach is not None:
        places = torch.arange(from_BT.shape[1], device=from_BT.device)
        allowed_BTS = allowed_BTS & ((places[:, None] - places[None]).abs() <= reach)
    return _additive(allowed_BTS, dtype)


def _additive(allowed_BTS: Tensor, dtype: torch.dtype) -> Tensor:
    mask = torch.zeros(allowed_BTS.shape, dtype=dtype, device=allowed_BTS.device)
    return mask.masked_fill_(~allowed_BTS, torch.finfo(dtype).min / 2)[:, None]
