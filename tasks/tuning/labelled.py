"""Tuning on labelled text: a base and `Labelled` items to a model that classifies, tags words, or gives a value.

In: a `Checkpoint` and `Labelled`. Out: a `Checkpoint` whose `model/` loads with `AutoModelForSequenceClassification` or
`AutoModelForTokenClassification`, labels and their order in its configuration. Invariants: the validation split selects, the test
split is never seen; what cannot be learned is refused before the first step.
"""

import json
from collections import Counter
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from tasks.contracts import Checkpoint, Labelled
from tasks.core.artifact import EXTRA_DIR
from tasks.core.errors import ContractError, RecipeError
from tasks.core.site import Site
from tasks.core.stage import CHILD, StageContext, stage
from tasks.core.store import read_manifest
from tasks.core.tables import read_rows
from tasks.modeling.adapted import require_plain
from tasks.modeling.job import Execution, TrainResult, read_result
from tasks.modeling.labels import ClassWeights, Criterion, GivenWeights, HeadFacts, TooLong, figures_of
from tasks.modeling.scaling import peak_of
from tasks.modeling.specs import AdamWSpec, CosineSchedule, OptimSpec, PrecisionSpec, TrainSpec
from tasks.tuning.full import FullSpec
from tasks.tuning.job import FIGURES_NAME, TuneLabelledJob
from tasks.tuning.labelled_methods import LabelledMethodSpec
from tasks.tuning.rates import matrix_rate_warning, rate_warning, with_rate

_MANY_LOST = 0.05


class TuneLabelledSpec(PrecisionSpec):
    """A method and how it trains, on labelled text; the new head is trained by every method."""

    method: Annotated[LabelledMethodSpec, Field(description="What is trained beside the head.")] = FullSpec(kind="full")
    optim: Annotated[OptimSpec, Field(description="Optimiser and schedule.")] = AdamWSpec(
        kind="adamw",
        learning_rate=None,
        beta2=0.999,
        weight_decay=0.01,
        schedule=CosineSchedule(kind="cosine", warmup_share=0.1, final_share=0.0),
    )
    train: Annotated[TrainSpec, Field(description="Budget in passes (num_epochs), batches of items, looks, checkpoints.")] = (
        TrainSpec(batch_rows=32, num_epochs=3, eval_every_steps=50, checkpoint_every_steps=50, patience_evals=5, select="best")
    )
    criterion: Annotated[
        Criterion,
        Field(description="What the best look at the validation items, and patience, go by; one of the task's figures, or loss."),
    ] = "loss"
    class_weights: Annotated[
        ClassWeights | None, Field(description="Weights of the labels in the training loss; none: all weigh alike.")
    ] = None
    label_smoothing: Annotated[
        float, Field(ge=0, lt=1, description="Share of the truth spread over all labels in the training loss.")
    ] = 0.0
    dropout: Annotated[
        float | None, Field(ge=0, lt=1, description="Share left out in every dropout the architecture has; none: the base's.")
    ] = None
    max_tokens: Annotated[
        int | None, Field(ge=4, description="Longest item in tokens, special ones included; none: the base's context.")
    ] = None
    too_long: Annotated[TooLong, Field(description="Longer items: cut at the end, or dropped; both are counted.")] = "truncate"
    num_folds: Annotated[
        int | None,
        Field(
            ge=2,
            le=20,
            description="Train so many more times, each time without one fold of the training items, and be judged by it: mean "
            "and spread go to the figures. Folds hold labels alike and groups whole; none: no folds.",
        ),
    ] = None
    seed: Annotated[int, Field(ge=0, lt=1 << 31, description="Seed of head, adapter, data order, dropout and folds.")] = 0

    @model_validator(mode="after")
    def _budget_is_passes(self) -> Self:
        if self.train.num_epochs is None:
            raise ValueError("labelled items are of many lengths: set train.num_epochs, not num_tokens")
        if self.train.z_loss is not None:
            raise ValueError("train.z_loss is for an output layer over the vocabulary; set it off")
        return self

    def check_site(self, site: Site) -> None:
        """Raises RecipeError where this machine cannot do it; asked before any work."""
        self.method.check_site(site)

    def forewarnings(self, base_rate: float | None) -> list[str]:
        """Returns what should be known before it runs, given the base's peak learning rate."""
        found = [rate_warning(self.method, self.optim.learning_rate, base_rate), matrix_rate_warning(self.method, self.optim)]
        return [text for text in found if text is not None]


@stage(version=12, retry=CHILD, packages=("torch", "transformers", "peft"))
def tune_labelled(spec: TuneLabelledSpec, base: Checkpoint, labelled: Labelled, *, ctx: StageContext) -> Checkpoint:
    """Tunes a model on the train split of labelled text.

    Raises:
        RecipeError: An option does not fit the task.
        ContractError: Base or items are not what can be learned from; the message says what to do.
    """
    check_fit(spec, labelled)
    facts = _head_facts(labelled)
    _check(base, labelled)
    spec.check_site(ctx.site)
    job = TuneLabelledJob(
        execution=Execution.of(ctx.dir, ctx.site),
        base_dir=base.path / "model",
        base_digest=base.digest,
        items=labelled.path / "items.parquet",
        facts=facts,
        **with_rate(spec, peak_of(read_manifest(base.path))).model_dump(),
    )
    ctx.run_child("tasks.tuning.labelled_train:tune_labelled_main", job, torchrun=True)
    return _commit(spec, base, labelled, read_result(ctx), ctx)


