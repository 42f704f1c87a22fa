"""The pretraining child: builds a model, trains it, leaves a model folder.

In: a `PretrainJob`. Out: `model/`, `extra/result.json` and what the loop leaves. Invariant: the same job gives the same
files, whether or not it was cut off on the way.
"""

from pydantic import BaseModel

from tasks.contracts import Split
from tasks.core.shards import open_shard, shard_paths
from tasks.modeling.batches import StreamRows
from tasks.modeling.job import RESULT_NAME, Execution, PretrainJob
from tasks.modeling.loop import Loop
from tasks.modeling.model import build_model, save_model
from tasks.modeling.parallel import joined
from tasks.modeling.task import Place, Task
from tasks.modeling.words import load_tokenizer, special_ids


def pretrain_main(job: PretrainJob) -> None:
    """Pretrains a model."""
    special = special_ids(load_tokenizer(job.tokenizer_dir), job.special_tokens)
    model = build_model(job.model, job.vocab_size, special, job.seed)
    rows = _stream(job, special.end_of_text, "train")
    task = Task(job.objective.loss, rows, _stream(job, special.end_of_text, "validation"), job.validation_bytes)
    with joined(job.execution.device, job.execution.sharding) as world:
        place = Place(job.execution.extra, world, job.precision, job.execution.micro_batch_rows, job.execution.compute)
        result = Loop(model, task, job.train, job.optim, job.seed, place).run()
        if world.leads:
            save_model(model, job.tokenizer_dir, special, job.execution.model)
            notes = result.notes | {"documents_continued_in_next_row": rows.num_split_documents()}
            write_result(job.execution, result.model_copy(update={"notes": notes}))


def write_result(execution: Execution, result: BaseModel) -> None:
    """Leaves the result where the stage reads it."""
    (execution.extra / RESULT_NAME).write_text(result.model_dump_json(indent=1), encoding="utf-8")


def _stream(job: PretrainJob, separator: int, split: Split) -> StreamRows:
    shards = [open_shard(path, job.tokenizer_digest) for path in shard_paths(job.corpus_dir, split)]
    return StreamRows(shards, job.model.context_tokens, separator)
