"""Fill in the middle: causal models that also write what lies between two texts (Bavarian et al., arXiv:2207.14255).

In: text. Out: rows of documents, some cut in three and put in another order. Invariants: no token is lost or made; every token
is a target. Cuts are between tokens (the paper cuts between characters), drawn anew on each pass.
"""

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from tasks.modeling.objectives.base import Objective
from tasks.modeling.objectives.causal import CausalSpec
from tasks.modeling.objectives.span_corruption import shift

if TYPE_CHECKING:
    from tasks.modeling.batches import Ids, Rows
    from tasks.modeling.text import Piece, TokenText

_MARKS = 4  # prefix, suffix, middle, and the end of the text


class FillInTheMiddleSpec(Objective):
    """Next-token prediction; a part of the documents is written as prefix, suffix, middle."""

    kind: Literal["fill_in_the_middle"]
    rate: Annotated[float, Field(ge=0, le=1, description="Share of the documents that are cut in three.")] = 0.5
    spm_share: Annotated[
        float, Field(ge=0, le=1, description="Share of those that begin with the suffix (SPM), the rest with the prefix (PSM).")
    ] = 0.5

    counts_bytes: ClassVar[bool] = True

    def special_tokens(self) -> dict[str, str]:
        """Returns the three marks, as Qwen writes them."""
        return {f"fim_{part}": f"<|fim_{part}|>" for part in ("prefix", "suffix", "middle")}

    def rows(self, text: "TokenText") -> "Rows":
        """Returns pieces of documents side by side, cut anew on each pass."""
        from tasks.modeling.pieces import Part, PieceRows

        prefix, suffix, middle = (text.roles[f"fim_{part}"] for part in ("prefix", "suffix", "middle"))
        end, opening = text.special.end_of_text, text.special.opening

        def make(piece: "Piece", random: "np.random.Generator") -> Part:
            ids = text.ids(piece)
            is_cut = random.random() < self.rate
            targets = rearrange(ids, (prefix, suffix, middle), random.random() < self.spm_share, random) if is_cut else ids
            targets = np.append(targets, end) if is_cut or piece.ends_document else targets
            return Part(shift(targets, opening), targets)

        pieces = text.pieces(text.context_tokens - _MARKS)
        notes = {"pieces": len(pieces), "documents": len(text.documents)}
        lengths = [piece.num_tokens + _MARKS for piece in pieces]
        return PieceRows(pieces, lengths, make, row_tokens=text.context_tokens, pad=text.special.pad, seed=text.seed, notes=notes)

    def held_out_rows(self, text: "TokenText") -> "dict[str, Rows]":
        """Returns the text as it stands, to be compared with causal models, and documents cut in three."""
        return {"": CausalSpec(kind="causal").rows(text), "infilling_": self.model_copy(update={"rate": 1.0}).rows(text)}


def rearrange(ids: "Ids", marks: tuple[int, int, int], suffix_first: bool, random: "np.random.Generator") -> "Ids":
    """Returns the ids cut at two random places and joined behind the marks for prefix, suffix and middle.

    PSM: `<prefix> P <suffix> S <middle> M`. SPM: `<prefix> <suffix> S <middle> P M`, the variant the paper trains with.
    """
    first, second = sorted(random.integers(0, len(ids) + 1, size=2).tolist())
    prefix, middle, suffix = ids[:first], ids[first:second], ids[second:]
    prefix_mark, suffix_mark, middle_mark = marks
    if suffix_first:
        return np.concatenate(([prefix_mark, suffix_mark], suffix, [middle_mark], prefix, middle))
    return np.concatenate(([prefix_mark], prefix, [suffix_mark], suffix, [middle_mark], middle))
