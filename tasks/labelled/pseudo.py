"""Pseudo-labels: task text labelled by a first model where it is sure, as further training items.

In: `Labelled`, a model tuned on it, and task text. Out: `Labelled` with more training items. Invariants:
validation and test stay as they are; each item says which model labelled it and how sure it was; every text is accounted for.

After Lee 2013 (Pseudo-Label), with a fixed threshold.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain, repeat
from typing import Annotated

from pydantic import Field

from tasks.contracts import Checkpoint, CleanCorpus, Labelled
from tasks.core.artifact import Spec
from tasks.core.errors import ContractError, RecipeError
from tasks.core.rows import Refused
from tasks.core.stage import CHILD, StageContext, stage
from tasks.core.tables import Row, read_rows
from tasks.labelled.made import Made
from tasks.modeling.pseudo_job import Guess, PseudoJob, read_guesses

WAY = "pseudo_labels"
_NO_LABEL = ("",)  # that none applies is bounded as a label is


class PseudoSpec(Spec):
    """Which labels of a first model are believed."""

    min_confidence: Annotated[
        float,
        Field(gt=0.5, le=1, description="Least probability of the label; of many labels, of each one's yes or no."),
    ] = 0.95
    max_items: Annotated[int, Field(ge=1, description="Most items, the surest first.")] = 10_000
    max_label_share: Annotated[
        float, Field(gt=0, le=1, description="Largest share of them that one label may have; its least sure ones are left out.")
    ] = 1.0


@stage(version=4, name=WAY, retry=CHILD, packages=("torch", "transformers"))
def pseudo_label(spec: PseudoSpec, labelled: Labelled, model: Checkpoint, text: CleanCorpus, *, ctx: StageContext) -> Labelled:
    """Adds the texts that the model is sure of to the training items.

    Raises:
        RecipeError: The task has no label of a whole text, or its items are pairs.
        ContractError: The model is sure of none.
    """
    _check(labelled)
    texts = list(read_rows(text.path / "documents", ("id", "source", "text", "cluster")))
    job = PseudoJob(
        texts=text.path / "documents",
        model_dir=model.path / "model",
        out=ctx.dir / "guesses.json",
        device=ctx.site.resolved_device,
    )
    ctx.run_child("tasks.modeling.pseudo_label:pseudo_label_main", job)
    made = Made(labelled)
    guesses = list(zip(texts, read_guesses(job.out), strict=True))
    new = [pair for pair in guesses if not made.knows(pair[0]["text"])]
    for row in (*repeat(Refused("input is known"), len(guesses) - len(new)), *_believed(spec, new, model.digest)):
        made.add(row, WAY)
    if not made.rows:
        raise ContractError(
            f"the first model labels none of {len(texts):,} texts with a probability of {spec.min_confidence} or more: "
            f"{dict(made.not_made)}; lower min_confidence, raise max_label_share, or leave pseudo-labels out"
        )
    ctx.log.info("%d of %d texts got a label", len(made.rows), len(texts))
    return made.commit(ctx)


def _check(labelled: Labelled) -> None:
    if labelled.task not in ("classification", "multi_label"):
        raise RecipeError(
            f"unlabelled.pseudo needs labels of whole texts with a probability, and {labelled.task} has none; set it off"
        )
    if any(row["text_pair"] is not None for row in read_rows(labelled.path / "items.parquet", ("text_pair",))):
        raise RecipeError("unlabelled.pseudo labels single texts, and these items are pairs; set it off")


def _believed(spec: PseudoSpec, guesses: Sequence[tuple[Row, Guess]], digest: str) -> Iterator[Row | Refused]:
    """Yields an item for each text that is believed, surest first, and the reason for each other one."""
    ordered = sorted(guesses, key=lambda pair: (-pair[1].confidence, pair[0]["id"]))
    sure = [guess.labels or _NO_LABEL for _, guess in ordered if guess.confidence >= spec.min_confidence]
    reasons = _reasons_against(sure, spec.max_items, _most_of_a_label(spec, sure))
    for (row, guess), reason in zip(ordered, chain(reasons, repeat("not sure enough")), strict=False):
        yield _item(row, guess, digest) if reason is None else Refused(reason)


def _most_of_a_label(spec: PseudoSpec, sure: Sequence[tuple[str, ...]]) -> int:
    """Returns how many items of one label may be taken, so that it has no larger share of all that are."""
    by_label = Counter(label for labels in sure for label in labels)
    if spec.max_label_share * len(by_label) < 1:  # one of so few has more, however many are taken
        return 0
    most = max(by_label.values(), default=0)
    while most > (bound := spec.max_label_share * _reasons_against(sure, spec.max_items, most).count(None)):
        most = min(most - 1, int(bound))
    return most


def _reasons_against(sure: Sequence[tuple[str, ...]], max_items: int, most: int) -> list[str | None]:
    """Returns why each of these labels is not taken, none where it is, if so many items of one label are."""
    reasons: list[str | None] = []
    num_taken, by_label = 0, Counter[str]()
    for labels in sure:
        if num_taken == max_items:
            reasons.append("more than max_items")
        elif any(by_label[label] == most for label in labels):
            reasons.append("more than max_label_share")
        else:
            reasons.append(None)
            num_taken += 1
            by_label.update(labels)
    return reasons


def _item(row: Row, guess: Guess, digest: str) -> Row:
    about = {"id": row["id"], "source": row["source"], "text": row["text"], "group": row["cluster"]}
    nothing = dict.fromkeys(("text_pair", "words", "value", "origin"))
    return about | nothing | {"labels": list(guess.labels), "maker": digest, "confidence": guess.confidence}
