"""Questions and answers of encoder-decoders: the encoder reads what came before, the decoder writes the answer.

In: conversations marked by `tasks.modeling.chat`, or the ids of a text. Out: pairs of ids, rows of them. Invariants: each answer
is a target once, together with the token that ends a text; a pair never sees another one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np

from tasks.modeling.batches import Ids
from tasks.modeling.chat import Marked, TooLong
from tasks.modeling.pieces import Part, PieceRows
from tasks.modeling.words import SpecialIds


@dataclass(frozen=True, slots=True)
class Answered:
    """What is read, and what is written about it."""

    question: tuple[int, ...]
    answer: tuple[int, ...]

    @property
    def targets(self) -> Ids:
        """What the decoder is to say."""
        return np.array(self.answer, dtype=np.int64)

    @property
    def num_tokens(self) -> int:
        """Tokens of the longer of both sides."""
        return max(len(self.question), len(self.answer))


def split_answers(marked: Marked, end_of_text: int) -> list[Answered]:
    """Returns each answer of a conversation with everything before it; a text ends where a decoder would end its turn."""
    found, start = [], 0
    for is_answer, tokens in groupby(marked.is_target):
        stop = start + len(list(tokens))
        if is_answer:
            found.append(Answered((*marked.ids[:start], end_of_text), (*marked.ids[start : stop - 1], end_of_text)))
        start = stop
    return found


def fit_answer(one: Answered, max_tokens: int, too_long: TooLong) -> Answered | None:
    """Returns the pair with `max_tokens` ids a side at most, or none if it is dropped: a question keeps its end, an answer its
    beginning."""
    if one.num_tokens <= max_tokens:
        return one
    return Answered(one.question[-max_tokens:], one.answer[:max_tokens]) if too_long == "truncate" else None


def text_windows(ids: Sequence[int], end_of_text: int, max_tokens: int, *, is_whole: bool = True) -> list[Answered]:
    """Cuts a text into windows that are each written about the one before; every token, and the end, is a target once.

    Of the beginning of a text no end is a target.
    """
    text = [*ids, end_of_text] if is_whole else ids
    parts = [tuple(text[start : start + max_tokens]) for start in range(0, len(text), max_tokens)]
    before = [(end_of_text,), *((*part[1 - max_tokens :], end_of_text) for part in parts[:-1])]
    return [Answered(question, answer) for question, answer in zip(before, parts, strict=False)]  # no part of no token


def _are_packed(config: Any) -> bool:
    """Whether pairs lie side by side: where positions are relative. Others have to begin at the first position, one a row."""
    return hasattr(config, "relative_attention_num_buckets")


def room(pairs: Sequence[Answered], config: Any, row_tokens: int) -> int:
    """Returns the positions of a row: those asked for, or, where a row holds one pair, those of the longest."""
    return row_tokens if _are_packed(config) else max(one.num_tokens for one in pairs)


def answered_rows(pairs: Sequence[Answered], config: Any, row_tokens: int, special: SpecialIds) -> PieceRows[Answered]:
    """Returns rows of pairs.

    Args:
        pairs: Of `row_tokens` a side at most, see `room`.
        config: The model's.
    """

    def make(one: Answered, _: np.random.Generator) -> Part:
        targets = one.targets
        start = config.decoder_start_token_id
        return Part(np.append([start], targets[:-1]), targets, source_ids=np.array(one.question, dtype=np.int64))

    return PieceRows(
        pairs,
        [one.num_tokens if _are_packed(config) else row_tokens for one in pairs],
        make,
        row_tokens=row_tokens,
        pad=special.pad,
        seed=0,
        target_lengths=[len(one.answer) for one in pairs],
    )
