# ruff: noqa: TID253  (runs in scoring children only; holds no Spec)
"""What a labelled model says of items.

In: a model folder and rows of `items.parquet`. Out: one `Prediction` an item, in their order. Invariants: products are in fp32,
as the model is served; an item's prediction does not depend on what it was asked beside, but for rounding.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tasks.modeling.batches import IGNORED, Ids, make_batch
from tasks.modeling.heads import framing_tokenizer, head_facts, load_headed
from tasks.modeling.labelled_items import Item, Prediction
from tasks.modeling.labelled_loss import outputs
from tasks.modeling.labelled_rows import LabelledRows, context_tokens, labelled_rows
from tasks.modeling.labels import HeadFacts
from tasks.modeling.sizing import ASKED_TOKENS

Tell = Callable[[int, int], None]


def predict(
    folder: Path, items: Sequence[Item], device: str, tell: Tell | None = None
) -> tuple[list[Prediction], dict[str, int]]:
    """Returns what the model of a folder says of items, and how many of them were too long and were cut."""
    found, notes, _ = predict_timed(folder, items, device, tell)
    return found, notes


def predict_timed(
    folder: Path, items: Sequence[Item], device: str, tell: Tell | None = None
) -> tuple[list[Prediction], dict[str, int], float]:
    """Returns what `predict` does, and the tokens that were read a second."""
    where, facts, tokenizer = torch.device(device), head_facts(folder), framing_tokenizer(folder)
    model = load_headed(folder).to(where).eval()
    rows = labelled_rows(items, tokenizer, facts, context_tokens(model, tokenizer), "truncate", "scored")
    found: list[Prediction | None] = [None] * len(items)
    order, size = np.argsort(rows.lengths, kind="stable"), max(1, ASKED_TOKENS[where.type] // rows.row_tokens)
    start_s = time.perf_counter()
    for start in range(0, len(order), size):
        part = order[start : start + size]
        with torch.inference_mode():
            for number, one in zip(part, _of_batch(model, facts, rows, items, part, where), strict=True):
                found[int(number)] = one
        if tell:
            tell(start + len(part), len(order))
    tokens_per_s = float(rows.lengths.sum()) / (time.perf_counter() - start_s)
    return [one for one in found if one is not None], rows.notes, tokens_per_s


def _of_batch(
    model: Any, facts: HeadFacts, rows: LabelledRows, items: Sequence[Item], part: Ids, where: torch.device
) -> list[Prediction]:
    batch = make_batch(rows, part, where)
    said = outputs(model, batch)
    if facts.task == "regression":
        return [Prediction((), (), float(value), None) for value in facts.value(said[:, 0].double().cpu().numpy())]
    if facts.task == "token_classification":
        return [
            _words(facts, said[row], batch.targets_BT[row], rows.examples[number].words, len(items[number]["words"]))
            for row, number in enumerate(map(int, part))
        ]
    assert batch.goals_BK is not None, "items have goals"
    losses = _losses(facts, said, batch.goals_BK)
    scores = (said.sigmoid() if facts.task == "multi_label" else said.softmax(dim=-1)).double().cpu().numpy()
    return [Prediction(_labels(facts, one), tuple(map(float, one)), None, loss) for one, loss in zip(scores, losses, strict=True)]


def _labels(facts: HeadFacts, scores_K: Any) -> tuple[str, ...]:
    if facts.task == "multi_label":
        return tuple(name for name, score in zip(facts.label_names, scores_K, strict=True) if score > 0.5)
    return (facts.label_names[int(np.argmax(scores_K))],)


def _losses(facts: HeadFacts, said_BK: Tensor, goals_BK: Tensor) -> list[float]:
    if facts.task == "multi_label":
        losses_B = F.binary_cross_entropy_with_logits(said_BK, goals_BK, reduction="none").mean(dim=1)
    else:
        losses_B = F.cross_entropy(said_BK, goals_BK[:, 0].long(), reduction="none")
    return [float(loss) for loss in losses_B]


def _words(facts: HeadFacts, said_TK: Tensor, targets_T: Tensor, words: Sequence[int], num_words: int) -> Prediction:
    """Returns what is said of each of `num_words`; `words` are the numbers of those that are judged, in order."""
    targets_T = targets_T[: len(said_TK)]
    judged = targets_T != IGNORED
    chances = said_TK[judged].log_softmax(dim=-1).double().cpu().numpy()
    numbers, truth = chances.argmax(axis=-1), targets_T[judged].cpu().numpy()
    labels: list[str | None] = [None] * num_words
    scores = np.zeros(max(words, default=-1) + 1)
    scores[list(words)] = np.exp(chances.max(axis=-1, initial=-np.inf))
    for word, number in zip(words, numbers, strict=True):
        labels[word] = facts.label_names[number]
    nats = -float(chances[np.arange(len(truth)), truth].sum())
    return Prediction(tuple(labels), tuple(map(float, scores)), None, nats)
