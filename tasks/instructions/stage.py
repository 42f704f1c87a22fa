"""Instructions: reads tuning and held-out data, keeps them apart, and writes one file of conversations.

In: instruction sets. Out: `Conversations`. Invariants: each item seen is kept or dropped with a reason; no group, prompt,
answer or long run of a held-out item stands in the training data; no prompt stands in two splits; the held-out items are read
first and never changed.
"""

import json
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

from tasks.contracts import Conversations, Split
from tasks.core.errors import ContractError
from tasks.core.rows import Refused
from tasks.core.splits import split_groups
from tasks.core.stage import DISK, StageContext, stage
from tasks.instructions.apart import Apart
from tasks.instructions.forms import read_values, to_item
from tasks.instructions.items import Asked, Item, prompt_groups
from tasks.instructions.sets import InstructionSet, InstructionsSpec
from tasks.instructions.turns import Message

_MIN_JUDGES = 30  # what gate.min_items is by default


@stage(version=7, name="instructions", retry=DISK)
def read_conversations(spec: InstructionsSpec, *, ctx: StageContext) -> Conversations:
    """Reads every set, drops what cannot be used with its reason, and splits the rest.

    Raises:
        ContractError: Nothing is left to tune on, or a conversation is too long and the spec says `fail`.
    """
    reader = _Reader(spec)
    heldout = list(reader.items(spec.heldout))
    reader.apart.keep_out(heldout)
    _warn_of_few(heldout, ctx)
    kept = list(reader.items(spec.train))
    spec.require_unchanged(ctx.site)
    if not kept:
        raise ContractError(f"no training conversation is left of {reader.num_seen} items: {dict(reader.dropped)}")
    shares: list[tuple[Split, float]] = [("validation", spec.validation_share)]
    groups = prompt_groups(kept)
    splits = split_groups(Counter(groups), shares, "train", spec.seed)
    parts: dict[Split, list[Item]] = {"train": [], "validation": [], "test": heldout}
    for item, group in zip(kept, groups, strict=True):
        parts[splits[group]].append(item)
    if spec.shuffle_answers:
        parts["train"] = _with_shuffled_answers(parts["train"], spec.seed)
    _write(ctx, parts)
    _write_weights(spec, ctx)
    return ctx.commit(
        Conversations,
        num_items_in=reader.num_seen,
        num_items=sum(map(len, parts.values())),
        dropped_by_reason=dict(sorted(reader.dropped.items())),
        items_by_split={split: len(items) for split, items in parts.items()},
        items_by_source=dict(Counter(item.source for items in parts.values() for item in items)),
    )


def _warn_of_few(heldout: Sequence[Item], ctx: StageContext) -> None:
    """Says before anything is trained that few held-out items judge, or none; a run that ends with the tuning needs none."""
    judges = [item for item in heldout if item.keywords]
    num_groups = len({item.group for item in judges})
    if heldout and num_groups < _MIN_JUDGES:
        ctx.log.warning(
            "%d of %d held-out items have keywords and can judge, in %d groups: evaluate refuses a set without any, and the gate "
            "wants %d groups unless gate.min_items says less; give each keywords = [...], see docs/recipes.md",
            len(judges),
            len(heldout),
            num_groups,
            _MIN_JUDGES,
        )


def _write(ctx: StageContext, parts: dict[Split, list[Item]]) -> None:
    with (ctx.dir / "conversations.jsonl").open("w", encoding="utf-8") as file:
        for split, items in parts.items():
            for item in items:
                file.write(json.dumps(item.row(split), ensure_ascii=False) + "\n")


def _write_weights(spec: InstructionsSpec, ctx: StageContext) -> None:
    """Leaves the weights where the tuning reads them: they are part of what the data are."""
    path = ctx.dir / "weights.json"
    path.unlink(missing_ok=True)
    if spec.weights:
        path.write_text(json.dumps(spec.weights, ensure_ascii=False, indent=1, sort_keys=True), encoding="utf-8")


class _Reader:
    """Reads items, and counts what it drops and why."""

    def __init__(self, spec: InstructionsSpec) -> None:
        self.num_seen = 0
        self.dropped: Counter[str] = Counter()
        self.apart = Apart(spec)
        self._spec = spec
        self._seen: set[tuple[Asked, str]] = set()

    def items(self, sets: Sequence[InstructionSet]) -> Iterator[Item]:
        """Yields the items of the sets that are kept."""
        for one in sets:
            for number, value in read_values(one):
                self.num_seen += 1
                try:
                    yield self._accepted(to_item(value, number, one.name, one.form, self._spec.slots))
                except Refused as reason:
                    self.dropped[str(reason)] += 1

    def _accepted(self, item: Item) -> Item:
        self.apart.require(item)
        if (item.asked, item.answer) in self._seen:
            raise Refused("duplicate")
        self.apart.take(item.id)
        self._seen.add((item.asked, item.answer))
        return item


def _with_shuffled_answers(items: Sequence[Item], seed: int) -> list[Item]:
    """Gives each item the answer of another one: a shuffle without fixed points."""
    order = list(range(len(items)))
    random.Random(seed).shuffle(order)
    answers = {order[place]: items[order[place - 1]].answer for place in range(len(order))}
    return [replace(item, messages=_answered(item.messages, answers[number])) for number, item in enumerate(items)]


def _answered(messages: tuple[Message, ...], answer: str) -> tuple[Message, ...]:
    return (*messages[:-1], {"role": "assistant", "content": answer})
