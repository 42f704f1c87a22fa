# ruff: noqa: TID253  (runs in training and scoring children only; holds no Spec)
"""Rows and batches: documents packed side by side, each blind to the others.

In: a token stream, or examples with a mask. Out: `Batch`es of equal rows. Invariants: positions restart and the segment
number changes with each document; every target is counted once; which rows a step takes is a pure function of
`(seed, step)`, so that resuming replays nothing.

Shapes: B rows, T positions of a row, S positions of its source (what an encoder reads and a decoder writes about).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

IGNORED = -100  # the target of a position that predicts nothing; what torch's cross entropy skips
Ids = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Row:
    """One row of T positions: input ids, target ids, position in the document, number of the document in the row.

    Attributes:
        types_T: First (0) or second (1) part of a pair.
        labels_T: Class of a pair at the position that stands for it, IGNORED elsewhere.
        source_ids_S, source_segments_S: What an encoder reads; equal numbers belong together.
        removed_T: 1 where the target was taken out of the source, 0 where it could be copied from there.
        goals_K: What is to be said of the whole row: the number of a class, 0 or 1 for each of K labels, or a value.
        sets_K: 1 at the one of K sets that the row stems from, where sets are told apart.
    """

    ids_T: Ids
    targets_T: Ids
    positions_T: Ids
    segments_T: Ids
    types_T: Ids | None = None
    labels_T: Ids | None = None
    source_ids_S: Ids | None = None
    source_segments_S: Ids | None = None
    removed_T: Ids | None = None
    goals_K: NDArray[np.float32] | None = None
    sets_K: NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows as tensors; `num_targets` is known without asking the device."""

    ids_BT: Tensor
    targets_BT: Tensor
    positions_BT: Tensor
    segments_BT: Tensor
    num_targets: int
    types_BT: Tensor | None = None
    labels_BT: Tensor | None = None
    source_ids_BS: Tensor | None = None
    source_segments_BS: Tensor | None = None
    removed_BT: Tensor | None = None
    goals_BK: Tensor | None = None
    sets_BK: Tensor | None = None


class Rows(Protocol):
    """Rows that can be read by number.

    Numbers count on over the passes: row `n + k * num_rows` is row `n` as it is on pass `k`, which differs from pass to pass
    where an objective draws masks.
    """

    @property
    def num_rows(self) -> int:
        """How many there are."""

    @property
    def row_tokens(self) -> int:
        """Positions of a row."""

    def row(self, index: int) -> Row:
        """Returns one row."""

    def num_targets(self, indices: Ids) -> int:
        """Returns the targets of these rows together."""

    @property
    def notes(self) -> dict[str, int]:
        """What was cut or left out, counted."""


class SpreadRows:
    """Some of other rows, at most `num_rows`, spread evenly over them."""

    def __init__(self, rows: Rows, num_rows: int) -> None:
        self._rows, self._chosen = rows, spread(rows.num_rows, num_rows)
        self.num_rows, self.row_tokens, self.notes = len(self._chosen), rows.row_tokens, rows.notes

    def row(self, index: int) -> Row:
        """Returns one row, see `Rows`."""
        passed, place = divmod(index, self.num_rows)
        return self._rows.row(passed * self._rows.num_rows + int(self._chosen[place]))

    def num_targets(self, indices: Ids) -> int:
        """Returns the targets of these rows together."""
        passed, places = np.divmod(indices, self.num_rows)
        return self._rows.num_targets(passed * self._rows.num_rows + self._chosen[places])


def spread(num_rows: int, most: int | None) -> Ids:
    """Returns the numbers of at most so many rows, spread evenly over all."""
    return np.unique(np.linspace(0, num_rows - 1, min(most or num_rows, num_rows)).round().astype(np.int64))


