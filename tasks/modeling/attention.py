# ruff: noqa: TID253  (runs in training and scoring children only; holds no Spec)
"""Attention of packed rows: who may look at whom, and the products.

In: segments of a batch, or queries, keys and values of a layer. Out: masks, and what the layer's attention mixes. Invariant:
positions of different segments never see each other.

Shapes: B rows, T positions, S positions of the source, H heads, D head width, L positions of a document.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

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
    model.set_attn_implementation(PACKED_ATTENTION)
    return model


def _packed_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor,
    scaling: float,
    position_bias: Tensor | None = None,
    documents: Documents | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention within each document where these are known, else by a mask, with which products beat the fused kernel on CPUs."""
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = (states.repeat_interleave(groups, dim=1) for states in (key, value))
    has_prefix = key.shape[2] > query.shape[2]  # virtual tokens, which all documents see
    if documents is not None and not has_prefix and not torch.compiler.is_compiling():
        return torch.cat(list(_within(documents, query, key, value, scaling=scaling))).view(*query.transpose(1, 2).shape), None
    if position_bias is not None:
        attention_mask = attention_mask + position_bias
    if query.is_cuda:
        mixed_BHTD = F.scaled_dot_product_attention(query, key, value, attn_mask=attention_mask.to(query.dtype), scale=scaling)
    else:
        scores_BHTT = torch.matmul(query * scaling, key.transpose(2, 3)) + attention_mask
        mixed_BHTD = torch.matmul(torch.softmax(scores_BHTT, dim=-1), value)
    return mixed_BHTD.transpose(1, 2).contiguous(), None


def _within(documents: Documents, *states_BHTD: Tensor, scaling: float) -> Iterator[Tensor]:
    """Yields what causal attention mixes in each document (L, H, D): of a row's square only the documents' own are computed."""
    parts = [torch.split_with_sizes(states.transpose(1, 2).flatten(0, 1), documents.lengths) for states in states_BHTD]
    for one in zip(*parts, strict=True):
        yield _causal(scaling, *(part_LHD.transpose(0, 1) for part_LHD in one)).transpose(0, 1)


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
