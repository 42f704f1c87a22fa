# ruff: noqa: TID253  (runs in training and scoring children only; holds no Spec)
"""Asking a model: how likely texts are, and what it answers.

In: a model folder. Out: nats of each example, greedy answers. Invariant: an example's figure does not depend on what it was
scored or answered beside, but for rounding.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tasks.modeling.attention import own_attention
from tasks.modeling.batches import IGNORED, Example, ExampleRows, make_batch
from tasks.modeling.chat import question_and_answer
from tasks.modeling.model import load_model, token_losses
from tasks.modeling.precision import autocast
from tasks.modeling.words import SpecialIds, load_tokenizer, model_special_ids

_MICRO_TOKENS = {"cpu": 4096, "cuda": 65536}
_ROW_TOKENS = 1024
_ANSWER_ROWS = 64
Tell = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Reader:
    """A loaded model with its tokenizer."""

    model: Any
    tokenizer: Any
    special: SpecialIds
    device: torch.device
    precision: str

    @classmethod
    def load(cls, folder: Path, device: str, precision: str) -> "Reader":
        """Loads a model folder made by this pipeline."""
        where = torch.device(device)
        model = load_model(folder).to(where).eval()
        return cls(model, load_tokenizer(folder), model_special_ids(model), where, precision)

    @property
    def context_tokens(self) -> int:
        """Positions the model was made for."""
        return int(self.model.config.max_position_embeddings)

    def question_and_answer(self, messages: Sequence[dict[str, str]]) -> tuple[list[int], list[int]]:
        """Returns the ids before the last answer of a conversation, and those of that answer."""
        return question_and_answer(self.tokenizer, messages, self.special.turn_end)


def windows(ids: Sequence[int], separator: int, context_tokens: int, stride_tokens: int) -> list[Example]:
    """Cuts a document into windows that overlap; each token, and the end, is scored once, with as much before it as fits.

    The first token is predicted from the separator, as in training.
    """
    text = np.array([separator, *ids, separator])
    examples, num_scored = [], 0
    for start in range(0, len(text) - 1, stride_tokens):
        stop = min(start + context_tokens, len(text) - 1)
        targets = text[start + 1 : stop + 1].copy()
        targets[: num_scored - start] = IGNORED
        examples.append(Example(text[start:stop], targets))
        num_scored = stop
        if stop == len(text) - 1:
            break
    return examples


def example_nats(reader: Reader, examples: Sequence[Example], tell: Tell | None = None) -> NDArray[np.float64]:
    """Returns the summed cross entropy, in nats, over the targets of each example.

    Raises:
        ValueError: An example is longer than the model's context.
    """
    longest = max((len(example.ids) for example in examples), default=0)
    rows = ExampleRows(examples, row_tokens(reader.context_tokens, longest), reader.special.pad)
    nats = np.zeros(len(examples))
    num_rows = max(1, _MICRO_TOKENS[reader.device.type] // rows.row_tokens)
    for start in range(0, rows.num_rows, num_rows):
        indices = np.arange(start, min(start + num_rows, rows.num_rows))
        with torch.inference_mode(), autocast(reader.device, reader.precision):
            losses = token_losses(reader.model, make_batch(rows, indices, reader.device)).double().cpu().numpy()
        members = [member for index in indices for member in rows.members[index]]
        ends = np.cumsum([int(np.sum(examples[member].targets != IGNORED)) for member in members])
        for member, part in zip(members, np.split(losses, ends[:-1]), strict=True):
            nats[member] = part.sum()
        if tell:
            tell(int(indices[-1]) + 1, rows.num_rows)
    return nats


def row_tokens(context_tokens: int, longest: int) -> int:
    """Returns the length of rows to score in: attention costs its square, so a long context is not filled for short texts."""
    return min(context_tokens, max(longest, _ROW_TOKENS))


def greedy_answers(
    reader: Reader, questions: Sequence[Sequence[int]], max_new_tokens: int, tell: Tell | None = None
) -> list[str]:
    """Returns the greedy answer to each question, cut at `max_new_tokens` tokens.

    Args:
        questions: Ids up to the opening of the answer.
    """
    answers = [""] * len(questions)
    order = sorted(range(len(questions)), key=lambda number: (len(questions[number]), number))
    for start in range(0, len(order), _ANSWER_ROWS):
        chosen = order[start : start + _ANSWER_ROWS]
        for number, ids in zip(chosen, _generate(reader, [questions[number] for number in chosen], max_new_tokens), strict=True):
            answers[number] = reader.tokenizer.decode(ids, skip_special_tokens=True).strip()
        if tell:
            tell(start + len(chosen), len(order))
    return answers


def _generate(reader: Reader, questions: Sequence[Sequence[int]], max_new_tokens: int) -> list[list[int]]:
    """Generates for questions padded on the left, so that all answers start at the same place."""
    width = max(map(len, questions))
    ids = torch.full((len(questions), width), reader.special.pad)
    for row, question in enumerate(questions):
        ids[row, width - len(question) :] = torch.tensor(question)
    is_text = torch.arange(width)[None] >= width - torch.tensor([len(question) for question in questions])[:, None]
    with own_attention(reader.model), torch.inference_mode(), autocast(reader.device, reader.precision):
        made = reader.model.generate(
            input_ids=ids.to(reader.device),
            attention_mask=is_text.long().to(reader.device),
            max_new_tokens=max_new_tokens,
            do_sample=False,
        )
    found: list[list[int]] = made[:, width:].tolist()
    return found