# The same, of the model that labels text for the one that is kept.
tune_first = stage(version=tune_labelled.version, name="tune_first", retry=CHILD, packages=tune_labelled.packages)(
    tune_labelled.fn
)


def _commit(spec: TuneLabelledSpec, base: Checkpoint, labelled: Labelled, result: TrainResult, ctx: StageContext) -> Checkpoint:
    figures = json.loads((ctx.dir / EXTRA_DIR / FIGURES_NAME).read_text(encoding="utf-8"))
    return ctx.commit(
        Checkpoint,
        method=spec.method.kind,
        tokenizer_digest=base.tokenizer_digest,
        base_digest=base.digest,
        **result.facts(),
        precision=spec.precision,
        context_tokens=base.context_tokens,
        licence=base.licence,
        held_out=result.figures,
        warnings=(*base.warnings, *_made(labelled), *_warnings(spec, result)),
        figures=figures,
    )


def check_fit(spec: TuneLabelledSpec, labelled: Labelled) -> None:
    """Compares the options with the task.

    Raises:
        RecipeError: One of them has no meaning for it, or names a label that is not there.
    """
    known = ("loss", *figures_of(labelled.task, len(labelled.label_names)))
    if spec.criterion not in known:
        raise RecipeError(f"tune.criterion {spec.criterion!r} is no figure of {labelled.task}; choose {', '.join(known)}")
    if labelled.task == "regression" and (spec.class_weights is not None or spec.label_smoothing):
        raise RecipeError("a regression has no classes: set tune.class_weights off and tune.label_smoothing 0")
    given = spec.class_weights.weights if isinstance(spec.class_weights, GivenWeights) else {}
    if strange := sorted(set(given) - set(labelled.label_names)):
        raise RecipeError(f"tune.class_weights names {', '.join(strange)}, but the labels are {', '.join(labelled.label_names)}")


def _check(base: Checkpoint, labelled: Labelled) -> None:
    if base.method == "none":
        raise ContractError("there is no base to tune: give one (base), or pretrain one")
    require_plain(base)
    for split in ("train", "validation"):
        if not labelled.items_by_split.get(split):
            raise ContractError(f"{labelled.address} has no {split} items; add some, or a share for that split")


def _head_facts(labelled: Labelled) -> HeadFacts:
    """Returns what the head will say; a regression is learned in units of its own spread.

    Raises:
        ContractError: Labels are missing, or there is nothing to tell apart.
    """
    rows = list(read_rows(labelled.path / "items.parquet", ("id", "split", "words", "labels", "value")))
    train = [row for row in rows if row["split"] == "train"]
    if labelled.task == "regression":
        return _value_facts(labelled, rows, train)
    unlabelled = [row["id"] for row in rows if row["labels"] is None or (not row["labels"] and labelled.task != "multi_label")]
    if unlabelled:
        raise ContractError(
            f"{len(unlabelled)} items of {labelled.address} have no label, e.g. {unlabelled[:3]}; label them or leave them out"
        )
    seen = Counter(label for row in train for label in row["labels"])
    if len(seen) < 2 and (labelled.task != "multi_label" or not seen):
        raise ContractError(
            f"the train items of {labelled.address} are all of one class ({', '.join(seen) or 'none'}): there is nothing to "
            "learn; add items of another class, or read the split anew"
        )
    return HeadFacts(task=labelled.task, label_names=labelled.label_names)


def _value_facts(labelled: Labelled, rows: list[dict[str, Any]], train: list[dict[str, Any]]) -> HeadFacts:
    import numpy as np

    if without := [row["id"] for row in rows if row["value"] is None]:
        raise ContractError(f"{len(without)} items of {labelled.address} have no value, e.g. {without[:3]}; leave them out")
    values = np.array([row["value"] for row in train], dtype=np.float64)
    if not values.max() > values.min():  # the spread of equal values is not always 0 in floating point
        raise ContractError(f"all train values of {labelled.address} are {values[0]:g}: there is nothing to learn")
    return HeadFacts(task="regression", mean=float(values.mean()), spread=float(values.std()))


def _made(labelled: Labelled) -> list[str]:
    """Tells the model card of training items that nobody wrote or labelled."""
    if not labelled.made_by:
        return []
    ways = ", ".join(f"{count:,} by {way}" for way, count in labelled.made_by.items())
    return [f"of {labelled.items_by_split['train']:,} training items some were made by machine: {ways}"]


def _warnings(spec: TuneLabelledSpec, result: TrainResult) -> list[str]:
    num_long, num_seen = result.notes["too_long"], result.notes["items"]
    if num_long <= _MANY_LOST * num_seen:
        return []
    became = "cut" if spec.too_long == "truncate" else "dropped"
    return [f"{num_long} of {num_seen} labelled items are longer than the model takes and were {became}"]
