"""From the size of a model to its budget, batch and learning rate, by published rules.

In: a `ModelSpec`, what a recipe sets, the tokens there are to read. Out: a `Scaled`, every number known. Invariants: pure
arithmetic, no torch; what was set is kept.

    budget   20 tokens a hidden weight (Hoffmann et al., arXiv:2203.15556, models of 70M to 16B), at most 4 passes over the
             text: beyond them repeats teach ever less (Muennighoff et al., arXiv:2305.16264)
    batch    0.2920 * C^0.3271 tokens     (DeepSeek-AI, arXiv:2401.02954, equations 1 and 2, AdamW: C are the FLOPs of the
    rate     0.3118 * C^-0.1250            hidden layers over the whole training; fitted on 1e17 to 2e19, checked at 1e20)

Below 1e17 FLOPs (a model of about 30 M weights with its 20 tokens each) nothing was fitted: the rate stays at what it is
there, 2.3e-3, and the batch goes on to shrink, so that at least 1,000 steps are left. The batch is rounded to a power of two
in rows, so that it can be divided among devices; the paper finds a broad band of batches as good.
"""

import math
from dataclasses import dataclass

from tasks.core.store import Manifest
from tasks.modeling.specs import AdamWSpec, BudgetSpec, ModelSpec, MuonSpec, TrainSpec

TOKENS_PER_WEIGHT = 20
MANY_PASSES = 4.0
FITTED_FROM_FLOPS = 1e17
MIN_STEPS = 1_000
LOW_SHARE, HIGH_SHARE = 0.1, 0.2  # of the peak of new weights: what is usual for weights that are trained already


@dataclass(frozen=True, slots=True)
class Scaled:
    """A training with every number known.

    Attributes:
        flops: FLOPs of the hidden layers over the whole training; none where the model is a given one.
    """

    train: TrainSpec
    learning_rate: float
    budget_tokens: int
    flops: float | None

    def figures(self) -> dict[str, float]:
        """Returns what a checkpoint records of it."""
        return {
            "learning_rate": self.learning_rate,
            "batch_rows": self.train.batch_rows,
            "budget_tokens": self.budget_tokens,
        } | ({} if self.flops is None else {"hidden_flops": self.flops})


def scaled(model: ModelSpec, budget: BudgetSpec, learning_rate: float | None, train_tokens: int | None) -> Scaled | None:
    """Returns the training with what was not set derived; nothing where that depends on text nobody has encoded yet.

    Args:
        model: Its size.
        budget: Batch and budget, as far as they are set.
        learning_rate: The peak, if it is set.
        train_tokens: Tokens of the training split; none where they are not known.
    """
    tokens = _budget_tokens(model, budget, train_tokens)
    if tokens is None:
        return None
    flops = float(hidden_flops_per_token(model)) * tokens
    rows = budget.batch_rows or _rows(batch_tokens(flops), tokens, model.context_tokens)
    length = {"num_tokens": tokens} if budget.num_epochs is None else {}
    train = TrainSpec.model_validate(budget.model_dump() | {"batch_rows": rows} | length)
    return Scaled(train, peak_rate(flops) if learning_rate is None else learning_rate, tokens, flops)


def _budget_tokens(model: ModelSpec, budget: BudgetSpec, train_tokens: int | None) -> int | None:
    if budget.num_tokens is not None:
        return budget.num_tokens
    if train_tokens is None:
        return None
    if budget.num_epochs is not None:
        return math.ceil(budget.num_epochs * train_tokens)
    return min(TOKENS_PER_WEIGHT * model.num_matrix_weights, math.ceil(MANY_PASSES * train_tokens))


def hidden_flops_per_token(model: ModelSpec) -> int:
    """Returns the FLOPs of one training token in the hidden layers, forward and backward.

    Six a weight, and 12 * depth * width * context for attention, which is counted as a full square (Chowdhery et al.,
    arXiv:2204.02311, appendix B).
    """
    sizes = model.sizes
    return 6 * model.num_matrix_weights + 12 * model.depth * sizes.num_heads * sizes.head_width * model.context_tokens


def peak_rate(flops: float) -> float:
    """Returns the peak learning rate of a training of so many FLOPs."""
    return float(0.3118 * max(flops, FITTED_FROM_FLOPS) ** -0.1250)


def adamw_peak(optimizer: str, learning_rate: float | None, flops: float | None) -> float | None:
    """Returns the peak that a tuning by AdamW is measured by: a training's own, for Muon, whose rates are higher, the rules'."""
    if optimizer != "muon":
        return learning_rate
    return None if flops is None else peak_rate(flops)


def peak_of(model: Manifest) -> float | None:
    """Returns the peak learning rate that a tuning of a checkpoint is measured by, as its manifest records it.

    It is the one that the weights were first trained at: one goes on from them, and from a checkpoint that was trained on, by a
    share of it. None of a model that others made.
    """
    if model.facts.get("method") == "adopted":
        return None
    figures, optim = model.facts.get("figures", {}), model.spec.get("optim", {})
    if (first := figures.get("base_learning_rate")) is not None:
        return float(first)
    recorded = figures.get("learning_rate") or optim.get("learning_rate")
    return adamw_peak(optim.get("kind", "adamw"), None if recorded is None else float(recorded), figures.get("hidden_flops"))


def matrix_rate_warning(optim: AdamWSpec | MuonSpec, where: str) -> str | None:
    """Says where Muon moves a given model's matrices at a rate of new weights: it has one of its own, which no rule derives.

    Args:
        optim: How they move.
        where: The part of the recipe that asks for it.
    """
    if not isinstance(optim, MuonSpec):
        return None
    usual: float = MuonSpec.model_fields["matrix_learning_rate"].default
    if optim.matrix_learning_rate <= HIGH_SHARE * usual * (1 + 1e-9):
        return None
    lowest, highest = (f"{share * usual:.3g}" for share in (LOW_SHARE, HIGH_SHARE))
    return (
        f"{where}.optim.matrix_learning_rate {optim.matrix_learning_rate:g} is a rate of pretraining from scratch, and what "
        f"hidden matrices are trained by, whatever {where}.optim.learning_rate says; {lowest} to {highest} is {LOW_SHARE:g} to "
        f"{HIGH_SHARE:g} of it"
    )


def batch_tokens(flops: float) -> float:
    """Returns the tokens of a batch of a training of so many FLOPs."""
    return float(0.2920 * flops**0.3271)


def _rows(wanted_tokens: float, budget_tokens: int, row_tokens: int) -> int:
    """Returns the power of two nearest to the batch that is wanted, as long as `MIN_STEPS` are left."""
    nearest = round(math.log2(max(1.0, wanted_tokens / row_tokens)))
    largest = math.floor(math.log2(max(1.0, budget_tokens / MIN_STEPS / row_tokens)))
    return int(2 ** min(nearest, largest))
