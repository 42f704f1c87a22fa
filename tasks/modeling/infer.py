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
from torch.nn.utils.rnn import pad_sequence

from tasks.modeling.answers import Answered, answered_rows, room, split_answers, text_windows
from tasks.modeling.architecture import num_positions
from tasks.modeling.attention import own_attention
from tasks.modeling.batches import IGNORED, Example, ExampleRows, make_batch
from tasks.modeling.chat import mark_answers, question_and_answer
from tasks.modeling.model import load_model, token_losses
from tasks.modeling.pieces import PieceRows
from tasks.modeling.precision import autocast
from tasks.modeling.sizing import ROW_TOKENS, tokens_of_row
from tasks.modeling.words import SpecialIds, chat_ids, load_tokenizer, model_special_ids

_MICRO_TOKENS = {"cpu": 4096, "cuda": 65536}
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
    def has_two_parts(self) -> bool:
        """Whether an encoder reads and a decoder writes."""
        return bool(self.model.config.is_encoder_decoder)

    @property
    def context_tokens(self) -> int:
        """Positions the model was made for."""
        return num_positions(self.model) or ROW_TOKENS

    def question(self, messages: Sequence[dict[str, str]]) -> list[int]:
        """Returns the ids that an answer to a conversation is written after, or about."""
        ids = chat_ids(self.tokenizer, list(messages), to_answer=True)
        return [*ids, self.special.end_of_text] if self.has_two_parts else ids

    def question_and_answer(self, messages: Sequence[dict[str, str]]) -> tuple[list[int], list[int]]:
        """Returns the ids before the last answer of a conversation, and those of that answer."""
        if not self.has_two_parts:
            return question_and_answer(self.tokenizer, messages, self.special.turn_end)
        last = split_answers(mark_answers(self.tokenizer, messages, self.special.turn_end), self.special.end_of_text)[-1]
        return list(last.question), list(last.answer)

    def example(self, question: Sequence[int], answer: Sequence[int]) -> Example | Answered:
        """Returns what is scored to learn how likely an answer is after, or about, a question."""
        if self.has_two_parts:
            return Answered(tuple(question), tuple(answer))
        return Example.of([*question, *answer], [False] * len(question) + [True] * len(answer))

    def fits(self, question: Sequence[int], answer: Sequence[int]) -> bool:
        """Says whether the two fit the context."""
        if self.has_two_parts:
            return max(len(question), len(answer)) <= self.context_tokens
        return len(question) + len(answer) <= self.context_tokens + 1

    def windows(self, ids: Sequence[int], stride_tokens: int) -> Sequence[Example | Answered]:
        """Cuts a document into what is scored of it, each token once; an encoder-decoder writes each window about the last."""
        if self.has_two_parts:
            return text_windows(ids, self.special.end_of_text, self.context_tokens)
        return windows(ids, self.special.end_of_text, self.context_tokens, stride_tokens, self.special.opening)

    def rows(self, examples: Sequence[Example | Answered]) -> ExampleRows | PieceRows[Answered]:
        """Packs what is scored."""
        pairs = [example for example in examples if isinstance(example, Answered)]
        texts = [example for example in examples if isinstance(example, Example)]
        longest = max((example.num_tokens for example in pairs), default=max((len(text.ids) for text in texts), default=0))
        row_tokens = tokens_of_row(self.context_tokens, longest)
        if pairs:
            return answered_rows(pairs, self.model.config, room(pairs, self.model.config, row_tokens), self.special)
        return ExampleRows(texts, row_tokens, self.special.pad)


def windows(
    ids: Sequence[int], separator: int, context_tokens: int, stride_tokens: int, opening: int | None = None
) -> list[Example]:
    """Cuts a document into windows that overlap; each token, and the end, is scored once, with as much before it as fits.

    The first token is predicted from what opens a text, none: the separator, as in training.
    """
    text = np.array([separator if opening is None else opening, *ids, separator])
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


def example_nats(reader: Reader, examples: Sequence[Example | Answered], tell: Tell | None = None) -> NDArray[np.float64]:
    """Returns the summed cross entropy, in nats, over the targets of each example.

    Raises:
        ValueError: An example is longer than the model's context.
    """
    rows = reader.rows(examples)
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


def greedy_answers(
    reader: Reader, questions: Sequence[Sequence[int]], max_new_tokens: int, tell: Tell | None = None
) -> list[str]:
    """Returns the greedy answer to each question, cut at `max_new_tokens` tokens.

    Args:
        questions: Ids as `Reader.question` gives them.
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
    """Generates for questions padded so that all answers start at the same place, and what an encoder reads at its first one."""
    side = "right" if reader.has_two_parts else "left"
    ids = pad_sequence([torch.tensor(question) for question in questions], True, reader.special.pad, side)
    is_text = pad_sequence([torch.ones(len(question)) for question in questions], True, 0, side)
    with own_attention(reader.model), torch.inference_mode(), autocast(reader.device, reader.precision):
        made = reader.model.generate(
            input_ids=ids.to(reader.device),
            attention_mask=is_text.long().to(reader.device),
            max_new_tokens=max_new_tokens,
            do_sample=False,
        )
    found: list[list[int]] = made[:, 1 if reader.has_two_parts else ids.shape[1] :].tolist()
    return found
