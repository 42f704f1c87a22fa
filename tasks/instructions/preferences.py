"""Preferences: reads pairs of answers, or answers with a verdict, and writes one file of them.

In: preference sets, and conversations to keep out. Out: `Preferences`. Invariants: each item seen is kept or dropped with a
reason; what is held out stands in no training item; contradictions (both orders of a pair, both verdicts) are dropped.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from tasks.contracts import Preferences, Split
from tasks.core.errors import ContractError
from tasks.core.rows import Refused
from tasks.core.splits import split_groups
from tasks.core.stage import DISK, StageContext, stage
from tasks.core.values import group_of
from tasks.instructions.apart import Apart
from tasks.instructions.forms import WEIGHTS, read_values, to_item
from tasks.instructions.items import Item, prompt_groups
from tasks.instructions.pairs import Preference, Question, to_pair, to_verdict
from tasks.instructions.sets import InstructionSet, PreferencesSpec


@stage(version=5, name="preferences", retry=DISK)
def read_preferences(spec: PreferencesSpec, *, ctx: StageContext) -> Preferences:
    """Reads every set, drops what cannot be used with its reason, and splits the rest.

    Raises:
        ContractError: Nothing is left to tune on, an item is too long or its sides are equal and the spec says `fail`, or a set
            to keep out holds no conversation.
    """
    reader = _Reader(spec)
    heldout = reader.decided(reader.read(spec.heldout))
    reader.apart.keep_out([*(one.item for one in heldout), *_kept_out(spec, ctx)])
    kept = reader.decided(reader.read(spec.train))
    spec.require_unchanged(ctx.site)
    if not kept:
        raise ContractError(
            f"no {spec.kind} training item is left of {reader.num_seen} items: {dict(+reader.dropped)}; mend the sets, or kind"
        )
    shares: list[tuple[Split, float]] = [("validation", spec.validation_share)]
    groups = prompt_groups([one.item for one in kept])
    split_of = split_groups(Counter(groups), shares, "train", spec.seed)
    parts: dict[Split, list[Preference]] = {"train": [], "validation": [], "test": heldout}
    for found, group in zip(kept, groups, strict=True):
        parts[split_of[group]].append(found)
    with (ctx.dir / "preferences.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(one.row(split), ensure_ascii=False) + "\n" for split, ones in parts.items() for one in ones)
    every = [one for ones in parts.values() for one in ones]
    return ctx.commit(
        Preferences,
        form=spec.kind,
        num_items_in=reader.num_seen,
        num_items=len(every),
        dropped_by_reason={reason: count for reason, count in sorted(reader.dropped.items()) if count},
        items_by_split={split: len(ones) for split, ones in parts.items()},
        items_by_source=dict(Counter(one.item.source for one in every)),
        num_good=sum(one.is_good is True for one in every) if spec.kind == "unpaired" else None,
    )


class _Reader:
    """Reads preferences, and counts what it drops and why."""

    def __init__(self, spec: PreferencesSpec) -> None:
        self.num_seen = 0
        self.dropped: Counter[str] = Counter()
        self.apart = Apart(spec)
        self._spec = spec

    def read(self, sets: Sequence[InstructionSet]) -> Iterator[Preference]:
        """Yields the preferences of the sets that can be read and stand apart."""
        made = to_pair if self._spec.kind == "paired" else to_verdict
        for one in sets:
            for number, value in read_values(one):
                self.num_seen += 1
                try:
                    found = made(value, number, one.name, one.form, self._spec.slots)
                    self.apart.require(found.item, *([found.rejected] if found.rejected is not None else []))
                    self.apart.take(found.item.id)
                    yield found
                except Refused as reason:
                    self._drop(str(reason), f"{one.name}/{number}")

    def decided(self, found: Iterator[Preference]) -> list[Preference]:
        """Returns one of each decision; decisions that contradict each other all go."""
        ones = list(found)
        verdicts: defaultdict[Question, set[str | bool | None]] = defaultdict(set)
        for one in ones:
            verdicts[one.question].add(one.verdict)
        clear = [one for one in ones if len(verdicts[one.question]) == 1]
        first = {one.question: one for one in reversed(clear)}
        kept = [one for one in clear if first[one.question] is one]
        self.dropped.update(conflict=len(ones) - len(clear), duplicate=len(clear) - len(kept))
        return kept

    def _drop(self, reason: str, where: str) -> None:
        if reason == "equal_sides" and self._spec.equal_sides == "fail":
            raise ContractError(f'both answers of item {where} are equal; mend it, or set equal_sides = "drop"')
        self.dropped[reason] += 1


def _kept_out(spec: PreferencesSpec, ctx: StageContext) -> Iterator[Item]:
    for one in spec.keep_out:
        num_found, passed = 0, Counter[str]()
        for number, value in read_values(one):
            try:
                item = to_item(_as_said(value), number, one.name, one.form, spec.slots)
            except Refused as reason:
                passed[str(reason)] += 1
                continue
            num_found += 1
            yield item
        if not num_found:
            raise ContractError(f"set {one.name} holds no conversation to keep out: {one.place}; mend or remove it")
        if passed:
            ctx.log.warning(
                "set %s: %d items are not kept out, for they cannot be read: %s", one.name, passed.total(), dict(passed)
            )


def _as_said(value: Any) -> Any:
    """Returns an item without what matters only to training on it: marks, weights of turns, a group that has no name."""
    if not isinstance(value, dict):
        return value
    said = {key: list(map(_unweighted, part)) if isinstance(part, list) else part for key, part in value.items()}
    try:
        group = group_of(value.get("group"))
    except Refused:
        group = None
    return said | {"group": group, "copied": None}


def _unweighted(turn: Any) -> Any:
    return {key: part for key, part in turn.items() if key not in WEIGHTS} if isinstance(turn, dict) else turn
