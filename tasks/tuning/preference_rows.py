# ruff: noqa: TID253  (runs in tuning children only; holds no Spec)
"""Pairs of answers as rows: one prompt with its better answer, the same with its worse one, side by side and blind to each other.

In: `preferences.jsonl`, a tokenizer. Out: `PairRows`; sums of log-probabilities by answer. Invariants: a row is a pair, and a
step's mean is one over pairs; of each text the last answer alone, with the token that ends it, is counted.

Shapes: B pairs, 2 answers (the better one first), T positions.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tasks.contracts import Split
from tasks.modeling.batches import IGNORED, Batch, Example, Ids, Row, joined, positions_within, segments_of
from tasks.modeling.chat import question_and_answer
from tasks.modeling.model import token_losses


@dataclass(frozen=True, slots=True)
class Pair:
    """A prompt with its better and with its worse answer."""

    chosen: Example
    rejected: Example

    @property
    def num_tokens(self) -> int:
        """Positions of both."""
        return len(self.chosen.ids) + len(self.rejected.ids)


def read_pairs(folder: Path, split: Split, tokenizer: Any, turn_end: int, max_tokens: int, notes: Counter[str]) -> list[Pair]:
    """Reads the pairs of a split; one with a text of more than `max_tokens` positions is dropped and counted."""
    pairs = []
    with (folder / "preferences.jsonl").open(encoding="utf-8") as file:
        items = [json.loads(line) for line in file]
    for item in (item for item in items if item["split"] == split):
        pair = Pair(*(_example(tokenizer, item["prompt"], item[which], turn_end) for which in ("chosen", "rejected")))
        fits = max(len(pair.chosen.ids), len(pair.rejected.ids)) <= max_tokens
        notes.update(items=1, too_long=not fits, dropped=not fits)
        if fits:
            pairs.append(pair)
    return pairs


def _example(tokenizer: Any, prompt: Sequence[dict[str, str]], answer: str, turn_end: int) -> Example:
    messages = [*prompt, {"role": "assistant", "content": answer}]
    question, answered = question_and_answer(tokenizer, messages, turn_end)
    return Example.of([*question, *answered], [False] * len(question) + [True] * len(answered))


class PairRows:
    """One pair a row, filled up to the longest; `types_T` tells the answers apart, `labels_T` begins with the pair's number."""

    def __init__(self, pairs: Sequence[Pair], pad: int, first_number: int = 0) -> None:
        self.pairs, self._pad, self._first = pairs, pad, first_number
        self.num_rows = len(pairs)
        self.row_tokens = max(pair.num_tokens for pair in pairs)

    def row(self, index: int) -> Row:
        """Returns a pair; padding is a segment of its own."""
        number = index % self.num_rows
        pair = self.pairs[number]
        texts = (pair.chosen, pair.rejected)
        segments = segments_of([len(text.ids) for text in texts], self.row_tokens)
        labels = np.full(self.row_tokens, IGNORED)
        labels[0] = self._first + number
        return Row(
            ids_T=joined([text.ids for text in texts], self.row_tokens, self._pad),
            targets_T=joined([text.targets for text in texts], self.row_tokens, IGNORED),
            positions_T=positions_within(segments),
            segments_T=segments,
            types_T=segments.clip(max=1),
            labels_T=labels,
        )

    def num_targets(self, indices: Ids) -> int:
        """Returns the number of pairs: what a loss is a mean over."""
        return len(indices)

    @property
    def num_answer_tokens(self) -> int:
        """Tokens of all answers."""
        return sum(int(np.sum(text.targets != IGNORED)) for pair in self.pairs for text in (pair.chosen, pair.rejected))

    @property
    def notes(self) -> dict[str, int]:
        """Whoever reads the pairs counts what does not fit."""
        return {}


def answer_sums(model: Any, batch: Batch) -> tuple[Tensor, Tensor]:
    """Returns, (B, 2) each, the log-probability of every answer in nats and the number of its tokens."""
    assert batch.types_BT is not None, "rows of pairs say which answer is which"
    is_target_BT = batch.targets_BT != IGNORED
    place_N = (2 * torch.arange(len(is_target_BT), device=is_target_BT.device)[:, None] + batch.types_BT)[is_target_BT]
    losses_N = token_losses(model, batch)
    empty = torch.zeros(2 * len(is_target_BT), device=losses_N.device)
    logp = empty.index_add(0, place_N, -losses_N)
    counts = empty.index_add(0, place_N, torch.ones_like(losses_N))
    return logp.reshape(-1, 2), counts.reshape(-1, 2)


def pair_numbers(batch: Batch) -> Tensor:
    """Returns the number (B,) of each pair."""
    assert batch.labels_BT is not None, "rows of pairs are numbered"
    return batch.labels_BT[:, 0]
