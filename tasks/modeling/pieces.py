"""Rows of pieces that an objective makes anew on each pass: masked, cut out, put in another order.

In: pieces of documents and a function that makes a `Part` of one. Out: rows. Invariants: what is drawn is a pure function of
the seed, the pass and the row, so a resumed training draws the same; padding is a segment of its own and never a target.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Generic, TypeVar

import numpy as np

from tasks.core.errors import ContractError
from tasks.modeling.batches import IGNORED, Ids, Row, Rows, joined, pack, positions_within, segments_of

P = TypeVar("P")


@dataclass(frozen=True, slots=True)
class Part:
    """A piece as the model sees it; the fields are those of `Row`."""

    ids: Ids
    targets: Ids
    types: Ids | None = None
    labels: Ids | None = None
    source_ids: Ids | None = None
    removed: Ids | None = None


class PieceRows(Generic[P]):
    """Rows of pieces side by side, best fit first.

    Args:
        pieces: What the rows are made of.
        lengths: Positions that each piece may take at most, in the source too.
        make: Makes the part of a piece.
        row_tokens: Positions of a row, or of its source where there is one.
        target_lengths: Positions that each piece takes beside its source at most, where that is less.
        notes: What was cut or left out, counted.

    Raises:
        ContractError: There are no pieces.

    Attributes:
        members: Numbers of the pieces of each row.
        target_tokens: Positions beside the source; rows that lie in one batch must have as many.
    """

    def __init__(
        self,
        pieces: Sequence[P],
        lengths: Sequence[int],
        make: Callable[[P, np.random.Generator], Part],
        *,
        row_tokens: int,
        pad: int,
        seed: int,
        target_lengths: Sequence[int] | None = None,
        notes: Mapping[str, int] | None = None,
    ) -> None:
        if not pieces:
            raise ContractError(
                "no text is long enough to make a row of; give more or longer text, or set another objective.kind"
            )
        self._pieces, self._make, self._pad, self._seed = pieces, make, pad, seed
        self.members = pack(lengths, row_tokens)
        self.row_tokens = row_tokens
        self.notes = dict(notes or {})
        self.target_tokens = row_tokens
        if target_lengths is not None:
            self.target_tokens = max(sum(target_lengths[member] for member in row) for row in self.members)
        self._made = lru_cache(maxsize=512)(self._make_row)  # a row is read for its targets first, then for its batch

    @property
    def num_rows(self) -> int:
        """How many rows there are."""
        return len(self.members)

    def row(self, index: int) -> Row:
        """Returns row `index % num_rows` as it is on pass `index // num_rows`."""
        return self._made(index)

    def num_targets(self, indices: Ids) -> int:
        """Returns the targets of these rows together."""
        return sum(int(np.count_nonzero(self.row(int(index)).targets_T != IGNORED)) for index in indices)

    def _make_row(self, index: int) -> Row:
        number_of_pass, number = divmod(index, self.num_rows)
        random = np.random.Generator(np.random.Philox(key=[self._seed, number_of_pass], counter=[0, 0, 0, number]))
        parts = [self._make(self._pieces[member], random) for member in self.members[number]]
        segments = segments_of([len(part.ids) for part in parts], self.target_tokens)
        return Row(
            ids_T=joined([part.ids for part in parts], self.target_tokens, self._pad),
            targets_T=joined([part.targets for part in parts], self.target_tokens, IGNORED),
            positions_T=positions_within(segments),
            segments_T=segments,
            types_T=_optional([part.types for part in parts], self.target_tokens, 0),
            labels_T=_optional([part.labels for part in parts], self.target_tokens, IGNORED),
            removed_T=_optional([part.removed for part in parts], self.target_tokens, 0),
            **self._source(parts),
        )

    def _source(self, parts: Sequence[Part]) -> dict[str, Any]:
        sources = [part.source_ids for part in parts if part.source_ids is not None]
        if not sources:
            return {}
        return {
            "source_ids_S": joined(sources, self.row_tokens, self._pad),
            "source_segments_S": segments_of([len(source) for source in sources], self.row_tokens),
        }


def even_targets(parts: Iterable[Rows]) -> None:
    """Gives rows of pieces as many positions beside the source, so that they can lie in one batch; others are left alone."""
    pieces = [each for each in parts if isinstance(each, PieceRows)]
    longest = max((each.target_tokens for each in pieces), default=0)
    for each in pieces:
        each.target_tokens = longest


def _optional(arrays: Sequence[Ids | None], num_positions: int, fill: int) -> Ids | None:
    found = [array for array in arrays if array is not None]
    return joined(found, num_positions, fill) if found else None
