# ruff: noqa: TID253  (runs in training and scoring children only; holds no Spec)
"""The losses of labelled text, and what a look sees beside them.

In: a model with a head, a batch of `LabelledRows`. Out: the summed loss; sums for figures. Invariants: weights and smoothing
count in training only, so looks of any two recipes can be compared; the loss of an item is in nats (classes), the mean
of its labels' nats (multi-label), or a square in units of the values' variance (regression).

Shapes: B items, T positions, K labels, C and R sums of `tasks.modeling.label_sums`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tasks.modeling import label_sums
from tasks.modeling.architecture import takes_types
from tasks.modeling.batches import IGNORED, Batch
from tasks.modeling.labels import LOWER_IS_BETTER, Criterion, HeadFacts, figures_of
from tasks.modeling.task import Watch


def outputs(model: Any, batch: Batch) -> Tensor:
    """Returns what the head says, in fp32: (B, K) of items, (B, T, K) of words; padding beyond the longest item is cut off."""
    is_text_BT = batch.segments_BT == 0
    longest = int(is_text_BT.sum(dim=1).max())
    types = {"token_type_ids": _types(batch)[:, :longest]} if takes_types(model) else {}
    said = model(input_ids=batch.ids_BT[:, :longest], attention_mask=is_text_BT[:, :longest].long(), **types).logits
    return said.float()  # type: ignore[no-any-return]


def _types(batch: Batch) -> Tensor:
    assert batch.types_BT is not None, "labelled rows have types"
    return batch.types_BT


@dataclass(frozen=True, slots=True)
class LabelLoss:
    """The loss of a task.

    Attributes:
        weights_K: Weight of each label in training; none: 1.
        smoothing: Share of the truth spread evenly over all labels in training (Szegedy et al., arXiv:1512.00567).
    """

    facts: HeadFacts
    weights_K: tuple[float, ...] | None = None
    smoothing: float = 0.0
    own_forward: ClassVar[bool] = True  # see `Task`

    def __call__(self, model: Any, batch: Batch) -> Tensor:
        """Returns the summed loss of a batch."""
        return self.of(outputs(model, batch), batch, training=model.training)

    def of(self, said: Tensor, batch: Batch, *, training: bool) -> Tensor:
        """Returns the summed loss of what was said."""
        weights = torch.tensor(self.weights_K, device=said.device) if training and self.weights_K else None
        smoothing = self.smoothing if training else 0.0
        if self.facts.task == "token_classification":
            return _cross_entropy(said.flatten(0, 1), batch.targets_BT[:, : said.shape[1]].flatten(), weights, smoothing)
        assert batch.goals_BK is not None, "items have goals"
        if self.facts.task == "classification":
            return _cross_entropy(said, batch.goals_BK[:, 0].long(), weights, smoothing)
        if self.facts.task == "regression":
            return F.mse_loss(said[:, 0], batch.goals_BK[:, 0], reduction="sum")
        goals = batch.goals_BK * (1 - smoothing) + smoothing / 2
        return F.binary_cross_entropy_with_logits(said, goals, pos_weight=weights, reduction="sum") / said.shape[1]


def _cross_entropy(said: Tensor, targets: Tensor, weights: Tensor | None, smoothing: float) -> Tensor:
    return F.cross_entropy(said, targets, weights, ignore_index=IGNORED, label_smoothing=smoothing, reduction="sum")


def watch_labels(loss: LabelLoss, criterion: Criterion) -> Watch:
    """Returns what a look sees: the task's figures, and the one the best look is chosen by."""
    facts = loss.facts
    names = figures_of(facts.task, len(facts.label_names))

    def sums(model: Any, batch: Batch) -> Tensor:
        said = outputs(model, batch)
        found = torch.from_numpy(item_sums(facts, said, batch).sum(axis=0)).to(said.device)
        return torch.cat([loss.of(said, batch, training=False).double()[None], found])

    def figures(totals: Sequence[float]) -> dict[str, float]:
        return {name: float(getattr(label_sums, name)(np.array(totals))) for name in names}

    if criterion == "loss":
        return Watch(sums, figures)
    sign = 1.0 if criterion in LOWER_IS_BETTER else -1.0
    return Watch(sums, figures, lambda found: sign * found[criterion])


def item_sums(facts: HeadFacts, said: Tensor, batch: Batch) -> label_sums.Numbers:
    """Returns the sums of each item, or of each word that is judged."""
    if facts.task == "token_classification":
        targets = batch.targets_BT[:, : said.shape[1]]
        judged = targets != IGNORED
        said, truth = said[judged], targets[judged].cpu().numpy()
    else:
        assert batch.goals_BK is not None, "items have goals"
        truth = batch.goals_BK.cpu().numpy()
    if facts.task == "regression":
        return label_sums.value_sums(facts.value(said[:, 0].double().cpu().numpy()), facts.value(truth[:, 0].astype(np.float64)))
    if facts.task == "multi_label":
        return label_sums.class_sums((said > 0).cpu().numpy(), truth > 0.5)
    numbers = said.argmax(dim=-1).cpu().numpy()
    truth = truth if facts.task == "token_classification" else truth[:, 0].astype(np.int64)
    num_labels = facts.num_outputs
    return label_sums.class_sums(label_sums.one_hot(numbers, num_labels), label_sums.one_hot(truth, num_labels))
