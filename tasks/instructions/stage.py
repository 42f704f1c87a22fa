"""Instructions: reads tuning and held-out data, keeps them apart, and writes one file of conversations.

In: instruction sets. Out: `Conversations`. Invariants: each item seen is kept or dropped with a reason; no group, prompt,
answer or long run of a held-out item stands in the training data; the held-out items are read first and never changed.
"""

import json
import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from tasks.contracts import Conversations, Split
from tasks.core.errors import ContractError
from tasks.core.inputs import check_unchanged, find_files
from tasks.core.overlap import Reference, ReferenceItem
from tasks.core.rows import Refused, read_objects
from tasks.core.splits import split_groups
from tasks.core.stage import DISK, StageContext, stage
from tasks.instructions.forms import Item, instances, to_item
from tasks.instructions.sets import InstructionSet, InstructionsSpec
from tasks.instructions.turns import Message

_SHINGLE_CHARS = 5


@stage(version=3, name="instructions", retry=DISK)
def read_conversations(spec: InstructionsSpec, *, ctx: StageContext) -> Conversations:
    """Reads every set, drops what cannot be used with its reason, and splits the rest.

    Raises:
        ContractError: Nothing is left to tune on, or a conversation is too long and the spec says `fail`.
    """
    reader = _Reader(spec)
    heldout = list(reader.items(spec.heldout))
    reader.keep_out(heldout)
    kept = list(reader.items(spec.train))
    for one in (*spec.train, *spec.heldout):
        check_unchanged(f"set {one.name}", one.digest, find_files(one.paths), ctx.site)
    if not kept:
        raise ContractError(f"no training conversation is left of {reader.num_seen} items: {dict(reader.dropped)}")
    shares: list[tuple[Split, float]] = [("validation", spec.validation_share)]
    splits = split_groups({item.group for item in kept}, shares, "train", spec.seed)
    train = [item for item in kept if splits[item.group] == "train"]
    validation = [item for item in kept if splits[item.group] == "validation"]
    parts: dict[Split, list[Item]] = {
        "train": _with_shuffled_answers(train, spec.seed) if spec.shuffle_answers else train,
        "validation": validation,
        "test": heldout,
    }
    _write(ctx, parts)
    return ctx.commit(
        Conversations,
        num_items_in=reader.num_seen,
        num_items=sum(map(len, parts.values())),
        dropped_by_reason=dict(sorted(reader.dropped.items())),
        items_by_split={split: len(items) for split, items in parts.items()},
        items_by_source=dict(Counter(item.source for items in parts.values() for item in items)),
    )


def _write(ctx: StageContext, parts: dict[Split, list[Item]]) -> None:
    with (ctx.dir / "conversations.jsonl").open("w", encoding="utf-8") as file:
        for split, items in parts.items():
            for item in items:
                file.write(json.dumps(item.row(split), ensure_ascii=False) + "\n")


class _Reader:
    """Reads items, and counts what it drops and why."""

    def __init__(self, spec: InstructionsSpec) -> None:
        self.num_seen = 0
        self.dropped: Counter[str] = Counter()
        self._spec = spec
        self._seen: set[tuple[str, str]] = set()
        self._ids: set[str] = set()
        self._heldout_groups: set[str] = set()
        self._heldout_prompts = _Prompts()
        self._heldout: Reference | None = None

    def keep_out(self, items: Sequence[Item]) -> None:
        """From here on, drops items that share a group, a prompt, a long run or an answer with these."""
        self._heldout_groups = {item.group for item in items}
        for item in items:
            self._heldout_prompts.add(item.prompt)
        if self._spec.heldout_overlap is not None:
            found = [ReferenceItem(item.id, item.source, _said(item), item.answer) for item in items]
            self._heldout = Reference(found, self._spec.heldout_overlap)

    def items(self, sets: Sequence[InstructionSet]) -> Iterator[Item]:
        """Yields the items of the sets that are kept."""
        for one in sets:
            number = 0
            for file in find_files(one.paths):
                for value in read_objects(file, is_array=file.format == "json"):
                    number += 1
                    yield from self._accepted_of(instances(value, number, one.name), number, one)

    def _accepted_of(self, values: Sequence[Any], number: int, one: InstructionSet) -> Iterator[Item]:
        for value in values:
            self.num_seen += 1
            try:
                yield self._accepted(to_item(value, number, one.name, one.form, self._spec.slots))
            except Refused as reason:
                self.dropped[str(reason)] += 1

    def _accepted(self, item: Item) -> Item:
        if item.num_chars > self._spec.max_chars:
            self._too_long(item)
        if item.group in self._heldout_groups:
            raise Refused("held_out_group")
        if self._heldout_prompts.holds(item.prompt, self._spec.near_heldout_similarity):
            raise Refused("held_out_prompt")
        if self._heldout is not None and (reasons := {match.reason for match in self._heldout.matches(_said(item))}):
            raise Refused("held_out_answer" if "answer" in reasons else "held_out_ngram")
        if (item.prompt, item.answer) in self._seen:
            raise Refused("duplicate")
        if item.id in self._ids:
            raise Refused("duplicate_id")
        self._seen.add((item.prompt, item.answer))
        self._ids.add(item.id)
        return item

    def _too_long(self, item: Item) -> None:
        if self._spec.too_long == "fail":
            raise ContractError(
                f"conversation {item.id} has {item.num_chars} characters, max_chars is {self._spec.max_chars}; "
                'raise it, or set too_long = "drop"'
            )
        raise Refused("too_long")


def _said(item: Item) -> tuple[str, ...]:
    """Returns what was asked and answered; a system message is shared by items that have nothing else in common."""
    return tuple(message["content"] for message in item.messages if message["role"] != "system")


class _Prompts:
    """Held-out prompts that can be asked whether one of them is nearly another prompt."""

    def __init__(self) -> None:
        self._exact: set[str] = set()
        self._sizes: list[int] = []
        self._with_shingle: dict[str, list[int]] = defaultdict(list)

    def add(self, prompt: str) -> None:
        self._exact.add(prompt)
        shingles = _shingles(prompt)
        for shingle in shingles:
            self._with_shingle[shingle].append(len(self._sizes))
        self._sizes.append(len(shingles))

    def holds(self, prompt: str, similarity: float | None) -> bool:
        if prompt in self._exact:
            return True
        if similarity is None:
            return False
        shingles = _shingles(prompt)
        shared = Counter(number for shingle in shingles for number in self._with_shingle.get(shingle, ()))
        return any(count / (len(shingles) + self._sizes[number] - count) >= similarity for number, count in shared.items())


def _shingles(text: str) -> set[str]:
    return {text[start : start + _SHINGLE_CHARS] for start in range(max(1, len(text) - _SHINGLE_CHARS + 1))}


def _with_shuffled_answers(items: Sequence[Item], seed: int) -> list[Item]:
    """Gives each item the answer of another one: a shuffle without fixed points."""
    order = list(range(len(items)))
    random.Random(seed).shuffle(order)
    answers = {order[place]: items[order[place - 1]].answer for place in range(len(order))}
    return [replace(item, messages=_answered(item.messages, answers[number])) for number, item in enumerate(items)]


def _answered(messages: tuple[Message, ...], answer: str) -> tuple[Message, ...]:
    return (*messages[:-1], {"role": "assistant", "content": answer})
