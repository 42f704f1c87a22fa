# ruff: noqa: TID253  (runs in training children only; holds no Spec)
"""What a pretrained model makes of held-out text, by language, beside what counting words makes of it.

In: a model, its objective, the validation text. Out: figures by name. Invariant: each figure is a mean over targets, so that
batches change only rounding.
"""

import logging
import math
from collections import defaultdict
from typing import Any

import torch

from tasks.core.errors import ContractError
from tasks.modeling.batches import Rows, make_batch, numbers_in_order
from tasks.modeling.ngrams import ngram_nats
from tasks.modeling.objectives.base import Objective
from tasks.modeling.precision import autocast
from tasks.modeling.sizing import ASKED_TOKENS
from tasks.modeling.text import TokenText

_log = logging.getLogger("textmill.train")


def held_out_figures(model: Any, objective: Objective, text: TokenText, precision: str) -> dict[str, float]:
    """Returns `<figure>/<language>` and, over all languages, `<figure>`: loss in nats a target, accuracy, bits per byte.

    A language that has too little text for the objective gets none.
    """
    found: dict[str, float] = {}
    totals: defaultdict[str, float] = defaultdict(float)
    for lang in text.languages:
        part = text.of(lang)
        try:
            rows = objective.held_out_rows(part)
        except ContractError as error:  # the training is done, and its model is not to be lost for a figure
            _log.warning("no figures of the validation text in %s: %s", lang, error)
            continue
        sums = _sums(model, objective, rows, precision)
        if objective.counts_bytes and "loss" in sums:
            sums["bits_per_byte"] = (sums["loss"][0] / math.log(2), part.num_bytes)
        for name, (total, number) in ((name, one) for name, one in sums.items() if one[1]):
            found[f"{name}/{lang}"] = total / number
            totals[f"{name}+"] += total
            totals[f"{name}#"] += number
    names = sorted({name.split("/")[0] for name in found})
    return {name: totals[f"{name}+"] / totals[f"{name}#"] for name in names} | found


def _sums(model: Any, objective: Objective, parts: dict[str, Rows], precision: str) -> dict[str, tuple[float, int]]:
    """Returns sum and number of each figure; figures without a target are left out."""
    totals: defaultdict[str, float] = defaultdict(float)
    numbers: defaultdict[str, int] = defaultdict(int)
    device = next(model.parameters()).device
    model.eval()
    for prefix, rows in parts.items():
        for indices in numbers_in_order(rows, ASKED_TOKENS[device.type]):
            with torch.inference_mode(), autocast(device, precision):
                figures = objective.figures(model, make_batch(rows, indices, device))
            for name, (total, number) in figures.items():
                totals[prefix + name] += total
                numbers[prefix + name] += number
    return {name: (totals[name], numbers[name]) for name in totals if numbers[name]}


def counting_figures(train: TokenText, validation: TokenText) -> dict[str, float]:
    """Returns the cross entropy of the validation text under unigrams and bigrams of the training text, see `ngram_nats`."""
    nats = ngram_nats(train.streams, validation.streams, train.vocab_size, train.special.end_of_text)
    return {"unigram_nats": nats.unigram, "bigram_nats": nats.bigram}
