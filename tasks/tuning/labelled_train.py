"""The child that tunes on labelled text: loads the base with a head, prepares it by the method, trains, leaves a model folder.

In: a `TuneLabelledJob`. Out: `model/`, `adapter/` where the method makes one, `extra/result.json`, `extra/figures.json` and
what the loop leaves. Invariant: the test split is never read into a row.
"""

import logging
import shutil
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from tasks.contracts import Split
from tasks.core.tables import read_rows
from tasks.modeling.adapted import ADAPTER, bind
from tasks.modeling.batches import IGNORED
from tasks.modeling.heads import Headed, framing_tokenizer, load_with_new_head, save_headed
from tasks.modeling.job import TrainResult
from tasks.modeling.labelled_items import ITEM_COLUMNS
from tasks.modeling.labelled_loss import LabelLoss, watch_labels
from tasks.modeling.labelled_rows import LabelledRows, context_tokens, labelled_rows, require_known
from tasks.modeling.labels import GivenWeights
from tasks.modeling.loop import Loop
from tasks.modeling.model import num_parameters
from tasks.modeling.parallel import joined
from tasks.modeling.task import Place, Task
from tasks.modeling.train import write_result
from tasks.tuning.figures import measure, write_figures
from tasks.tuning.labelled_job import TuneLabelledJob
from tasks.tuning.labelled_methods import prepare_with_head
from tasks.tuning.prepared import Prepared

_MOST_UNKNOWN = 0.05
_log = logging.getLogger("textmill.tune")


def tune_labelled_main(job: TuneLabelledJob) -> None:
    """Tunes a model on labelled text."""
    start = time.monotonic()
    tokenizer = framing_tokenizer(job.base_dir)
    headed = load_with_new_head(job.base_dir, tokenizer, job.facts, job.seed, job.dropout)
    train, validation = (_rows(job, headed, tokenizer, split) for split in ("train", "validation"))
    require_known(train, tokenizer, _MOST_UNKNOWN)
    prepared = prepare_with_head(job.method, headed.model, headed.new, job.seed)
    loss = LabelLoss(job.facts, label_weights(job, train), job.label_smoothing)
    with joined(job.execution.device, job.execution.sharding) as world:
        place = Place(job.execution.extra, world, job.precision, job.execution.micro_batch_rows, job.execution.compute)
        task = Task(loss, train, validation, order=train.order, watch=watch_labels(loss, job.criterion))
        if world.leads:
            _tell(headed, prepared)
        result = Loop(prepared.model, task, job.train, job.optim, job.seed, place, prepared.plan).run()
        if world.leads:
            notes = Counter(train.notes) + Counter(validation.notes)
            counted = {name: notes[name] for name in train.notes}
            _keep(job, prepared, tokenizer, result.model_copy(update={"notes": result.notes | counted}), start)


def _rows(job: TuneLabelledJob, headed: Headed, tokenizer: Any, split: Split) -> LabelledRows:
    items = (row for row in read_rows(job.items, ITEM_COLUMNS) if row["split"] == split)
    return labelled_rows(items, tokenizer, job.facts, _longest(job, headed.model, tokenizer), job.too_long, split)


def _longest(job: TuneLabelledJob, model: Any, tokenizer: Any) -> int:
    room = context_tokens(model, tokenizer)
    return room if job.max_tokens is None else min(room, job.max_tokens)


def label_weights(job: TuneLabelledJob, train: LabelledRows) -> tuple[float, ...] | None:
    """Returns the weight of each label in the training loss, see `tasks.modeling.labels.BalancedWeights`."""
    names, how = job.facts.label_names, job.class_weights
    if how is None:
        return None
    if isinstance(how, GivenWeights):
        return tuple(how.weights.get(name, 1.0) for name in names)
    if job.facts.task == "multi_label":
        yes = np.sum([example.goals for example in train.examples], axis=0)
        return tuple(float((train.num_rows - count) / max(1.0, count)) for count in yes)
    numbers = (
        np.concatenate([example.targets[example.targets != IGNORED] for example in train.examples])
        if job.facts.task == "token_classification"
        else np.array([int(example.goals[0]) for example in train.examples])
    )
    counts = np.bincount(numbers, minlength=len(names))
    return tuple(float(len(numbers) / (np.sum(counts > 0) * count)) if count else 1.0 for count in counts)


def _tell(headed: Headed, prepared: Prepared) -> None:
    num_trained = num_parameters(prepared.model, trained_only=True)
    _log.info("%s of %s weights are trained", f"{num_trained:,}", f"{num_parameters(prepared.model):,}")
    _log.info("new: %s", ", ".join(headed.new) or "nothing, the base's head goes on")
    for note in prepared.notes:
        _log.info("%s", note)


def _keep(job: TuneLabelledJob, prepared: Prepared, tokenizer: Any, result: TrainResult, start: float) -> None:
    """Writes the model, the adapter where there is one, and the results."""
    execution, adapter = job.execution, job.execution.dir / ADAPTER
    shutil.rmtree(adapter, ignore_errors=True)  # what a killed attempt left
    tuned = prepared.finish(adapter)
    if adapter.exists():
        bind(adapter, Path(job.base_dir), job.base_digest)
    result = result.model_copy(update={"num_parameters": num_parameters(tuned)})
    seconds = time.monotonic() - start
    write_figures(execution.extra, measure(prepared.model, result, job.optim.peak, seconds, adapter, execution.extra))
    save_headed(tuned, tokenizer, _longest(job, tuned, tokenizer), execution.model)
    write_result(execution, result)
