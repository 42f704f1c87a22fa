"""The pretraining child: builds a model, trains it, leaves a model folder.

In: a `PretrainJob`. Out: `model/`, `extra/result.json` and what the loop leaves. Invariant: the same job gives the same
files, whether or not it was cut off on the way.
"""

from pydantic import BaseModel

from tasks.modeling.held_out import counting_figures, held_out_figures
from tasks.modeling.job import RESULT_NAME, Execution, PretrainJob
from tasks.modeling.loop import Loop
from tasks.modeling.model import build_model, save_model
from tasks.modeling.parallel import joined
from tasks.modeling.task import Place, Task
from tasks.modeling.text import TokenText, open_text
from tasks.modeling.words import load_tokenizer, role_ids, special_ids


def pretrain_main(job: PretrainJob) -> None:
    """Pretrains a model."""
    objective = job.objective
    train, validation = read_text(job)
    model = build_model(job.model, job.vocab_size, train.special, job.seed, objective.auto_class, train.roles)
    rows, looked_at = objective.rows(train), objective.held_out_rows(validation)[""]
    task = Task(objective.loss, rows, looked_at, job.validation_bytes if objective.counts_bytes else None)
    with joined(job.execution.device, job.execution.sharding) as world:
        place = Place(job.execution.extra, world, job.precision, job.execution.micro_batch_rows, job.execution.compute)
        result = Loop(model, task, job.train, job.optim, job.seed, place).run()
        if world.leads:  # the model is whole here, and only here
            model.to(world.device)
            figures = held_out_figures(model, objective, validation, job.precision) | counting_figures(train, validation)
            save_model(model, job.tokenizer_dir, train.special, job.execution.model)
            write_result(job.execution, result.model_copy(update={"notes": result.notes | rows.notes, "figures": figures}))


def write_result(execution: Execution, result: BaseModel) -> None:
    """Leaves the result where the stage reads it."""
    (execution.extra / RESULT_NAME).write_text(result.model_dump_json(indent=1), encoding="utf-8")


def read_text(job: PretrainJob) -> tuple[TokenText, TokenText]:
    """Returns the text to learn from and the text to look at."""
    tokenizer = load_tokenizer(job.tokenizer_dir)
    facts = {
        "special": special_ids(tokenizer, job.special_tokens),
        "roles": role_ids(tokenizer, job.special_tokens, job.objective.special_tokens()),
        "tokenizer": tokenizer,
        "vocab_size": job.vocab_size,
        "context_tokens": job.model.context_tokens,
        "seed": job.seed,
    }
    train = open_text(job.corpus_dir, "train", job.tokenizer_digest, **facts)
    return train, open_text(job.corpus_dir, "validation", job.tokenizer_digest, **facts)
