"""The pretraining child: builds a model or loads a base, trains it, leaves a model folder.

In: a `PretrainJob`. Out: `model/`, `extra/result.json` and what the loop leaves. Invariant: the same job gives the same
files, whether or not it was cut off on the way.
"""

import json
from functools import partial
from pathlib import Path
from typing import Any

from tasks.contracts import Split
from tasks.modeling.batches import Rows
from tasks.modeling.held_out import counting_figures, held_out_figures
from tasks.modeling.job import PretrainJob, write_result
from tasks.modeling.loop import Loop
from tasks.modeling.memory import where_it_fits
from tasks.modeling.model import build_model, load_model, save_model
from tasks.modeling.parallel import joined
from tasks.modeling.pieces import even_targets
from tasks.modeling.set_rows import with_replay
from tasks.modeling.task import Place, Task
from tasks.modeling.text import TokenText, open_text
from tasks.modeling.words import load_tokenizer, role_ids, special_ids


def pretrain_main(job: PretrainJob) -> None:
    """Pretrains a model."""
    objective = job.objective
    train, validation = read_text(job)
    model = _model(job, train)
    rows, looked_at = _rows(job, train), objective.held_out_rows(validation)[""]
    task = Task(objective.loss, rows, looked_at, job.validation_bytes if objective.counts_bytes else None, objective.parts)
    with joined(job.execution.device, job.execution.sharding) as world:
        place = Place(job.execution.extra, world, job.precision, job.execution.micro_batch_rows, job.execution.compute)
        result = Loop(model, task, job.train, job.optim, job.seed, place).run()
        if world.leads:  # the model is whole here, and only here
            save_model(model, job.tokenizer_dir, train.special, job.execution.model)
            read = partial(held_out_figures, objective=objective, text=validation, precision=job.precision)
            figures = where_it_fits(model, world.device, read) | counting_figures(train, validation)
            write_result(job.execution, result.model_copy(update={"notes": result.notes | rows.notes, "figures": figures}))


def _model(job: PretrainJob, text: TokenText) -> Any:
    """Returns new weights, or those of the base."""
    auto_class = job.objective.auto_class
    if job.base_dir is not None:
        return load_model(job.base_dir, auto_class)
    return build_model(job.model, job.vocab_size, text.special, job.seed, auto_class, text.roles)


def _rows(job: PretrainJob, train: TokenText) -> Rows:
    """Returns the rows to learn from, those of an earlier corpus among them where that is asked."""
    rows = job.objective.rows(train)
    if job.replay is None:
        return rows
    old = job.objective.rows(_text(job, job.replay.corpus_dir, "train"))
    even_targets((rows, old))
    return with_replay(rows, old, job.replay.share, rows.num_rows)


def read_text(job: PretrainJob) -> tuple[TokenText, TokenText]:
    """Returns the text to learn from and the text to look at."""
    return _text(job, job.corpus_dir, "train"), _text(job, job.corpus_dir, "validation")


def _decoder_start(base_dir: Path | None) -> int | None:
    if base_dir is None:
        return None
    start: int | None = json.loads((base_dir / "config.json").read_text(encoding="utf-8")).get("decoder_start_token_id")
    return start


def _text(job: PretrainJob, folder: Path, split: Split) -> TokenText:
    tokenizer = load_tokenizer(job.tokenizer_dir)
    facts = {
        "special": special_ids(tokenizer, job.special_tokens),
        "roles": role_ids(tokenizer, job.special_tokens, job.objective.special_tokens()),
        "tokenizer": tokenizer,
        "vocab_size": job.vocab_size,
        "context_tokens": job.model.context_tokens,
        "seed": job.seed,
        "decoder_start": _decoder_start(job.base_dir),
    }
    return open_text(folder, split, job.tokenizer_digest, **facts)
