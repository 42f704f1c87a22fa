"""Rows of one text among rows of another: replay against forgetting.

In: two sets of rows of one length. Out: `Rows`. Invariant: what row `n` of pass `k` is hangs on `n` and `k` alone, so that
resuming is exact; each pass takes every new row once and goes on in the old text where the last one ended.
"""

import numpy as np

from tasks.modeling.batches import Ids, Row, Rows


def num_replayed(share: float, num_new: float) -> int:
    """Returns how many must be replayed beside `num_new` new ones for a `share` of the whole; at least one."""
    return max(1, round(share / (1 - share) * num_new))


class MixedRows:
    """All rows of one text and, each pass, some of another; the loop shuffles them together."""

    def __init__(self, rows: Rows, old: Rows, num_old: int) -> None:
        if rows.row_tokens != old.row_tokens:
            raise ValueError(f"rows of {rows.row_tokens} and of {old.row_tokens} tokens cannot lie in one batch")
        self._rows, self._old, self._num_old = rows, old, num_old
        self.row_tokens = rows.row_tokens
        self.num_rows = rows.num_rows + num_old

    def row(self, index: int) -> Row:
        """Returns row `index`, see `Rows`."""
        number, place = divmod(index, self.num_rows)
        if place < self._rows.num_rows:
            return self._rows.row(number * self._rows.num_rows + place)
        return self._old.row(number * self._num_old + place - self._rows.num_rows)

    def num_targets(self, indices: Ids) -> int:
        """Returns the targets of these rows together."""
        numbers, places = np.divmod(indices, self.num_rows)
        is_new = places < self._rows.num_rows
        new = (numbers * self._rows.num_rows + places)[is_new]
        old = (numbers * self._num_old + places - self._rows.num_rows)[~is_new]
        return self._rows.num_targets(new) + self._old.num_targets(old)

    @property
    def notes(self) -> dict[str, int]:
        """What is noted of the new rows, and how many of a pass are old ones."""
        return self._rows.notes | {"rows_replayed_a_pass": self._num_old}
