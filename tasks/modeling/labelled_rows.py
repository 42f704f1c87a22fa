"""Labelled text as rows: one item a row, framed by the tokenizer, padded; items of like length side by side.

In: rows of `items.parquet`. Out: `LabelledRows`. Invariants: an item too long is truncated or dropped, and counted; which items a
step takes is a pure function of `(seed, step)`; each pass takes every item once, in an order of its own.

Shapes: T positions, K labels.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.core.errors import ContractError
from tasks.modeling.architecture import num_positions
from tasks.modeling.batches import IGNORED, Ids, Row
from tasks.modeling.labelled_items import Item
from tasks.modeling.labels import HeadFacts, TooLong

_POOL_BATCHES = 16  # items are sorted by length within so many batches
_UNSPACED = re.compile("[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")  # kana and Han


@dataclass(frozen=True, slots=True)
class LabelledExample:
    """One item: ids, the part of a pair each belongs to, the label of the word each begins, and what is said of the whole.

    Attributes:
        words: Number of each word that has a label among the targets, in their order.
    """

    id: str
    ids: Ids
    types: Ids
    targets: Ids
    goals: NDArray[np.float32]
    words: tuple[int, ...] = ()


class LabelledRows:
    """Items as rows, padded to the longest."""

    def __init__(self, examples: Sequence[LabelledExample], pad: int, notes: dict[str, int] | None = None) -> None:
        self.examples = examples
        self.lengths = np.array([len(example.ids) for example in examples], dtype=np.int64)
        self.row_tokens = int(self.lengths.max())
        self.num_rows = len(examples)
        self.notes = notes or {}
        self._pad = pad
        words = np.array([int(np.sum(example.targets != IGNORED)) for example in examples], dtype=np.int64)
        self._num_targets = np.where([len(example.goals) == 0 for example in examples], words, 1)

    def row(self, index: int) -> Row:
        """Returns an item; segment 0 is text, 1 is padding."""
        example = self.examples[index % self.num_rows]
        fill = (0, self.row_tokens - len(example.ids))
        segments = np.pad(np.zeros(len(example.ids), dtype=np.int64), fill, constant_values=1)
        return Row(
            np.pad(example.ids, fill, constant_values=self._pad),
            np.pad(example.targets, fill, constant_values=IGNORED),
            np.arange(self.row_tokens),
            segments,
            types_T=np.pad(example.types, fill),
            goals_K=example.goals,
        )

    def num_targets(self, indices: Ids) -> int:
        """Returns the items, or the words, these rows are judged on."""
        return int(self._num_targets[indices % self.num_rows].sum())

    def order(self, seed: int, step: int, batch_rows: int, num_rows: int) -> Ids:
        """Returns the rows of a step, see `tasks.modeling.batches.step_rows`; batches hold items of like length."""
        places = range(step * batch_rows, (step + 1) * batch_rows)
        passes = [divmod(place, num_rows) for place in places]
        orders = {number: self._pass_order(seed, number, batch_rows) for number, _ in passes}
        return np.array([number * num_rows + orders[number][place] for number, place in passes])

    @lru_cache(maxsize=4)  # noqa: B019 a training has two of these, and ends with them
    def _pass_order(self, seed: int, number: int, batch_rows: int) -> Ids:
        """Returns the order of a pass: pools of items by chance, sorted by length, their batches by chance again.

        The first batch may have begun in the pass before; the last one goes on in the next.
        """
        random = np.random.Generator(np.random.Philox(key=[seed, number]))
        drawn = random.permutation(self.num_rows)
        begun = min(-number * self.num_rows % batch_rows, self.num_rows)
        head, rest = drawn[:begun], drawn[begun:]
        pool = _POOL_BATCHES * batch_rows
        ordered = [part[np.argsort(self.lengths[part], kind="stable")] for part in np.split(rest, range(pool, len(rest), pool))]
        flat = np.concatenate(ordered) if ordered else rest
        num_whole = len(flat) // batch_rows
        whole = flat[: num_whole * batch_rows].reshape(num_whole, batch_rows)
        return np.concatenate([head, whole[random.permutation(num_whole)].reshape(-1), flat[num_whole * batch_rows :]])


def context_tokens(model: Any, tokenizer: Any) -> int:
    """Returns the tokens an item may have, special ones included."""
    return int(min(num_positions(model) or 1 << 20, tokenizer.model_max_length))


def are_spaced(items: Iterable[Item]) -> bool:
    """Whether spaces part these words where they stand in running text: most are not of Chinese or Japanese."""
    words = [word for item in items for word in item["words"]]
    return 2 * sum(bool(_UNSPACED.search(word)) for word in words) < len(words)


def labelled_rows(
    items: Iterable[Item], tokenizer: Any, facts: HeadFacts, max_tokens: int, too_long: TooLong, what: str
) -> LabelledRows:
    """Returns the rows of items; `notes` counts items, those too long, and those dropped.

    Raises:
        ContractError: No item is left, or too many of their tokens are unknown to the tokenizer.
    """
    notes: Counter[str] = Counter(items=0, too_long=0, dropped=0)
    examples = []
    for item in items:
        example, num_tokens = _example(item, tokenizer, facts, max_tokens)
        is_long = num_tokens > max_tokens
        notes.update(items=1, too_long=is_long, dropped=is_long and too_long == "drop")
        if not is_long or too_long == "truncate":
            examples.append(example)
    if not examples:
        raise ContractError(f"no {what} item fits {max_tokens} tokens; raise tune.max_tokens, or set tune.too_long to truncate")
    return LabelledRows(examples, tokenizer.pad_token_id, dict(notes))


def _example(item: Item, tokenizer: Any, facts: HeadFacts, max_tokens: int) -> tuple[LabelledExample, int]:
    """Returns an item, cut where it is too long, and the tokens it has uncut."""
    by_word = facts.task == "token_classification"
    texts = (item["words"],) if by_word else (item["text"], item["text_pair"])
    encode = partial(tokenizer, *texts, is_split_into_words=by_word)
    encoding = encode().encodings[0]
    num_tokens = len(encoding.ids)
    if num_tokens > max_tokens:
        encoding = encode(truncation=True, max_length=max_tokens).encodings[0]
    targets = _word_targets(item, encoding.word_ids, facts)
    words = tuple(encoding.word_ids[place] for place in np.flatnonzero(targets != IGNORED))
    ids, types = (np.array(values, dtype=np.int64) for values in (encoding.ids, encoding.type_ids))
    return LabelledExample(str(item["id"]), ids, types, targets, _goals(item, facts), words), num_tokens


def _word_targets(item: Item, word_ids: Sequence[int | None], facts: HeadFacts) -> Ids:
    """Returns the label of each word at its first token."""
    targets = np.full(len(word_ids), IGNORED, dtype=np.int64)
    if facts.task != "token_classification":
        return targets
    numbers = {name: number for number, name in enumerate(facts.label_names)}
    before = None
    for place, word in enumerate(word_ids):
        if word is not None and word != before:
            targets[place] = numbers[item["labels"][word]]
        before = word
    return targets


def _goals(item: Item, facts: HeadFacts) -> NDArray[np.float32]:
    if facts.task == "token_classification":
        return np.zeros(0, dtype=np.float32)
    if facts.task == "regression":
        return np.array([(item["value"] - facts.mean) / facts.spread], dtype=np.float32)
    if facts.task == "classification":
        return np.array([facts.label_names.index(item["labels"][0])], dtype=np.float32)
    return np.array([name in item["labels"] for name in facts.label_names], dtype=np.float32)


def require_known(rows: LabelledRows, tokenizer: Any, max_share: float) -> None:
    """Checks that the tokenizer knows the text.

    Raises:
        ContractError: More than `max_share` of the tokens stand for something unknown.
    """
    unknown = tokenizer.unk_token_id
    if unknown is None:
        return
    ids = np.concatenate([example.ids for example in rows.examples])
    share = float(np.mean(ids == unknown))
    if share > max_share:
        raise ContractError(
            f"{share:.0%} of the training tokens are unknown to the base's tokenizer ({tokenizer.unk_token}), more than "
            f"{max_share:.0%}: it was made for other languages. Take a base whose tokenizer knows this text, e.g. one "
            "pretrained here (base.kind = pretrained)"
        )
