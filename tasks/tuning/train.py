"""The tuning child: loads the base, prepares it by the method, trains, leaves a model folder.

In: a `TuneJob`. Out: `model/`, what the method keeps beside it, `extra/result.json` and what the loop leaves. Invariant: the
test split is never read into an example.
"""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from tasks.contracts import Split
from tasks.core.errors import ContractError
from tasks.modeling.batches import Example, ExampleRows
from tasks.modeling.chat import fit, mark_answers
from tasks.modeling.loop import Loop
from tasks.modeling.model import load_model, num_parameters, save_model
from tasks.modeling.objectives.causal import CausalSpec
from tasks.modeling.parallel import joined
from tasks.modeling.task import Place, Task
from tasks.modeling.train import write_result
from tasks.modeling.words import SpecialIds, load_tokenizer, model_special_ids
from tasks.tuning.job import TuneJob


def tune_main(job: TuneJob) -> None:
    """Tunes a model."""
    tokenizer, model = load_tokenizer(job.base_dir), load_model(job.base_dir)
    special = model_special_ids(model)
    notes: Counter[str] = Counter(items=0, too_long=0, dropped=0)
    train, validation = (_rows(job, tokenizer, special, split, model.config, notes) for split in ("train", "validation"))
    prepared = job.method.prepare(model, job.seed)
    with joined(job.execution.device, job.execution.sharding) as world:
        place = Place(job.execution.extra, world, job.precision, job.execution.micro_batch_rows, job.execution.compute)
        task = Task(CausalSpec(kind="causal").loss, train, validation)
        result = Loop(prepared.model, task, job.train, job.optim, job.seed, place).run()
        if world.leads:
            tuned = prepared.finish(job.execution.dir)
            save_model(tuned, job.base_dir, special, job.execution.model)
            figures = {"num_parameters": num_parameters(tuned), "notes": result.notes | notes}
            write_result(job.execution, result.model_copy(update=figures))


def _rows(job: TuneJob, tokenizer: Any, special: SpecialIds, split: Split, config: Any, notes: Counter[str]) -> ExampleRows:
    """Packs the conversations of a split; counts what is cut or dropped."""
    max_tokens = config.max_position_embeddings + 1  # inputs and targets are shifted by one
    examples = []
    for messages in read_messages(job.conversations_dir, split):
        marked = mark_answers(tokenizer, messages, special.turn_end)
        fitted = fit(marked, max_tokens, job.too_long)
        notes.update(items=1, too_long=len(marked.ids) > max_tokens, dropped=fitted is None)
        if fitted is not None:
            examples.append(Example.of(fitted.ids, fitted.is_target))
    if not examples:
        raise ContractError(
            f"no {split} conversation of {job.conversations_dir} fits a row of {config.max_position_embeddings} tokens; "
            "train the base with a longer model.context_tokens, or set tune.too_long to truncate"
        )
    return ExampleRows(examples, config.max_position_embeddings, special.pad)


def read_messages(folder: Path, split: Split) -> list[list[dict[str, str]]]:
    """Reads the conversations of a split, in the order of the file."""
    with (folder / "conversations.jsonl").open(encoding="utf-8") as file:
        items = [json.loads(line) for line in file]
    return [item["messages"] for item in items if item["split"] == split]
