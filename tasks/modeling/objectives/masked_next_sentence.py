"""Masked tokens and next sentences together, as BERT was trained (Devlin et al., arXiv:1810.04805).

In: text. Out: rows of `[CLS] A [SEP] B [SEP]`, masked; B follows A in its document, or comes from another one. Invariants: of
both kinds there is about one half; both are as long, so that length tells nothing.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from tasks.core.errors import ContractError
from tasks.modeling.objectives.base import Figures, text_figures
from tasks.modeling.objectives.masked import Masking
from tasks.modeling.specs import Family

if TYPE_CHECKING:
    import torch

    from tasks.modeling.batches import Batch, Ids, Rows
    from tasks.modeling.pieces import Part
    from tasks.modeling.text import Piece, TokenText

IS_NEXT, IS_OTHER = 0, 1  # the classes of transformers' next-sentence head
_EDGES = 3
_MOST_DRAWN = 16  # pieces that are looked at for one with room for a false B


@dataclass(frozen=True, slots=True)
class Passage:
    """Some sentences of one document; `starts` are the places of its tokens at which sentences begin, 0 first."""

    piece: "Piece"
    starts: "Ids"


class MaskedNextSentenceSpec(Masking):
    """Masked language modelling and next-sentence prediction, their mean losses added."""

    kind: Literal["masked_next_sentence"]

    families: ClassVar[tuple[Family, ...]] = ("bert",)
    parts: ClassVar[tuple[str, ...]] = ("masked", "next_sentence")
    auto_class: ClassVar[str] = "AutoModelForPreTraining"

    def rows(self, text: "TokenText") -> "Rows":
        """Returns pairs side by side, paired and masked anew on each pass.

        Raises:
            ContractError: There are no two documents to take a pair from.
        """
        from tasks.modeling.pieces import PieceRows

        every = [passage_of(text, piece) for piece in text.pieces(text.context_tokens - _EDGES)]
        passages = [passage for passage in every if len(passage.starts) > 1]
        if len({passage.piece.document for passage in every}) < 2 or not passages:
            raise ContractError(
                f"{len(text.documents)} documents, {len(passages)} pieces of more than one sentence: next sentences need two "
                "documents and a piece of two sentences; give more text, or set objective.kind to masked"
            )
        return PieceRows(
            passages,
            [passage.piece.num_tokens + _EDGES for passage in passages],
            lambda passage, random: self._pair(text, passage, every, random),
            row_tokens=text.context_tokens,
            pad=text.special.pad,
            seed=text.seed,
            notes={"pairs": len(passages), "pieces_of_one_sentence": len(every) - len(passages)},
        )

    def _pair(self, text: "TokenText", passage: Passage, every: list[Passage], random: "np.random.Generator") -> "Part":
        from tasks.modeling.batches import IGNORED
        from tasks.modeling.pieces import Part

        cls, sep = text.roles["cls"], text.roles["sep"]
        ids = text.ids(passage.piece)
        cut = int(passage.starts[random.integers(1, len(passage.starts))])
        other, start = _elsewhere(passage, every, len(ids) - cut, random)
        # Drawn, and cut by, for both kinds of pairs: where no piece has room for a false B, the true one is shortened alike.
        length = min(len(ids) - cut, other.piece.num_tokens - start)
        first, first_targets = self.hide(text, ids[:cut], passage.piece.lang, random)
        if random.random() < 0.5:
            second, label, lang = text.ids(other.piece)[start : start + length], IS_OTHER, other.piece.lang
        else:
            second, label, lang = ids[cut : cut + length], IS_NEXT, passage.piece.lang
        second, second_targets = self.hide(text, second, lang, random)
        labels = np.full(len(first) + len(second) + _EDGES, IGNORED)
        labels[0] = label
        return Part(
            ids=np.concatenate(([cls], first, [sep], second, [sep])),
            targets=np.concatenate(([IGNORED], first_targets, [IGNORED], second_targets, [IGNORED])),
            types=np.repeat([0, 1], [len(first) + 2, len(second) + 1]),
            labels=labels,
        )

    def loss(self, model: Any, batch: "Batch") -> "torch.Tensor":
        """Returns two sums (P,) whose means over the targets are the mean masked loss and the mean next-sentence loss.

        The loop divides by the number of targets, so each pair's loss is taken once for each of its targets: long pairs count
        more, as they do in the masked loss.
        """
        import torch
        import torch.nn.functional as F

        from tasks.modeling.model import hidden_states, losses_at_targets

        hidden_BTW = hidden_states(model, batch)
        masked = losses_at_targets(model, batch, hidden_BTW).sum()
        logits_P2, labels_P = _pairs(model, batch, hidden_BTW)
        pairs = F.cross_entropy(logits_P2, labels_P, reduction="none") * targets_of_pairs(batch)
        return torch.stack([masked, pairs.sum()])

    def figures(self, model: Any, batch: "Batch") -> Figures:
        """Returns the figures of both tasks, apart; those of the pairs are plain means over the pairs."""
        import torch.nn.functional as F

        from tasks.modeling.model import hidden_states

        hidden_BTW = hidden_states(model, batch)
        logits_P2, labels_P = _pairs(model, batch, hidden_BTW)
        nats = float(F.cross_entropy(logits_P2, labels_P, reduction="sum"))
        hits = int((logits_P2.argmax(-1) == labels_P).sum())
        return text_figures(model, batch, hidden_BTW) | {
            "next_sentence_loss": (nats, len(labels_P)),
            "next_sentence_accuracy": (hits, len(labels_P)),
        }


def passage_of(text: "TokenText", piece: "Piece") -> Passage:
    """Returns a piece with the places at which its sentences begin."""
    from tasks.modeling.boundaries import sentence_starts

    return Passage(piece, sentence_starts([text.token_bytes[id] for id in text.ids(piece)]))


def _elsewhere(passage: Passage, every: list[Passage], num_tokens: int, random: "np.random.Generator") -> tuple[Passage, int]:
    """Returns a piece of another document and a sentence's start in it that `num_tokens` follow.

    Where none of those drawn has so many: the longest of them, from its beginning.
    """
    drawn = []
    for _ in range(_MOST_DRAWN):
        other = _of_another_document(passage, every, random)
        starts = other.starts[other.starts + num_tokens <= other.piece.num_tokens]
        if len(starts):
            return other, int(starts[random.integers(len(starts))])
        drawn.append(other)
    return max(drawn, key=lambda one: one.piece.num_tokens), 0


def _of_another_document(passage: Passage, every: list[Passage], random: "np.random.Generator") -> Passage:
    while True:
        other = every[int(random.integers(len(every)))]
        if other.piece.document != passage.piece.document:
            return other


def _pairs(model: Any, batch: "Batch", hidden_BTW: "torch.Tensor") -> "tuple[torch.Tensor, torch.Tensor]":
    """Returns the logits (P, 2) and the classes (P,) of the P pairs of `batch`, read at their [CLS]."""
    from tasks.modeling.batches import IGNORED

    assert batch.labels_BT is not None, "rows of pairs have labels"
    is_pair_BT = batch.labels_BT != IGNORED
    pooled_PW = model.bert.pooler(hidden_BTW[is_pair_BT][:, None])
    return model.cls.seq_relationship(pooled_PW).float(), batch.labels_BT[is_pair_BT]


def targets_of_pairs(batch: "Batch") -> "torch.Tensor":
    """Returns how many masked targets each pair (P,) has."""
    import torch

    from tasks.modeling.batches import IGNORED

    assert batch.labels_BT is not None, "rows of pairs have labels"
    is_target_BT = (batch.targets_BT != IGNORED).float()
    sums_BT = torch.zeros_like(is_target_BT).scatter_add_(1, batch.segments_BT, is_target_BT)
    return sums_BT.gather(1, batch.segments_BT)[batch.labels_BT != IGNORED]
