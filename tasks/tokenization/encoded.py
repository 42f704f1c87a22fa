"""What an encoder gives: the ids of many texts in one row.

In: ids of each text. Out: `Encoded`. Invariant: lengths add up to the ids.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]


class Encoded(NamedTuple):
    """Token ids of D texts one after the other, and how many are each text's."""

    ids_N: NDArray[Any]
    lengths_D: Counts

    @classmethod
    def in_a_row(cls, ids: Sequence[NDArray[Any]]) -> Self:
        """Puts the ids of texts one after the other."""
        lengths_D = np.fromiter(map(len, ids), np.int64, len(ids))
        return cls(np.concatenate(ids) if ids else np.zeros(0, np.uint32), lengths_D)

    def by_text(self) -> list[NDArray[Any]]:
        """Returns the ids of each text."""
        return np.split(self.ids_N, np.cumsum(self.lengths_D)[:-1])
