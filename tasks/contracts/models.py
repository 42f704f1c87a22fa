"""Models and what tuning has to know of their base."""

from pydantic import Field

from tasks.contracts.shared import Count
from tasks.core.artifact import Artifact


class Checkpoint(Artifact):
    """A model: `model/` is a `transformers` folder (safetensors, tokenizer and chat template included).

    `adapter/` holds the unmerged adapter of a run that made one; `extra/` the curves, the log and the kept checkpoints. Where
    a method has no plain form, `model/` holds `base/`, `adapter/` and the tokenizer; what is registered then is the adapter, with
    the digest of its base.

    Attributes:
        method: `pretrain`, the tuning method, `adopted` for a model that others made, or `none` for no model at all.
        base_digest: Digest of the checkpoint that the training started from; learning from preferences keeps that of the tuning.
        num_steps, num_tokens: Of the training that made it, not of its base.
        validation_loss: Mean loss on the validation split, in nats per target token where it is a cross entropy; none where
            nothing was trained.
        train_loss: Mean of the last steps' losses, of all that is minimised: penalties, noise and old text among them.
        validation_bits_per_byte: The validation loss in a unit that does not depend on the tokenizer.
        held_out: Figures on the validation split. Of a model tuned on labelled text those of its task (`accuracy`, `pearson`);
            of one tuned on several instruction sets `loss/<set>`;
            of a pretrained model `<figure>` and `<figure>/<language>`: `loss` (nats a
            predicted token), `accuracy`, `bits_per_byte` (causal models), those of the objective; `unigram_nats` and
            `bigram_nats` are the cross entropies of the same text under counts of the training split.
        context_tokens: Positions of the model; none where it counts none.
        licence: Licence of the weights that others made and this model holds or started from.
        warnings: What a reader of this model's figures must know; they travel to the model card.
        figures: Of a pretraining: peak learning rate, that of the base it goes on from, rows of a batch, budget in tokens, FLOPs
            of the hidden layers, medians of targets a second and of the device's utilisation (MFU). Of a tuning: peak learning
            rate, share of the weights trained, bytes kept, seconds, peak memory in bytes, targets a second, validation minus
            training loss;
            `folds/<figure>` and its `_spread` (standard deviation) over folds.
    """

    method: str
    tokenizer_digest: str
    base_digest: str | None = None
    num_parameters: Count
    num_trained_parameters: Count = 0
    num_steps: Count = 0
    num_tokens: Count = 0
    precision: str
    context_tokens: Count | None = None
    licence: str | None = None
    train_loss: float | None = None
    validation_loss: float | None = None
    validation_bits_per_byte: float | None = None
    held_out: dict[str, float] = Field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    figures: dict[str, float] = Field(default_factory=dict)

    def summary(self) -> str:
        """One line for a person."""
        if self.method == "none":
            return "no base is given"
        size = f"{self.num_parameters / 1e6:.2f} M parameters"
        if self.validation_loss is None:
            return f"{size}, as it was given ({self.licence})"
        bits = f", {self.validation_bits_per_byte:.3f} bits per byte" if self.validation_bits_per_byte else ""
        trained = f"({self.num_trained_parameters / 1e6:.2f} M trained), {self.num_tokens:,} tokens"
        is_tuned = self.method != "pretrain"
        sets = {name[5:]: loss for name, loss in self.held_out.items() if is_tuned and name.startswith("loss/")}
        by_set = f" ({', '.join(f'{name} {loss:.3f}' for name, loss in sets.items())})" if sets else ""
        return f"{size} {trained}, validation loss {self.validation_loss:.3f}{by_set}{bits}"


class Fisher(Artifact):
    """Which weights of a base its old text hangs on: `fisher.safetensors`, by name and shape of the weight; or nothing.

    Attributes:
        base_digest: Digest of the checkpoint whose weights these are.
        num_rows: Rows of text it is a mean of; 0 where the tuning asks for none.
        num_weights: Weights it has a value of.
        trace: Sum of all values.
    """

    base_digest: str
    num_rows: Count = 0
    num_weights: Count = 0
    trace: float = 0.0

    def summary(self) -> str:
        """One line for a person."""
        if not self.num_rows:
            return "not asked for"
        return f"{self.num_weights / 1e6:.2f} M weights over {self.num_rows:,} rows, trace {self.trace:.4g}"
