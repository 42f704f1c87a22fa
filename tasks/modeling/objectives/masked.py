"""The masked objective: tell the tokens behind masks from both sides (Devlin et al., arXiv:1810.04805).

In: text. Out: rows of `[CLS] text [SEP]` with some tokens hidden. Invariants: targets stand on chosen tokens only, whatever
became of their inputs; a special token is never chosen; each pass hides other tokens.
"""

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from tasks.modeling.objectives.base import Objective
from tasks.modeling.specs import Family

if TYPE_CHECKING:
    from tasks.modeling.batches import Ids, Rows
    from tasks.modeling.text import Piece, TokenText

_EDGES = 2  # [CLS] and [SEP]
Mask = NDArray[np.bool_]


class Masking(Objective):
    """Which tokens are hidden, and how; the base of the objectives that do so."""

    share: Annotated[float, Field(gt=0, lt=1, description="Share of the tokens that are predicted.")] = 0.15
    mask_share: Annotated[float, Field(ge=0, le=1, description="Share of those that become the mask token.")] = 0.8
    random_share: Annotated[
        float, Field(ge=0, le=1, description="Share of those that become any token of text; the rest stays as it is.")
    ] = 0.1
    whole_words: Annotated[
        bool, Field(description="Hide words as a whole: by jieba in Chinese, by white space in other languages.")
    ] = False

    families: ClassVar[tuple[Family, ...]] = ("bert", "modernbert")
    auto_class: ClassVar[str] = "AutoModelForMaskedLM"
    last_stage: ClassVar[str | None] = "pretrain"

    @model_validator(mode="after")
    def _shares(self) -> Self:
        if self.mask_share + self.random_share > 1:
            raise ValueError(f"mask_share {self.mask_share} and random_share {self.random_share} are more than 1 together")
        return self

    def special_tokens(self) -> dict[str, str]:
        """Returns BERT's three."""
        return {"mask": "[MASK]", "cls": "[CLS]", "sep": "[SEP]"}

    def hide(self, text: "TokenText", ids: "Ids", lang: str, random: "np.random.Generator") -> "tuple[Ids, Ids]":
        """Returns the ids with some of them hidden, and the targets: the ids that were chosen, IGNORED elsewhere."""
        from tasks.modeling.batches import IGNORED
        from tasks.modeling.boundaries import word_starts

        is_text = text.is_text[ids]
        starts = word_starts([text.token_bytes[id] for id in ids], lang) if self.whole_words else None
        is_chosen = choose(is_text, starts, self.share, random)
        fate = random.random(len(ids))
        hidden = np.where(is_chosen & (fate < self.mask_share), text.roles["mask"], ids)
        is_random = is_chosen & (fate >= self.mask_share) & (fate < self.mask_share + self.random_share)
        hidden = np.where(is_random, text.text_ids[random.integers(len(text.text_ids), size=len(ids))], hidden)
        return hidden, np.where(is_chosen, ids, IGNORED)


class MaskedSpec(Masking):
    """Masked language modelling."""

    kind: Literal["masked"]

    def rows(self, text: "TokenText") -> "Rows":
        """Returns pieces of documents side by side, masked anew on each pass."""
        from tasks.modeling.batches import IGNORED
        from tasks.modeling.pieces import Part, PieceRows

        cls, sep = text.roles["cls"], text.roles["sep"]

        def make(piece: "Piece", random: np.random.Generator) -> Part:
            hidden, targets = self.hide(text, text.ids(piece), piece.lang, random)
            return Part(np.concatenate(([cls], hidden, [sep])), np.concatenate(([IGNORED], targets, [IGNORED])))

        pieces = text.pieces(text.context_tokens - _EDGES)
        lengths = [piece.num_tokens + _EDGES for piece in pieces]
        notes = {"pieces": len(pieces), "documents": len(text.documents)}
        return PieceRows(pieces, lengths, make, row_tokens=text.context_tokens, pad=text.special.pad, seed=text.seed, notes=notes)


def choose(is_text: Mask, starts: "Ids | None", share: float, random: "np.random.Generator") -> Mask:
    """Returns which tokens are predicted: `share` of those that are text, at least one, in whole groups.

    Groups are taken in random order while they do not exceed the number that was asked for, as in BERT's own code; the first
    one is taken in any case.

    Args:
        starts: Numbers of the tokens that begin a group; none: each token is one.
    """
    num_wanted = max(1, round(share * np.count_nonzero(is_text)))
    if starts is None:
        is_chosen = np.zeros(len(is_text), bool)
        is_chosen[random.permutation(np.flatnonzero(is_text))[:num_wanted]] = True
        return is_chosen
    groups = np.searchsorted(starts, np.arange(len(is_text)), side="right") - 1
    sizes = np.bincount(groups, weights=is_text, minlength=len(starts)).astype(int)
    is_chosen = np.zeros(len(starts), bool)
    is_chosen[_fitting(random.permutation(np.flatnonzero(sizes)), sizes, num_wanted)] = True
    return is_chosen[groups] & is_text


def _fitting(order: "Ids", sizes: "Ids", num_wanted: int) -> list[int]:
    chosen, num_chosen = [], 0
    for group in order.tolist():
        if num_chosen == 0 or num_chosen + sizes[group] <= num_wanted:
            chosen.append(group)
            num_chosen += int(sizes[group])
        if num_chosen >= num_wanted:
            break
    return chosen
