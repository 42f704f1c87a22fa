"""The causal objective: predict each next token.

In: text. Out: rows of documents side by side, each token of the text a target once. Invariant: no document sees another one.
"""

from typing import TYPE_CHECKING, ClassVar, Literal

from tasks.modeling.objectives.base import Objective

if TYPE_CHECKING:
    from tasks.modeling.batches import Rows
    from tasks.modeling.text import TokenText


class CausalSpec(Objective):
    """Next-token prediction."""

    kind: Literal["causal"]

    counts_bytes: ClassVar[bool] = True

    def rows(self, text: "TokenText") -> "Rows":
        """Returns the text cut into rows, see `StreamRows`."""
        from tasks.modeling.batches import StreamRows

        return StreamRows(text.streams, text.context_tokens, text.special.end_of_text, text.special.opening)
