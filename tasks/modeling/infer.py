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
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from tasks.modeling.answers import Answered, answered_rows, room, split_answers, text_windows
from tasks.modeling.architecture import num_positions
from tasks.modeling.attention import own_attention
from tasks.modeling.batches import IGNORED, Example, ExampleRows, make_batch, numbers_in_order
from tasks.modeling.chat import mark_answers, question_and_answer
from tasks.modeling.model import load_model, token_losses
from tasks.modeling.pieces import PieceRows
from tasks.modeling.precision import autocast
from tasks.modeling.sizing import ASKED_TOKENS, ROW_TOKENS, tokens_of_row
from tasks.modeling.words import SpecialIds, chat_ids, load_tokenizer, model_special_ids

_ANSWER_ROWS = 64
Tell = Callable[[int, int], None]
Scored = Example | Answered


@dataclass(frozen=True, slots=True)
class Reader:
    """A loaded model with its tokenizer: a decoder, which reads what was asked and goes on from there."""

    model: Any
    tokenizer: Any
    special: SpecialIds
    device: torch.device
    precision: str

    @staticmethod
    def load(folder: Path, device: str, precision: str) -> "Reader":
        """Loads a model folder made by this pipeline."""
        where = torch.device(device)
        model = load_model(folder).to(where).eval()
        reader = TwoPartReader if model.config.is_encoder_decoder else Reader
        return reader(model, load_tokenizer(folder), model_special_ids(model), where, precision)

    @property
    def context_tokens(self) -> int:
        """Positions the model was made for."""
        return num_positions(self.model) or ROW_TOKENS

    def question(self, messages: Sequence[dict[str, str]]) -> list[int]:
        """Returns the ids that an answer to a conversation is written after, or about."""
        return chat_ids(self.tokenizer, list(messages), to_answer=True)

    def question_and_answer(self, messages: Sequence[dict[str, str]]) -> tuple[list[int], list[int]]:
        """Returns the ids before the last answer of a conversation, and those of that answer."""
        return question_and_answer(self.tokenizer, messages, self.special.turn_end)

    def example(self, question: Sequence[int], answer: Sequence[int]) -> Scored:
        """Returns what is scored to learn how likely an answer is after, or about, a question."""
        return Example.of([*question, *answer], [False] * len(question) + [True] * len(answer))

    def fits(self, question: Sequence[int], answer: Sequence[int]) -> bool:
        """Says whether the two fit the context."""
        return len(question) + len(answer) <= self.context_tokens + 1

    def windows(self, ids: Sequence[int], stride_tokens: int, *, is_whole: bool = True) -> Sequence[Scored]:
        """Cuts a document, or its beginning, into what is scored of it, each token once, and the end where it is there."""
        special = self.special
        return windows(ids, special.end_of_text, self.context_tokens, stride_tokens, special.opening, is_whole=is_whole)

    def rows(self, examples: Sequence[Any]) -> ExampleRows | PieceRows[Answered]:
        """Packs what is scored, as `example` or `windows` gave it."""
        longest = max(len(example.ids) for example in examples)
        return ExampleRows(examples, tokens_of_row(self.context_tokens, longest), self.special.pad)

    def generate(self, questions: Sequence[Sequence[int]], max_new_tokens: int) -> list[list[int]]:
        """Returns the ids of greedy answers, padded, to questions as `question` gives them; each ends where its context does."""
        rooms = [max(0, min(max_new_tokens, self._room(question, max_new_tokens))) for question in questions]
        answers: list[list[int]] = [[] for _ in questions]
        for most in sorted(set(rooms) - {0}):  # a call has one limit for all it is asked
            chosen = [number for number, own in enumerate(rooms) if own == most]
            for number, ids in zip(chosen, self._answers([questions[number] for number in chosen], most), strict=True):
                answers[number] = ids
        longest = max(map(len, answers))
        return [ids + [self.special.pad] * (longest - len(ids)) for ids in answers]

    def _room(self, question: Sequence[int], otherwise: int) -> int:
        """Returns how many tokens can be written after a question: the last one is never read."""
        positions = num_positions(self.model)
        return otherwise if positions is None else positions - len(question) + 1

    def _answers(self, questions: Sequence[Sequence[int]], max_new_tokens: int) -> list[list[int]]:
        num_asked = max(len(question) for question in questions)
        return self._generated(questions, max_new_tokens, "left")[:, num_asked:].tolist()

    def _generated(self, questions: Sequence[Sequence[int]], max_new_tokens: int, padding_side: str) -> Tensor:
        ids = pad_sequence([torch.tensor(question) for question in questions], True, self.special.pad, padding_side)
        is_text = pad_sequence([torch.ones(len(question)) for question in questions], True, 0, padding_side)
        with own_attention(self.model), torch.inference_mode(), autocast(self.device, self.precision):
            made: Tensor = self.model.generate(
                input_ids=ids.to(self.device),
                attention_mask=is_text.long().to(self.device),
                max_new_tokens=max_new_tokens,
                do_sample=False,
            )
        return made


