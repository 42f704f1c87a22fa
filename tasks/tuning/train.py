"""The tuning child: loads the base, prepares it by the method, trains, leaves a model folder.

In: a `TuneJob`. Out: `model/`, what the method keeps beside it, `extra/result.json`, `extra/figures.json` and what the loop
leaves. Invariant: the test split is never read into an example.
"""

import logging
import shutil
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from tasks.contracts import Split
from tasks.core.errors import RecipeError
from tasks.modeling.adapted import ADAPTER, bind, put_together
from tasks.modeling.batches import Batch, Rows, SpreadRows
from tasks.modeling.job import TrainResult, write_result
from tasks.modeling.loop import Loop
from tasks.modeling.model import num_parameters, save_model
from tasks.modeling.objectives.causal import CausalSpec
from tasks.modeling.parallel import joined
from tasks.modeling.set_rows import RowsOfNoSet, SetRows, rows_by_weight, watch_sets
from tasks.modeling.task import Place, Task, Watch
from tasks.modeling.words import SpecialIds, load_tokenizer, model_special_ids
from tasks.tuning.conversation_rows import packed_conversations, set_weights
from tasks.tuning.figures import measure, write_figures
from tasks.tuning.job import TuneJob, TuningJob
from tasks.tuning.noise import add_noise
from tasks.tuning.old_text import old_rows
from tasks.tuning.prepared import Prepared

if TYPE_CHECKING:
    from torch import Tensor

_SPLITS: tuple[Split, ...] = ("train", "validation")
_log = logging.getLogger("textmill.tune")


def tune_main(job: TuneJob) -> None:
    """Tunes a model."""
    start = time.monotonic()
    tokenizer, model = load_tokenizer(job.base_dir), job.method.load(job.base_dir)
    special = model_special_ids(model)
    if model.config.is_encoder_decoder and (job.replay or job.ewc):
        raise RecipeError(f"tune.replay and tune.ewc read text on and on, which {type(model).__name__} does not: set both to off")
    prepared = job.method.prepare(model, job.seed)
    notes: Counter[str] = Counter(items=0, too_long=0, dropped=0)
    packed = {split: packed_conversations(job, tokenizer, special, split, model, notes) for split in _SPLITS}
    validation, watch = _looked_at(packed["validation"])
    if job.embedding_noise is not None:
        add_noise(prepared.model, job.embedding_noise)
    with joined(job.execution.device, job.execution.sharding) as world:
        place = Place(job.execution.extra, world, job.precision, job.execution.micro_batch_rows, job.execution.compute)
        learned = _learned(job, packed["train"])
        train = _with_old(job, learned, tokenizer, special)
        judged = RowsOfNoSet(SpreadRows(learned, validation.num_rows), len(packed["validation"]))
        task = Task(_loss(job, prepared.model), train, validation, watch=watch, judged=judged)
        if world.leads:
            tell(prepared)
        result = Loop(prepared.model, task, job.train, job.optim, job.seed, place, prepared.plan).run()
        if world.leads:
            notes.update(task.train.notes)
            keep(job, prepared, special, result.model_copy(update={"notes": result.notes | notes}), start)


def _loss(job: TuneJob, model: Any) -> "Callable[[Any, Batch], Tensor]":
    """Returns what is learned, with the weights held where that is asked."""
    plain = CausalSpec(kind="causal").loss
    return plain if job.ewc is None else job.ewc.held(plain, model, job.fisher_dir)


def _with_old(job: TuneJob, rows: Rows, tokenizer: Any, special: SpecialIds) -> Rows:
    """Returns the rows, with pretraining text among them where that is asked."""
    if job.replay is None:
        return rows
    return job.replay.mixed(rows, old_rows(job.corpus_dir, job.tokenizer_digest, tokenizer, special, rows.row_tokens))


def tell(prepared: Prepared) -> None:
    """Says in the log how much is trained, and what the method wants known."""
    num_trained = num_parameters(prepared.model, trained_only=True)
    _log.info("%s of %s weights are trained", f"{num_trained:,}", f"{num_parameters(prepared.model):,}")
    for note in prepared.notes:
        _log.info("%s", note)


def keep(job: TuningJob, prepared: Prepared, special: SpecialIds, result: TrainResult, start: float) -> None:
    """Writes the model, the adapter where there is one, and the results."""
    tuned, result = finish(job, prepared, result, start)
    adapter, model = job.execution.dir / ADAPTER, job.execution.model
    if tuned is None:
        put_together(job.base_dir, adapter, model)
        shutil.rmtree(adapter)
    else:
        save_model(tuned, job.base_dir, special, model)
    write_result(job.execution, result)


def finish(
    job: TuningJob, prepared: Prepared, result: TrainResult, start: float, folds: Mapping[str, float] | None = None
) -> tuple[Any, TrainResult]:
    """Returns the plain model, if there is one, and the result with its size; writes the bound adapter and the figures."""
    extra, adapter = job.execution.extra, job.execution.dir / ADAPTER
    shutil.rmtree(adapter, ignore_errors=True)  # what a killed attempt left
    tuned = prepared.finish(adapter)
    if adapter.exists():
        bind(adapter, job.base_dir, job.base_digest)
    result = result.model_copy(update={"num_parameters": num_parameters(prepared.model if tuned is None else tuned)})
    figures = measure(result, job.optim.peak, time.monotonic() - start, adapter, extra)
    write_figures(extra, figures | dict(folds or {}))
    return tuned, result


def _learned(job: TuneJob, packed: Mapping[str, Rows]) -> Rows:
    """Returns the rows of a pass: all there are, or so many of each set that its targets have its weight."""
    if len(packed) == 1:
        return next(iter(packed.values()))
    counts = rows_by_weight(packed, set_weights(job))
    for (source, rows), count in zip(packed.items(), counts, strict=True):
        _log.info("%s: %d of %d rows a pass", source, count, rows.num_rows)
    return SetRows(list(packed.values()), counts)


def _looked_at(packed: Mapping[str, Rows]) -> tuple[Rows, Watch | None]:
    """Returns the rows of a look, and what it sees of each set where there are several."""
    if len(packed) == 1:
        return next(iter(packed.values())), None
    parts = list(packed.values())
    return SetRows(parts, [rows.num_rows for rows in parts], marked=True), watch_sets(list(packed))
