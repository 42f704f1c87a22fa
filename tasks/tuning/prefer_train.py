# ruff: noqa: TID253  (runs in tuning children only; holds no Spec)
"""The preference child: what the base says of both answers, once; then the common loop with a loss on the difference.

In: a `PreferJob`. Out: what tuning leaves, and `extra/reference.safetensors`. Invariant: a training that was cut off goes on with
the reference it had.
"""

import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tasks.core.errors import ContractError
from tasks.modeling.architecture import num_positions
from tasks.modeling.batches import Batch, SpreadRows, make_batch, numbers_in_order
from tasks.modeling.loop import Loop
from tasks.modeling.memory import where_it_fits
from tasks.modeling.parallel import World, joined
from tasks.modeling.precision import autocast
from tasks.modeling.sizing import MICRO_TOKENS
from tasks.modeling.task import Place, Task
from tasks.modeling.words import SpecialIds, load_tokenizer, model_special_ids
from tasks.tuning.conversation_rows import row_length
from tasks.tuning.job import PreferJob
from tasks.tuning.preference_losses import DpoSpec, OrpoSpec
from tasks.tuning.preference_rows import PairRows, answer_sums, pair_numbers, read_pairs
from tasks.tuning.train import keep

_REFERENCE = "reference.safetensors"


def prefer_main(job: PreferJob) -> None:
    """Trains a model on pairs."""
    start = time.monotonic()
    model = job.method.load(job.base_dir)
    job.method.check_model(model)
    special = model_special_ids(model)
    notes: Counter[str] = Counter(items=0, too_long=0, dropped=0)
    train, validation = _rows(job, model, special, notes)
    with joined(job.execution.device, job.execution.sharding) as world:
        reference = _reference(job, model, (train, validation), world) if job.loss.needs_reference else torch.zeros(0, 2)
        prepared = job.method.prepare(model, job.seed)
        loss = PairLoss(job.loss, reference)
        place = Place(job.execution.extra, world, job.precision, job.execution.micro_batch_rows, job.execution.compute)
        task = Task(loss, train, validation, judged=SpreadRows(train, validation.num_rows))
        result = Loop(prepared.model, task, job.train, job.optim, job.seed, place, prepared.plan).run()
        if world.leads:
            preferred = partial(_preferred, loss=loss, rows=validation, precision=job.precision)
            figures = where_it_fits(prepared.model, world.device, preferred)
            num_tokens = result.num_tokens * train.num_answer_tokens // train.num_rows
            update = {"num_tokens": num_tokens, "figures": figures, "notes": result.notes | notes}
            keep(job, prepared, special, result.model_copy(update=update), start)


class PairLoss:
    """The summed loss of a batch of pairs; `reference` (P, 2) holds the base's log-probabilities by the pair's number."""

    def __init__(self, spec: DpoSpec | OrpoSpec, reference: Tensor) -> None:
        self._spec, self._reference = spec, reference

    def __call__(self, model: Any, batch: Batch) -> Tensor:
        """Returns the sum over pairs."""
        return self._spec.losses(*self._values(model, batch)).sum()

    def margins(self, model: Any, batch: Batch) -> Tensor:
        """Returns the margin (B,) of each pair."""
        return self._spec.margins(*self._values(model, batch))

    def _values(self, model: Any, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        logp_B2, counts_B2 = answer_sums(model, batch)
        if not self._spec.needs_reference:
            return logp_B2, counts_B2, torch.zeros_like(logp_B2)
        self._reference = self._reference.to(logp_B2.device)
        return logp_B2, counts_B2, self._reference[pair_numbers(batch)]


def _rows(job: PreferJob, model: Any, special: SpecialIds, notes: Counter[str]) -> tuple[PairRows, PairRows]:
    """Returns the pairs to learn from and those to look at, numbered on."""
    tokenizer = load_tokenizer(job.base_dir)
    context_tokens = num_positions(model)
    if context_tokens is not None:
        context_tokens -= job.method.num_virtual
    max_tokens = row_length(job.row_tokens, context_tokens, [context_tokens or 0], stage="preference.learn")
    read = {}
    for split in ("train", "validation"):
        read[split] = read_pairs(job.preferences_dir, split, tokenizer, special.turn_end, max_tokens, notes)
        if not read[split]:
            raise ContractError(
                f"no {split} pair of {job.preferences_dir} fits {max_tokens} tokens a text; raise preference.learn.row_tokens, "
                "or take a base with a longer context"
            )
    train = PairRows(read["train"], special.pad)
    return train, PairRows(read["validation"], special.pad, first_number=train.num_rows)


def _reference(job: PreferJob, model: Any, parts: tuple[PairRows, ...], world: World) -> Tensor:
    """Returns the base's log-probabilities (P, 2) of all pairs: those kept by an earlier attempt, else computed now."""
    path: Path = job.execution.extra / _REFERENCE
    if path.exists():
        kept: Tensor = load_file(path)["logp"]
        return kept
    found = torch.cat([_logp(model.to(world.device).eval(), rows, job.precision) for rows in parts])
    world.wait()  # nobody finds a file that another process has just begun
    if world.leads:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({"logp": found}, path.with_suffix(".partial"))
        path.with_suffix(".partial").rename(path)
    return found


def _logp(model: Any, rows: PairRows, precision: str) -> Tensor:
    return torch.cat([answer_sums(model, batch)[0].cpu() for batch in _looked_at(model, rows, precision)])


def _looked_at(model: Any, rows: PairRows, precision: str) -> Any:
    """Yields all pairs in order, in batches, while nothing is learned."""
    device = next(model.parameters()).device
    with torch.no_grad(), autocast(device, precision):
        for numbers in numbers_in_order(rows, MICRO_TOKENS[device.type]):
            yield make_batch(rows, numbers, device)


def _preferred(model: Any, loss: PairLoss, rows: PairRows, precision: str) -> dict[str, float]:
    """Returns how often, and by how much, the better answer of the validation pairs is preferred."""
    margins = torch.cat([loss.margins(model.eval(), batch).float().cpu() for batch in _looked_at(model, rows, precision)])
    return {"preference_accuracy": float((margins > 0).float().mean()), "preference_margin": float(margins.mean())}