class TwoPartReader(Reader):
    """An encoder-decoder: its encoder reads what was asked, its decoder writes the answer from the beginning."""

    __slots__ = ()

    def question(self, messages: Sequence[dict[str, str]]) -> list[int]:
        """Returns the ids that an answer is written about; the encoder knows their end by its token."""
        return [*super().question(messages), self.special.end_of_text]

    def question_and_answer(self, messages: Sequence[dict[str, str]]) -> tuple[list[int], list[int]]:
        """Returns what the encoder reads, and what the decoder writes last."""
        last = split_answers(mark_answers(self.tokenizer, messages, self.special.turn_end), self.special.end_of_text)[-1]
        return list(last.question), list(last.answer)

    def example(self, question: Sequence[int], answer: Sequence[int]) -> Scored:
        """Returns both sides."""
        return Answered(tuple(question), tuple(answer))

    def fits(self, question: Sequence[int], answer: Sequence[int]) -> bool:
        """Says whether each side fits the context."""
        return max(len(question), len(answer)) <= self.context_tokens

    def windows(self, ids: Sequence[int], stride_tokens: int, *, is_whole: bool = True) -> Sequence[Scored]:
        """Cuts a document into windows that are each written about the last one, however far they are to overlap."""
        return text_windows(ids, self.special.end_of_text, self.context_tokens, is_whole=is_whole)

    def rows(self, examples: Sequence[Any]) -> ExampleRows | PieceRows[Answered]:
        """Packs both sides."""
        row_tokens = tokens_of_row(self.context_tokens, max(example.num_tokens for example in examples))
        return answered_rows(examples, self.model.config, room(examples, self.model.config, row_tokens), self.special)

    def _room(self, question: Sequence[int], otherwise: int) -> int:
        """Returns how many tokens the decoder can write, which reads the one that opens it and not its last one."""
        return num_positions(self.model) or otherwise

    def _answers(self, questions: Sequence[Sequence[int]], max_new_tokens: int) -> list[list[int]]:
        return self._generated(questions, max_new_tokens, "right")[:, 1:].tolist()


def windows(
    ids: Sequence[int],
    separator: int,
    context_tokens: int,
    stride_tokens: int,
    opening: int | None = None,
    *,
    is_whole: bool = True,
) -> list[Example]:
    """Cuts a document into windows that overlap; each token, and the end, is scored once, with as much before it as fits.

    Of the beginning of a document no end is scored.

    The first token is predicted from what opens a text, none: the separator, as in training.
    """
    text = np.array([separator if opening is None else opening, *ids, *([separator] if is_whole else [])])
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


def example_nats(reader: Reader, examples: Sequence[Scored], tell: Tell | None = None) -> NDArray[np.float64]:
    """Returns the summed cross entropy, in nats, over the targets of each example.

    Raises:
        ValueError: An example is longer than the model's context.
    """
    nats = np.zeros(len(examples))
    if not examples:
        return nats
    rows = reader.rows(examples)
    for indices in numbers_in_order(rows, ASKED_TOKENS[reader.device.type]):
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
    """Returns the greedy answer to each question, cut at `max_new_tokens` tokens, or where the context ends.

    Args:
        questions: Ids as `Reader.question` gives them.
    """
    answers = [""] * len(questions)
    order = sorted(range(len(questions)), key=lambda number: (len(questions[number]), number))
    for start in range(0, len(order), _ANSWER_ROWS):
        chosen = order[start : start + _ANSWER_ROWS]
        for number, ids in zip(chosen, reader.generate([questions[number] for number in chosen], max_new_tokens), strict=True):
            answers[number] = reader.tokenizer.decode(ids, skip_special_tokens=True).strip()
        if tell:
            tell(start + len(chosen), len(order))
    return answers