def numbers_in_order(rows: Rows, max_tokens: int) -> Iterator[Ids]:
    """Yields the numbers of all rows in order, as many at a time as have `max_tokens` positions, one at least."""
    size = max(1, max_tokens // rows.row_tokens)
    for start in range(0, rows.num_rows, size):
        yield np.arange(start, min(start + size, rows.num_rows))


def make_batch(rows: Rows, indices: Ids, device: torch.device) -> Batch:
    """Reads the rows named by `indices`."""
    found = [rows.row(int(index)) for index in indices]
    columns = {
        f"{field.name[:-1]}B{field.name[-1]}": torch.from_numpy(np.stack([getattr(row, field.name) for row in found]))
        for field in fields(Row)
        if getattr(found[0], field.name) is not None
    }
    on_device = {name: column.to(device, non_blocking=True) for name, column in columns.items()}
    return Batch(num_targets=rows.num_targets(indices), **on_device)


def step_rows(seed: int, step: int, batch_rows: int, num_rows: int) -> Ids:
    """Returns the rows of a step: passes over all rows, each in an order of its own, cut into batches.

    Numbers count on over the passes, see `Rows`.
    """
    places = range(step * batch_rows, (step + 1) * batch_rows)
    passes = [divmod(place, num_rows) for place in places]
    return np.array([number * num_rows + _epoch_order(seed, number, num_rows)[place] for number, place in passes])


@lru_cache(maxsize=4)
def _epoch_order(seed: int, epoch: int, num_rows: int) -> Ids:
    return np.random.Generator(np.random.Philox(key=[seed, epoch])).permutation(num_rows)


class StreamRows:
    """Rows cut from a stream of documents that each end in `separator`.

    The separator that ends a document also opens the next one, so the first token of a document is predicted too and every
    token of the stream is a target exactly once. A document that lies across the end of a row is continued in the next
    one without what came before: no token is lost, some context is.

    Args:
        opening: What is read in the separator's place before a document; none: the separator.
    """

    def __init__(
        self, shards: Sequence[NDArray[np.integer]], context_tokens: int, separator: int, opening: int | None = None
    ) -> None:
        self._shards = [shard for shard in shards if len(shard)]
        self._ends = np.cumsum([len(shard) for shard in self._shards])
        self._separator, self._opening = separator, separator if opening is None else opening
        self.row_tokens = context_tokens
        self.num_tokens = int(self._ends[-1]) if len(self._ends) else 0
        self.num_rows = -(-self.num_tokens // context_tokens)

    def row(self, index: int) -> Row:
        """Returns row `index`; the last one is filled up with positions that predict nothing."""
        start = index % self.num_rows * self.row_tokens
        tokens = self._read(start - 1, min(start + self.row_tokens, self.num_tokens))
        ids, targets = tokens[:-1], tokens[1:]
        num_missing = self.row_tokens - len(ids)
        ids = np.pad(ids, (0, num_missing), constant_values=self._separator)
        targets = np.pad(targets, (0, num_missing), constant_values=IGNORED)
        opens = ids == self._separator
        segments = np.cumsum(opens)
        return Row(np.where(opens, self._opening, ids), targets, positions_within(segments), segments)

    def num_targets(self, indices: Ids) -> int:
        """Returns the targets of these rows together."""
        num_missing = self.num_rows * self.row_tokens - self.num_tokens
        return len(indices) * self.row_tokens - num_missing * int(np.sum(indices % self.num_rows == self.num_rows - 1))

    @property
    def notes(self) -> dict[str, int]:
        """What was cut, counted."""
        return {"documents_continued_in_next_row": self.num_split_documents()}

    def num_split_documents(self) -> int:
        """Returns how often a document is cut by the end of a row."""
        num_cut, offset = 0, 0
        for shard in self._shards:
            first = -(offset + 1) % self.row_tokens  # place in this shard of the first token that ends a row
            num_cut += int(np.count_nonzero(shard[first :: self.row_tokens] != self._separator))
            offset += len(shard)
        ends_with_row = self.num_tokens % self.row_tokens == 0
        return num_cut - int(ends_with_row and self._shards[-1][-1] != self._separator)

    def _read(self, start: int, stop: int) -> Ids:
        """Reads `[start, stop)`; before the first token lies a separator."""
        parts = [np.full(1, self._separator)] if start < 0 else []
        start = max(start, 0)
        first = int(np.searchsorted(self._ends, start, side="right"))
        for number in range(first, len(self._shards)):
            offset = int(self._ends[number]) - len(self._shards[number])
            if offset >= stop:
                break
            parts.append(self._shards[number][max(0, start - offset) : stop - offset])
        return np.concatenate(parts).astype(np.int64)


def positions_within(segments_T: Ids) -> Ids:
    """Returns the place of each position in its segment."""
    places = np.arange(len(segments_T))
    is_first = np.diff(segments_T, prepend=segments_T[0] - 1) != 0
    return places - np.maximum.accumulate(np.where(is_first, places, 0))


def segments_of(lengths: Sequence[int], num_positions: int) -> Ids:
    """Returns the segment of each position of texts side by side; what is left of the row is one more."""
    return np.repeat(np.arange(len(lengths) + 1), [*lengths, num_positions - sum(lengths)])


def joined(arrays: Sequence[Ids], num_positions: int, fill: int) -> Ids:
    """Returns arrays side by side, filled up to a row."""
    return np.concatenate([*arrays, np.full(num_positions - sum(map(len, arrays)), fill)])


@dataclass(frozen=True, slots=True)
class Example:
    """One text to learn from or to score: ids, and the target of each (the next id, or IGNORED)."""

    ids: Ids
    targets: Ids

    @classmethod
    def of(cls, ids: Sequence[int], is_target: Sequence[bool]) -> "Example":
        """Makes an example of a text whose tokens are predicted where `is_target` says so.

        The first token has nothing before it and is never a target.
        """
        tokens = np.asarray(ids, dtype=np.int64)
        return cls(tokens[:-1], np.where(np.asarray(is_target, dtype=bool)[1:], tokens[1:], IGNORED))


class ExampleRows:
    """Rows that hold whole examples side by side, best fit first; what is left of a row is padding."""

    def __init__(self, examples: Sequence[Example], context_tokens: int, pad: int) -> None:
        self.examples = examples
        self.row_tokens = context_tokens
        self.members = pack([len(example.ids) for example in examples], context_tokens)
        self._pad = pad
        self._num_targets = np.array(
            [sum(int(np.sum(examples[member].targets != IGNORED)) for member in row) for row in self.members], dtype=np.int64
        )

    @property
    def num_rows(self) -> int:
        """How many rows there are."""
        return len(self.members)

    def row(self, index: int) -> Row:
        """Returns row `index`; padding is a segment of its own."""
        members = [self.examples[member] for member in self.members[index % self.num_rows]]
        segments = segments_of([len(member.ids) for member in members], self.row_tokens)
        ids = joined([member.ids for member in members], self.row_tokens, self._pad)
        targets = joined([member.targets for member in members], self.row_tokens, IGNORED)
        return Row(ids, targets, positions_within(segments), segments)

    def num_targets(self, indices: Ids) -> int:
        """Returns the targets of these rows together."""
        return int(self._num_targets[indices % self.num_rows].sum())

    @property
    def notes(self) -> dict[str, int]:
        """Whoever makes the examples counts what does not fit."""
        return {}


def pack(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Packs items into rows of `capacity`: longest first, each into the fullest row that holds it.

    Raises:
        ValueError: An item is longer than a row; whoever packs decides what becomes of those.
    """
    order = sorted(range(len(lengths)), key=lambda item: (-lengths[item], item))
    if order and lengths[order[0]] > capacity:
        raise ValueError(f"item {order[0]} has {lengths[order[0]]} tokens, a row holds {capacity}")
    rows: list[list[int]] = []
    by_room: dict[int, list[int]] = {}
    for item in order:
        room = next((room for room in range(lengths[item], capacity + 1) if by_room.get(room)), None)
        if room is None:
            rows.append([])
            room, row = capacity, len(rows) - 1
        else:
            row = by_room[room].pop()
        rows[row].append(item)
        by_room.setdefault(room - lengths[item], []).append(row)
    return rows
