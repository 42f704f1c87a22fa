"""Span corruption: write the spans that were cut out of a text (Raffel et al., arXiv:1910.10683).

In: text. Out: a source in which each span is one sentinel, and targets that name each sentinel and its span. Invariant:
source and targets together hold the text, once.
"""

import math
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from tasks.modeling.objectives.base import Objective
from tasks.modeling.specs import Family

if TYPE_CHECKING:
    from tasks.modeling.batches import Ids, Rows
    from tasks.modeling.text import Piece, TokenText

_MIN_TOKENS = 2  # one to cut out, one to keep


class SpanCorruptionSpec(Objective):
    """T5's objective: spans become sentinels, the decoder writes the spans."""

    kind: Literal["span_corruption"]
    noise_density: Annotated[float, Field(gt=0, lt=1, description="Share of the tokens that are cut out.")] = 0.15
    mean_span_tokens: Annotated[float, Field(ge=1, description="Mean length of a span, in tokens.")] = 3.0
    num_sentinels: Annotated[int, Field(ge=2, le=1000, description="Sentinel tokens of the tokenizer.")] = 100

    families: ClassVar[tuple[Family, ...]] = ("t5", "bart")
    auto_class: ClassVar[str] = "AutoModelForSeq2SeqLM"
    takes_head: ClassVar[bool] = False

    def special_tokens(self) -> dict[str, str]:
        """Returns T5's sentinels."""
        return {f"sentinel_{number}": f"<extra_id_{number}>" for number in range(self.num_sentinels)}

    def check_rows(self, context_tokens: int) -> None:
        """Says whether a full row needs more sentinels than there are.

        Raises:
            ValueError: It does.
        """
        num_needed = self.spans(self.piece_tokens(context_tokens))[1] + 1
        if num_needed > self.num_sentinels:
            raise ValueError(
                f"rows of {context_tokens} tokens need {num_needed} sentinels, but num_sentinels is {self.num_sentinels}: "
                f"set objective.num_sentinels to {num_needed} or more, or a smaller model.context_tokens"
            )

    def spans(self, num_tokens: int) -> tuple[int, int]:
        """Returns how many tokens of a text are cut out, and in how many spans."""
        num_noise = min(max(1, round(num_tokens * self.noise_density)), num_tokens - 1)
        num_spans = min(max(1, round(num_noise / self.mean_span_tokens)), num_tokens - num_noise)
        return num_noise, num_spans

    def lengths(self, num_tokens: int) -> tuple[int, int]:
        """Returns the tokens of source and targets of a text: both end with the end of text, the targets with a sentinel too."""
        num_noise, num_spans = self.spans(num_tokens)
        return num_tokens - num_noise + num_spans + 1, num_noise + num_spans + 2

    def piece_tokens(self, context_tokens: int) -> int:
        """Returns the longest text whose source and targets fit into `context_tokens` each."""
        longest = math.ceil(context_tokens / (1 - self.noise_density)) + 1
        return next(num for num in range(longest, 0, -1) if max(self.lengths(max(num, _MIN_TOKENS))) <= context_tokens)

    def rows(self, text: "TokenText") -> "Rows":
        """Returns pieces of documents side by side, cut anew on each pass."""
        from tasks.modeling.pieces import Part, PieceRows

        sentinels = [text.roles[f"sentinel_{number}"] for number in range(self.num_sentinels)]
        end = text.special.end_of_text

        def make(piece: "Piece", random: "np.random.Generator") -> Part:
            ids = text.ids(piece)
            source, targets, is_text = corrupt(ids, noise_spans(len(ids), *self.spans(len(ids)), random), sentinels, end)
            return Part(shift(targets, text.writing), targets, source_ids=source, removed=is_text)

        pieces = text.pieces(self.piece_tokens(text.context_tokens), _MIN_TOKENS)
        lengths = [self.lengths(piece.num_tokens) for piece in pieces]
        return PieceRows(
            pieces,
            [max(pair) for pair in lengths],
            make,
            row_tokens=text.context_tokens,
            pad=text.special.pad,
            seed=text.seed,
            target_lengths=[target for _, target in lengths],
            notes={"pieces": len(pieces), "documents": len(text.documents)},
        )


def noise_spans(num_tokens: int, num_noise: int, num_spans: int, random: "np.random.Generator") -> list[tuple[int, int]]:
    """Returns where the spans lie: kept and cut parts in turn, kept first, each cut at random into `num_spans` parts."""
    kept = random_parts(num_tokens - num_noise, num_spans, random)
    cut = random_parts(num_noise, num_spans, random)
    spans, place = [], 0
    for num_kept, num_cut in zip(kept, cut, strict=True):
        spans.append((place + num_kept, place + num_kept + num_cut))
        place += num_kept + num_cut
    return spans


def random_parts(num_items: int, num_parts: int, random: "np.random.Generator") -> list[int]:
    """Returns `num_parts` lengths of at least one that add up to `num_items`, every way as likely as any other."""
    cuts = sorted(random.choice(num_items - 1, num_parts - 1, replace=False) + 1) if num_parts > 1 else []
    return [stop - start for start, stop in zip([0, *cuts], [*cuts, num_items], strict=True)]


def corrupt(ids: "Ids", spans: list[tuple[int, int]], sentinels: list[int], end: int) -> "tuple[Ids, Ids, Ids]":
    """Returns source and targets, and which targets are text; `end` ends both.

    Targets: each sentinel and the tokens it stands for, then one more sentinel that ends the last span.
    """
    source: list[Ids | list[int]] = []
    targets: list[Ids | list[int]] = []
    is_text, place = [], 0
    for (start, stop), sentinel in zip(spans, sentinels, strict=False):
        source += [ids[place:start], [sentinel]]
        targets += [[sentinel], ids[start:stop]]
        is_text += [0] + [1] * (stop - start)
        place = stop
    source += [ids[place:], [end]]
    targets += [[sentinels[len(spans)], end]]
    return np.concatenate(source), np.concatenate(targets), np.array([*is_text, 0, 0], np.int64)


def shift(targets: "Ids", start: int) -> "Ids":
    """Returns what a decoder reads to write `targets`: a start token, then all targets but the last."""
    return np.concatenate(([start], targets[:-1]))
