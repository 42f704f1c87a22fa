# ruff: noqa: TID253  (runs in training and scoring children only; holds no Spec)
"""Attention of packed rows: who may look at whom, and the products.

In: segments of a batch, or queries, keys and values of a layer. Out: masks, and what the layer's attention mixes. Invariant:
positions of different segments never see each other.

Shapes: B rows, T positions, S positions of the source, H heads, D head width, L positions of a document.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from tasks.modeling.precision import product_dtype

PACKED_ATTENTION = "textmill_packed"
# Positions of documents that products take less time for than the fused kernel. They keep the square of that for each head.
_SQUARES = range(128, 1025)


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
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention within each document where these are known, else by a mask, with which products beat the fused kernel on CPUs.

    Args:
        sliding_window: Positions a layer looks back over, its own included; none: all.
        softcap: Scores are softcap * tanh(scores / softcap) (Gemma 2, arXiv:2408.00118, section 2).
    """
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = (states.repeat_interleave(groups, dim=1) for states in (key, value))
    has_prefix = key.shape[2] > query.shape[2]  # virtual tokens, which all documents see
    if documents is not None and not has_prefix and not torch.compiler.is_compiling():
        look = _Look(scaling, sliding_window, softcap)
        return torch.cat(list(_within(documents, look, query, key, value))).view(*query.transpose(1, 2).shape), None
    if sliding_window is not None and getattr(module, "is_causal", True):  # an encoder's mask holds its window
        is_beyond_TS = _is_beyond(query.shape[2], key.shape[2], sliding_window, query.device)
        attention_mask = attention_mask.masked_fill(is_beyond_TS, -torch.inf)
    if position_bias is not None:
        attention_mask = attention_mask + position_bias
    if query.is_cuda and softcap is None:
        mixed_BHTD = F.scaled_dot_product_attention(query, key, value, attn_mask=attention_mask.to(query.dtype), scale=scaling)
    else:
        scores_BHTT = _capped(torch.matmul(query * scaling, key.transpose(2, 3)), softcap) + attention_mask
        mixed_BHTD = torch.matmul(torch.softmax(scores_BHTT, dim=-1), value)
    return mixed_BHTD.transpose(1, 2).contiguous(), None


class _Look(NamedTuple):
    """How a layer looks back; fields as the arguments of `_packed_attention`."""

    scaling: float
    sliding_window: int | None
    softcap: float | None


def _within(documents: Documents, look: _Look, *states_BHTD: Tensor) -> Iterator[Tensor]:
    """Yields what causal attention mixes in each document (L, H, D): of a row's square only the documents' own are computed."""
    parts = [torch.split_with_sizes(states.transpose(1, 2).flatten(0, 1), documents.lengths) for states in states_BHTD]
    for one in zip(*parts, strict=True):
        states_HLD = [part_LHD.transpose(0, 1) for part_LHD in one]
        is_plain = look.softcap is None and (look.sliding_window is None or len(one[0]) <= look.sliding_window)
        mixed_HLD = _causal(look.scaling, *states_HLD) if is_plain else _near(look, *states_HLD)
        yield mixed_HLD.transpose(0, 1)


def _near(look: _Look, query_HLD: Tensor, key_HLD: Tensor, value_HLD: Tensor) -> Tensor:
    """Causal attention of one document within a window, its scores capped where that is asked."""
    length = query_HLD.shape[1]
    is_hidden_LL = torch.ones(length, length, dtype=torch.bool, device=query_HLD.device).triu_(1)
    if look.sliding_window is not None:
        is_hidden_LL |= _is_beyond(length, length, look.sliding_window, query_HLD.device)
    scores_HLL = _capped(torch.matmul(query_HLD * look.scaling, key_HLD.transpose(1, 2)), look.softcap)
    return torch.matmul(torch.softmax(scores_HLL.masked_fill(is_hidden_LL, -torch.inf), dim=-1), value_HLD)


def _is_beyond(num_queries: int, num_keys: int, window: int, device: torch.device) -> Tensor:
    """Says (T, S) which keys lie further back than a window reaches; a document is a run, so places in the row will do."""
    return torch.ones(num_queries, num_keys, dtype=torch.bool, device=device).tril_(-window)


def _capped(scores: Tensor, softcap: float | None) -> Tensor:
    return scores if softcap is None else softcap * torch.tanh(scores / softcap)


def _causal(scaling: float, query_HLD: Tensor, key_HLD: Tensor, value_HLD: Tensor) -> Tensor:
    """Causal attention of one document; in bf16 by products, which take CPUs 0.6 to 0.8 of the fused kernel's time."""
    length = query_HLD.shape[1]
    if length not in _SQUARES or product_dtype(query_HLD.device) != torch.bfloat16:
        query, key, value = (states[None] for states in (query_HLD, key_HLD, value_HLD))  # fused only with a dimension for rows
        return F.scaled_dot_product_attention(query, key, value, is_causal=True, scale=scaling)[0]
    later_HLL = torch.full((length, length), -torch.inf, dtype=torch.bfloat16).triu_(1).expand(len(query_HLD), -1, -1)
    scores_HLL = torch.baddbmm(later_HLL, query_HLD, key_HLD.transpose(1, 2), alpha=scaling)
    return torch.matmul(torch.softmax(scores_HLL, dim=-1), value_HLD)


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
