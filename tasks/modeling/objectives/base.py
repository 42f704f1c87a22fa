"""What every objective offers: the models it fits, the tokens it needs, its rows, its loss, its figures.

In: text and a model. Out: rows; sums over targets. Invariants: the loop adds up `loss` over a step and divides by the step's
targets; a batch without a target has the loss 0.

To add one: a file with a class that differs from `Objective` where it has to, and one line in `objectives/__init__.py`.
"""

from typing import TYPE_CHECKING, Any, ClassVar

from tasks.core.artifact import Spec
from tasks.modeling.specs import Family, ModelSpec

if TYPE_CHECKING:
    import torch

    from tasks.modeling.batches import Batch, Rows
    from tasks.modeling.text import TokenText

Figures = dict[str, tuple[float, int]]
_MOST_LOGITS = 1 << 28  # held at once while figures are taken: 1 GiB in fp32, and as much again in their cross entropy


class Objective(Spec):
    """Base of the objectives; the defaults are those of a model that predicts each next token.

    Attributes:
        families: Model families it can train.
        auto_class: Class of `transformers` that knows the model with the heads it needs.
        last_stage: Last stage of the chain to a model that answers which takes its models; none: all of them do.
        takes_head: Whether its models take a head for labels, see `tasks.tuning.labelled`.
        parts: Names of the losses that its loss is the sum of, in order; none: it is one.
        counts_bytes: Whether every token of the text is predicted once, so that a loss can be stated in bits per byte.
    """

    families: ClassVar[tuple[Family, ...]] = ("llama", "qwen3", "gpt2")
    auto_class: ClassVar[str] = "AutoModelForCausalLM"
    last_stage: ClassVar[str | None] = None
    takes_head: ClassVar[bool] = True
    parts: ClassVar[tuple[str, ...]] = ()
    counts_bytes: ClassVar[bool] = False

    @property
    def has_two_parts(self) -> bool:
        """Whether its models read by an encoder and write by a decoder."""
        return self.auto_class == "AutoModelForSeq2SeqLM"

    def special_tokens(self) -> dict[str, str]:
        """Returns the special tokens it needs: the role of each, and the text that a trained tokenizer gives it."""
        return {}

    def check(self, model: ModelSpec) -> None:
        """Says what of the model does not fit.

        Raises:
            ValueError: The family, or the length of a row.
        """
        if model.family not in self.families:
            raise ValueError(
                f"objective {getattr(self, 'kind', '')!r} does not train a {model.family}: "
                f"set model.family to one of {', '.join(self.families)}"
            )
        self.check_rows(model.context_tokens)

    def check_rows(self, context_tokens: int) -> None:
        """Says whether rows of so many tokens do not fit, whatever model reads them.

        Raises:
            ValueError: They do not.
        """

    def rows(self, text: "TokenText") -> "Rows":
        """Returns the rows to learn from."""
        raise NotImplementedError

    def held_out_rows(self, text: "TokenText") -> "dict[str, Rows]":
        """Returns the rows that a trained model is asked about, by the prefix of their figures; those of "" are looked at."""
        return {"": self.rows(text)}

    def loss(self, model: Any, batch: "Batch") -> "torch.Tensor":
        """Returns the summed cross entropy (), in nats, over the targets of `batch`; of several `parts` each one (P,)."""
        from tasks.modeling.model import token_losses

        return token_losses(model, batch).sum()

    def figures(self, model: Any, batch: "Batch") -> Figures:
        """Returns figures of a batch, by name, as sum and number of what was summed: `loss` in nats, `accuracy` in hits.

        Where rows say what was removed from the text, only that counts: sentinels are easy, and the rest could be copied.
        """
        from tasks.modeling.model import hidden_states

        return text_figures(model, batch, hidden_states(model, batch))


def text_figures(model: Any, batch: "Batch", hidden_BTW: "torch.Tensor") -> Figures:
    """Returns loss and accuracy over the targets of `batch`, see `Objective.figures`; not all logits are held at once."""
    import torch
    import torch.nn.functional as F

    from tasks.modeling.batches import IGNORED
    from tasks.modeling.model import at_targets, logits_of

    hidden_NW, targets_N = at_targets(batch, hidden_BTW)
    if batch.removed_BT is not None:
        is_counted = batch.removed_BT[batch.targets_BT != IGNORED] == 1
        hidden_NW, targets_N = hidden_NW[is_counted], targets_N[is_counted]
    nats, hits = 0.0, 0
    rows_at_once = max(1, _MOST_LOGITS // model.get_input_embeddings().weight.shape[0])
    for hidden, targets in zip(torch.split(hidden_NW, rows_at_once), torch.split(targets_N, rows_at_once), strict=True):
        logits = logits_of(model, hidden).float()
        nats += float(F.cross_entropy(logits, targets, reduction="sum"))
        hits += int((logits.argmax(-1) == targets).sum())
    return {"loss": (nats, len(targets_N)), "accuracy": (hits, len(targets_N))}
