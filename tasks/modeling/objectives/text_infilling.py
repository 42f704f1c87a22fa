"""Text infilling: write a whole text of which spans became single masks (Lewis et al., arXiv:1910.13461).

In: text. Out: a source with masks and the text itself as targets. Invariant: the targets are the text, whatever was hidden.
Span lengths are Poisson; a span of length 0 puts a mask between two tokens.
"""

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from tasks.modeling.objectives.base import Objective
from tasks.modeling.objectives.span_corruption import shift
from tasks.modeling.specs import Family

if TYPE_CHECKING:
    from tasks.modeling.batches import Ids, Rows
    from tasks.modeling.text import Piece, TokenText


class TextInfillingSpec(Objective):
    """BART's objective: spans become one mask each, the decoder writes the whole text."""

    kind: Literal["text_infilling"]
    noise_density: Annotated[float, Field(gt=0, lt=1, description="Share of the tokens that are hidden.")] = 0.3
    mean_span_tokens: Annotated[float, Field(ge=0.1, description="Mean of the Poisson distribution of span lengths.")] = 3.0

    families: ClassVar[tuple[Family, ...]] = ("bart", "t5")
    auto_class: ClassVar[str] = "AutoModelForSeq2SeqLM"
    takes_head: ClassVar[bool] = False

    def special_tokens(self) -> dict[str, str]:
        """Returns the mask."""
        return {"mask": "[MASK]"}

    def rows(self, text: "TokenText") -> "Rows":
        """Returns pieces of documents side by side, hidden anew on each pass."""
        from tasks.modeling.pieces import Part, PieceRows

        end, mask = text.special.end_of_text, text.roles["mask"]

        def make(piece: "Piece", random: np.random.Generator) -> Part:
            ids = text.ids(piece)
            lengths = span_lengths(len(ids), self.noise_density, self.mean_span_tokens, random)
            source, is_hidden = infill(ids, place_spans(len(ids), lengths, random), mask)
            targets = np.append(ids, end)
            source, removed = np.append(source, end), np.append(is_hidden, 0)
            return Part(shift(targets, text.writing), targets, source_ids=source, removed=removed)

        pieces = text.pieces(text.context_tokens - 1)
        notes = {"pieces": len(pieces), "documents": len(text.documents)}
        lengths = [piece.num_tokens + 1 for piece in pieces]
        return PieceRows(pieces, lengths, make, row_tokens=text.context_tokens, pad=text.special.pad, seed=text.seed, notes=notes)


def span_lengths(num_tokens: int, density: float, mean: float, random: "np.random.Generator") -> list[int]:
    """Returns Poisson lengths that hide `density` of the tokens, at least one; the last one is cut to that number.

    There are no more spans of length 0 than the others make the source shorter, so it never outgrows the text.
    """
    num_hidden, lengths = max(1, round(density * num_tokens)), []
    while num_hidden > 0:
        length = min(int(random.poisson(mean)), num_hidden)
        lengths.append(length)
        num_hidden -= length
    long = [length for length in lengths if length]
    return long + [0] * min(len(lengths) - len(long), sum(long) - len(long))


def place_spans(num_tokens: int, lengths: list[int], random: "np.random.Generator") -> list[tuple[int, int]]:
    """Returns where the spans lie, in order: no two overlap, every arrangement of spans and kept tokens is as likely."""
    num_kept = num_tokens - sum(lengths)
    order = random.permutation(np.array([*lengths, *[-1] * num_kept], np.int64))  # -1: one kept token
    spans, place = [], 0
    for length in order.tolist():
        if length >= 0:
            spans.append((place, place + length))
        place += abs(length)
    return spans


def infill(ids: "Ids", spans: list[tuple[int, int]], mask: int) -> "tuple[Ids, Ids]":
    """Returns the source, each span one mask, and which tokens of the text it lacks."""
    source, is_hidden, place = [], np.zeros(len(ids), np.int64), 0
    for start, stop in spans:
        source += [ids[place:start], [mask]]
        is_hidden[start:stop] = 1
        place = stop
    return np.concatenate([*source, ids[place:]]), is_hidden
