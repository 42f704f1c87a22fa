# ruff: noqa: TID253  (runs in training children only; holds no Spec)
"""Rows of several sets, mixed by weight or by share (replay), and the loss of each set.

In: rows of sets. Out: `Rows`, and a `Watch` that sees the sets apart. Invariant: row `n` of pass `k` hangs on
`n` and `k` alone, so that resuming is exact; a set goes on in each pass where it ended in the one before.

Shapes: B rows, N targets, K sets.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tasks.modeling.batches import IGNORED, Batch, Ids, Row, Rows
from tasks.modeling.model import token_losses
from tasks.modeling.task import Watch


def rows_by_weight(parts: Mapping[str, Rows], weights: Mapping[str, float]) -> list[int]:
    """Returns how many rows of each set a pass takes: its targets have the set's weight, and all together are those of the sets.

    A set of any weight gives one row at least.
    """
    targets = {name: rows.num_targets(np.arange(rows.num_rows)) for name, rows in parts.items()}
    all_targets, all_weights = sum(targets.values()), sum(weights[name] for name in parts)
    wanted = {name: weights[name] / all_weights * all_targets for name in parts}
    return [max(1, round(wanted[name] / targets[name] * rows.num_rows)) for name, rows in parts.items()]


def with_replay(new: Rows, old: Rows, share: float, num_new: float) -> "SetRows":
    """Returns all rows of a text and, each pass, so many of an old one that they are a `share` beside `num_new`; at least one."""
    num_old = max(1, round(share / (1 - share) * num_new))
    return SetRows((new, old), (new.num_rows, num_old), notes=new.notes | {"rows_replayed_a_pass": num_old})


class SetRows:
    """Rows of sets side by side, so many of each a pass; the loop shuffles them together."""

    def __init__(
        self, parts: Sequence[Rows], counts: Sequence[int], *, marked: bool = False, notes: Mapping[str, int] | None = None
    ) -> None:
        if len({rows.row_tokens for rows in parts}) > 1:
            raise ValueError("rows of several lengths cannot lie in one batch")
        self._parts, self._counts, self._marked = parts, np.array(counts), marked
        self.notes = dict(notes or {})  # else whoever makes the examples counts what does not fit
        self._ends = np.cumsum(counts)
        self.row_tokens = parts[0].row_tokens
        self.num_rows = int(self._ends[-1])

    def row(self, index: int) -> Row:
        """Returns row `index`, see `Rows`; where sets are to be told apart, with a mark at its own."""
        number, place = (int(one) for one in self._placed(index))
        row = self._parts[number].row(place)
        return replace(row, sets_K=np.eye(len(self._parts), dtype=np.float32)[number]) if self._marked else row

    def num_targets(self, indices: Ids) -> int:
        """Returns the targets of these rows together."""
        numbers, places = self._placed(indices)
        return sum(rows.num_targets(places[numbers == number]) for number, rows in enumerate(self._parts))

    def _placed(self, index: Any) -> tuple[Any, Any]:
        """Returns the set of a row, or of each of many, and the row's number in it."""
        passed, place = np.divmod(index, self.num_rows)
        number = np.searchsorted(self._ends, place, side="right")
        before = self._ends[number] - self._counts[number]
        return number, passed * self._counts[number] + place - before


class RowsOfNoSet:
    """Rows whose mark is none of the sets that are told apart: they count to the mean loss alone."""

    def __init__(self, rows: Rows, num_sets: int) -> None:
        self._rows, self._mark = rows, np.zeros(num_sets, dtype=np.float32)
        self.num_rows, self.row_tokens, self.notes = rows.num_rows, rows.row_tokens, rows.notes

    def row(self, index: int) -> Row:
        """Returns one row, see `Rows`."""
        return replace(self._rows.row(index), sets_K=self._mark)

    def num_targets(self, indices: Ids) -> int:
        """Returns the targets of these rows together."""
        return self._rows.num_targets(indices)


def watch_sets(names: Sequence[str]) -> Watch:
    """Returns what a look sees of marked rows beside the mean loss: that of each set, `loss/<set>`, in nats a target."""

    def sums(model: Any, batch: Batch) -> Tensor:
        assert batch.sets_BK is not None, "the rows are marked"
        losses_N = token_losses(model, batch).double()
        sets_NK = batch.sets_BK.double()[(batch.targets_BT != IGNORED).nonzero()[:, 0]]
        return torch.cat([losses_N.sum()[None], losses_N @ sets_NK, sets_NK.sum(dim=0)])

    def figures(totals: Sequence[float]) -> dict[str, float]:
        losses, targets = totals[: len(names)], totals[len(names) :]
        parts = zip(names, losses, targets, strict=True)
        return {f"loss/{name}": loss / count for name, loss, count in parts if count}

    return Watch(sums, figures)
