# ruff: noqa: TID253  (runs in a child only; holds no Spec)
"""The child that measures the Fisher information, row by row.

In: a `FisherJob`. Out: `fisher.safetensors`, one tensor a weight and of its shape, and `extra/fisher.json`. Invariant: beside the
model one copy of the weights is held, however many rows are looked at.
"""

from typing import Any

import torch
from safetensors.torch import save_file

from tasks.core.artifact import EXTRA_DIR
from tasks.core.child import report
from tasks.modeling.architecture import num_positions
from tasks.modeling.batches import Ids, Rows, make_batch, step_rows
from tasks.modeling.model import load_model, token_losses
from tasks.modeling.words import load_tokenizer, model_special_ids
from tasks.tuning.conversation_rows import row_length
from tasks.tuning.fisher import FACTS_NAME, FISHER_NAME, FisherFacts, FisherJob
from tasks.tuning.old_text import old_rows


def fisher_main(job: FisherJob) -> None:
    """Measures the diagonal of the Fisher information."""
    device = torch.device(job.device)
    model = load_model(job.base_dir).to(device).eval()
    row_tokens = row_length(job.row_tokens, num_positions(model))
    rows = old_rows(job.corpus_dir, job.tokenizer_digest, load_tokenizer(job.base_dir), model_special_ids(model), row_tokens)
    num_rows = min(job.num_rows, rows.num_rows)
    fisher = diagonal_fisher(model, rows, step_rows(job.seed, 0, num_rows, rows.num_rows), device)
    save_file({name: value.cpu().contiguous() for name, value in fisher.items()}, job.dir / FISHER_NAME)
    facts = FisherFacts(
        num_rows=num_rows,
        num_weights=sum(value.numel() for value in fisher.values()),
        trace=float(sum(value.double().sum() for value in fisher.values())),
    )
    (job.dir / EXTRA_DIR).mkdir(exist_ok=True)
    (job.dir / EXTRA_DIR / FACTS_NAME).write_text(facts.model_dump_json(indent=1), encoding="utf-8")


def diagonal_fisher(model: Any, rows: Rows, indices: Ids, device: torch.device) -> dict[str, torch.Tensor]:
    """Returns, by name of the weight, the mean over rows of the squared gradient of the row's mean loss in nats a target."""
    weights = dict(model.named_parameters())
    total = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    for done in range(1, len(indices) + 1):
        model.zero_grad(set_to_none=True)
        torch.autograd.backward(token_losses(model, make_batch(rows, indices[done - 1 : done], device)).mean())
        for name, weight in weights.items():
            if weight.grad is not None:
                total[name].addcmul_(weight.grad, weight.grad, value=1 / len(indices))
        report(done=done, total=len(indices), unit="rows")
    return total
