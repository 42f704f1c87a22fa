"""The child that tunes on labelled text: loads the base with a head, prepares it by the method, trains, leaves a model folder.

In: a `TuneLabelledJob`. Out: `model/`, `adapter/` where the method makes one, `extra/result.json`, `extra/figures.json` and
what the loop leaves. Invariant: the test split is never read into a row.
"""

import json
import logging
import shutil
import time
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tasks.contracts import Split
from tasks.core.store import write_durably
from tasks.core.tables import read_rows
from tasks.modeling.batches import IGNORED, SpreadRows
from tasks.modeling.folds import deal_out, mean_and_spread, value_strata
from tasks.modeling.heads import Headed, framing_tokenizer, load_with_new_head, save_headed, set_words_apart
from tasks.modeling.job import TrainResult, write_result
from tasks.modeling.labelled_items import ITEM_COLUMNS, Item
from tasks.modeling.labelled_loss import LabelLoss, watch_labels
from tasks.modeling.labelled_rows import LabelledRows, are_spaced, context_tokens, labelled_rows, require_known
from tasks.modeling.labels import GivenWeights
from tasks.modeling.loop import Loop
from tasks.modeling.parallel import World, joined
from tasks.modeling.task import Place, Task
from tasks.tuning.job import TuneLabelledJob
from tasks.tuning.labelled_methods import prepare_with_head
from tasks.tuning.prepared import Prepared
from tasks.tuning.train import finish, tell

_MOST_UNKNOWN = 0.05
_SPLITS: tuple[Split, ...] = ("train", "validation")
_COLUMNS = (*ITEM_COLUMNS, "group", "made_by")
Items = dict[Split, list[Item]]
_log = logging.getLogger("textmill.tune")


@dataclass(frozen=True, slots=True)
class _Training:
    """A training on some items, ready to run."""

    tokenizer: Any
    headed: Headed
    prepared: Prepared
    task: Task

    @property
    def notes(self) -> dict[str, int]:
        """What was too long, counted over both splits."""
        notes = Counter(self.task.train.notes) + Counter(self.task.validation.notes)
        return {name: notes[name] for name in self.task.train.notes}


def tune_labelled_main(job: TuneLabelledJob) -> None:
    """Tunes a model on labelled text, and before that on folds of it where the job says so."""
    start = time.monotonic()
    items = {split: [row for row in read_rows(job.items, _COLUMNS) if row["split"] == split] for split in _SPLITS}
    with joined(job.execution.device, job.execution.sharding) as world:
        folds = fold_figures(job, items, world) if job.num_folds is not None else {}
        training = _set_up(job, items)
        if world.leads:
            tell(training.prepared)
            _log.info("new: %s", ", ".join(training.headed.new) or "nothing, the base's head goes on")
        result = _loop(job, training, world, job.execution.extra).run()
        if world.leads:
            _keep(job, training, result.model_copy(update={"notes": result.notes | training.notes}), folds, start)


def _set_up(job: TuneLabelledJob, items: Items) -> _Training:
    """Returns a fresh model and its rows.

    Raises:
        ContractError: The tokenizer does not know the text, or no item fits.
    """
    tokenizer = framing_tokenizer(job.base_dir)
    if job.facts.task == "token_classification" and are_spaced(items["train"]):
        set_words_apart(tokenizer)
    headed = load_with_new_head(job.base_dir, tokenizer, job.facts, job.seed, job.dropout)
    train, validation = (_rows(job, headed.model, tokenizer, items[split], split) for split in _SPLITS)
    require_known(train, tokenizer, _MOST_UNKNOWN)
    loss = LabelLoss(job.facts, label_weights(job, train), job.label_smoothing)
    watch = watch_labels(loss, job.criterion)
    judged = SpreadRows(train, validation.num_rows)
    task = Task(loss, train, validation, order=train.order, watch=watch, judged=judged, has_new_head=bool(headed.new))
    return _Training(tokenizer, headed, prepare_with_head(job.method, headed.model, headed.new, job.seed), task)


def _loop(job: TuneLabelledJob, training: _Training, world: World, folder: Path, prefix: str = "") -> Loop:
    execution, prepared = job.execution, training.prepared
    place = Place(folder, world, job.precision, execution.micro_batch_rows, execution.compute, prefix)
    return Loop(prepared.model, training.task, job.train, job.optim, job.seed, place, prepared.plan)


def fold_figures(job: TuneLabelledJob, items: Items, world: World) -> dict[str, float]:
    """Trains without each fold of the training items in turn, and returns mean and spread of what they are judged by it.

    The validation items select, as in the training itself. A fold that is done is not trained again by a resumed job.
    """
    assert job.num_folds is not None
    parts = fold_parts(items["train"], job.facts.task, job.num_folds, job.seed)
    found = []
    for number in range(job.num_folds):
        folder = job.execution.extra / "folds" / str(number)
        done = folder / "figures.json"
        if not done.exists():
            rest, held = parts[number]
            figures = _judged(job, items | {"train": rest}, held, world, folder)
            if world.leads:
                write_durably(done, json.dumps(figures))
                shutil.rmtree(folder / "checkpoints")
            world.wait()
        found.append(json.loads(done.read_text(encoding="utf-8")))
        if world.leads:
            _log.info("fold %d of %d: %s", number + 1, job.num_folds, found[-1])
    return mean_and_spread(found)


def fold_parts(train: list[Item], task: str, num_folds: int, seed: int) -> list[tuple[list[Item], list[Item]]]:
    """Returns, for each fold, the items trained on and those judged: copies go with their group, and judge nothing.

    Pseudo-labels are in no fold: the model that gave them was trained on all items.
    """
    read = [row for row in train if row["made_by"] is None]
    own = [row for row in train if row["made_by"] != "pseudo_labels"]
    strata = value_strata([row["value"] for row in read]) if task == "regression" else [row["labels"] for row in read]
    folds = deal_out([row["group"] for row in read], strata, num_folds, seed)
    found = []
    for number in range(num_folds):
        held = [row for row, fold in zip(read, folds, strict=True) if fold == number]
        groups = {row["group"] for row in held}
        found.append(([row for row in own if row["group"] not in groups], held))
    return found


def _judged(job: TuneLabelledJob, items: Items, held: list[Item], world: World, folder: Path) -> dict[str, float]:
    folder.mkdir(parents=True, exist_ok=True)
    training = _set_up(job, items)
    judged = _rows(job, training.headed.model, training.tokenizer, held, "train")
    training = replace(training, task=replace(training.task, judged=judged))
    return _loop(job, training, world, folder, f"fold-{folder.name}/").run().judged


def _rows(job: TuneLabelledJob, model: Any, tokenizer: Any, items: list[Item], split: Split) -> LabelledRows:
    return labelled_rows(items, tokenizer, job.facts, _longest(job, model, tokenizer), job.too_long, split)


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


def _keep(job: TuneLabelledJob, training: _Training, result: TrainResult, folds: dict[str, float], start: float) -> None:
    """Writes the model, the adapter where there is one, and the results."""
    tuned, result = finish(job, training.prepared, result, start, folds)
    save_headed(tuned, training.tokenizer, _longest(job, tuned, training.tokenizer), job.execution.model)
    write_result(job.execution, result)
