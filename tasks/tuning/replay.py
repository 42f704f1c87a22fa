"""Replay: text of the pretraining among the conversations, so that it is not forgotten (Scialom et al., arXiv:2205.12393).

In: the conversations' rows and the corpus. Out: both, mixed. Invariant: the share is one of targets, since a row of text has many
times those of a row of answers.
"""

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from tasks.core.artifact import Spec

if TYPE_CHECKING:
    from tasks.modeling.batches import Rows


class ReplaySpec(Spec):
    """Text of the recipe's own corpus among the conversations."""

    share: Annotated[float, Field(gt=0, lt=1, description="Share of the targets that are text; 0.05 to 0.5 are usual.")] = 0.2

    def mixed(self, rows: "Rows", old: "Rows") -> "Rows":
        """Returns the rows with so many of the old ones among them that their targets have the share."""
        import numpy as np

        from tasks.modeling.set_rows import with_replay

        num_targets = rows.num_targets(np.arange(rows.num_rows))
        return with_replay(rows, old, self.share, num_targets / old.row_tokens)
