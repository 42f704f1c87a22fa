"""Conversations as rows to learn from: whole ones side by side, or each answer beside what an encoder reads before it.

In: the folder of `Conversations`, the base's tokenizer and model. Out: the rows of each set. Invariants: answers alone are
targets; what is too long is cut or dropped as the recipe says, and counted.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from tasks.contracts import Split
from tasks.core.errors import ContractError, RecipeError
from tasks.modeling.answers import Answered, answered_rows, fit_answer, room, split_answers
from tasks.modeling.architecture import num_positions
from tasks.modeling.batches import Example, ExampleRows, Rows
from tasks.modeling.chat import Marked, TooLong, fit, mark_answers
from tasks.modeling.pieces import even_targets
from tasks.modeling.sizing import tokens_of_row
from tasks.modeling.words import SpecialIds
from tasks.tuning.job import TuneJob


def packed_conversations(
    job: TuneJob, tokenizer: Any, special: SpecialIds, split: Split, model: Any, notes: Counter[str]
) -> dict[str, Rows]:
    """Packs the conversations of a split, each set apart where they are told apart; counts what is cut or dropped.

    Raises:
        ContractError: None fits a row.
    """
    marked: defaultdict[str, list[Marked]] = defaultdict(list)
    is_apart = bool(set_weights(job)) or split == "validation"
    for source, messages in _read(job.conversations_dir, split):
        marked[source if is_apart else ""].append(mark_answers(tokenizer, messages, special.turn_end))
    if model.config.is_encoder_decoder:
        pairs = {
            source: [pair for one in conversations for pair in split_answers(one, special.end_of_text)]
            for source, conversations in sorted(marked.items())
        }
        row_tokens = row_length(job.row_tokens, num_positions(model), [pair.num_tokens for pair in chain(*pairs.values())])
        rows = _pack_answered(pairs, model.config, row_tokens, job.too_long, special, notes)
    else:
        # Inputs and targets are shifted by one.
        row_tokens = row_length(job.row_tokens, num_positions(model), [len(one.ids) - 1 for one in chain(*marked.values())])
        rows = _pack_whole(marked, row_tokens, job.too_long, special.pad, notes)
    if not rows:
        raise ContractError(
            f"no {split} conversation of {job.conversations_dir} fits a row of {row_tokens} tokens; raise tune.row_tokens, take "
            "a base with a longer context, or set tune.too_long to truncate"
        )
    return rows


def _pack_whole(
    marked: Mapping[str, list[Marked]], row_tokens: int, too_long: TooLong, pad: int, notes: Counter[str]
) -> dict[str, Rows]:
    """Returns the rows of each set for a model that reads on: whole conversations side by side."""
    max_tokens = row_tokens + 1  # inputs and targets are shifted by one
    examples: defaultdict[str, list[Example]] = defaultdict(list)
    for source, conversations in sorted(marked.items()):
        for one in conversations:
            fitted = fit(one, max_tokens, too_long)
            notes.update(items=1, too_long=len(one.ids) > max_tokens, dropped=fitted is None)
            if fitted is not None:
                examples[source].append(Example.of(fitted.ids, fitted.is_target))
    return {source: ExampleRows(found, row_tokens, pad) for source, found in examples.items()}


def _pack_answered(
    pairs: Mapping[str, list[Answered]], config: Any, row_tokens: int, too_long: TooLong, special: SpecialIds, notes: Counter[str]
) -> dict[str, Rows]:
    """Returns the rows of each set for an encoder-decoder: each answer beside what it reads."""
    kept: defaultdict[str, list[Answered]] = defaultdict(list)
    for source, one in [(source, pair) for source, found in pairs.items() for pair in found]:
        fitted = fit_answer(one, row_tokens, too_long)
        notes.update(items=1, too_long=one.num_tokens > row_tokens, dropped=fitted is None)
        if fitted is not None:
            kept[source].append(fitted)
    if not kept:
        return {}
    positions = room(list(chain(*kept.values())), config, row_tokens)
    rows = {source: answered_rows(found, config, positions, special) for source, found in kept.items()}
    even_targets(rows.values())
    return dict(rows)


def set_weights(job: TuneJob) -> dict[str, float]:
    """Returns the weight of each set; none where sets are not told apart."""
    path = job.conversations_dir / "weights.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def row_length(asked: int | None, context_tokens: int | None, lengths: Collection[int] = (), *, stage: str = "tune") -> int:
    """Returns the length of a row: what was asked, else what the longest text needs, see `tokens_of_row`.

    Args:
        asked: Of the recipe.
        context_tokens: What the base can read; none: it counts no positions.
        lengths: Tokens of the texts.
        stage: Whose `row_tokens` it is.

    Raises:
        RecipeError: More was asked than the base can read.
    """
    if asked is None:
        return tokens_of_row(context_tokens, max(lengths, default=0))
    if context_tokens is not None and asked > context_tokens:
        raise RecipeError(f"{stage}.row_tokens is {asked}, but the base's context has {context_tokens}; set that or less")
    return asked


def read_messages(folder: Path, split: Split) -> list[list[dict[str, str]]]:
    """Reads the conversations of a split, in the order of the file."""
    return [messages for _, messages in _read(folder, split)]


def _read(folder: Path, split: Split) -> list[tuple[str, list[dict[str, str]]]]:
    """Reads the conversations of a split, each with its set."""
    with (folder / "conversations.jsonl").open(encoding="utf-8") as file:
        items = [json.loads(line) for line in file]
    return [(item["source"], item["messages"]) for item in items if item["split"] == split]
