"""The scoring child: what a model makes of the test documents and of the held-out items.

In: an `AskJob`. Out: `documents.parquet`, `items.parquet`, `samples.json`. Invariant: it measures and judges nothing; figures are
made of these tables by whoever reads them.
"""

import json
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from tasks.core.child import report
from tasks.core.errors import ContractError
from tasks.core.tables import write_table
from tasks.evaluation.items import Document, Item, draw_documents, foreign_prompts, read_items
from tasks.evaluation.specs import EvaluateSpec
from tasks.evaluation.speed import note_speed

DOCUMENTS = {"id": "string", "source": "string", "lang": "string", "num_bytes": "int64", "num_tokens": "int64", "nats": "double"}
ITEMS = {
    "id": "string",
    "group": "string",
    "source": "string",
    "num_bytes": "int64",
    "num_tokens": "int64",
    "nats": "double",
    "foreign_nats": "double",
    "is_matched": "bool",
    "copied": "bool",
    "prompt": "string",
    "reference": "string",
    "answer": "string",
}


class AskJob(BaseModel):
    """Which model, on which texts, and where the tables go."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dir: Path
    model_dir: Path
    documents: Path
    conversations: Path
    device: str
    settings: EvaluateSpec


def ask_main(job: AskJob) -> None:
    """Scores a model."""
    from tasks.modeling.infer import Reader

    reader = Reader.load(job.model_dir, job.device, job.settings.precision)
    settings = job.settings
    documents = draw_documents(job.documents, settings.documents_per_language, settings.document_chars, settings.seed)
    write_table(job.dir / "documents.parquet", DOCUMENTS, _document_rows(reader, documents, settings))
    items, refused = read_items(job.conversations)
    rows, num_too_long = _item_rows(reader, items, settings, job.dir)
    write_table(job.dir / "items.parquet", ITEMS, rows)
    samples = {"refused": refused | {"too_long": num_too_long}, "samples": _samples(reader, settings)}
    (job.dir / "samples.json").write_text(json.dumps(samples, ensure_ascii=False, indent=1), encoding="utf-8")


def _document_rows(reader: Any, documents: Sequence[Document], settings: EvaluateSpec) -> list[dict[str, Any]]:
    from tasks.modeling.infer import example_nats

    stride = min(settings.stride_tokens or reader.context_tokens // 2, reader.context_tokens)
    ids = [reader.tokenizer.encode(document.text, add_special_tokens=False) for document in documents]
    cut = [reader.windows(tokens, stride, is_whole=document.is_whole) for document, tokens in zip(documents, ids, strict=True)]
    owners = np.repeat(np.arange(len(documents)), [len(parts) for parts in cut])
    nats = example_nats(reader, [part for parts in cut for part in parts], partial(_tell, "rows of documents"))
    sums = np.bincount(owners, weights=nats, minlength=len(documents))
    return [
        {
            "id": document.id,
            "source": document.source,
            "lang": document.lang,
            "num_bytes": document.num_bytes,
            "num_tokens": len(tokens) + document.is_whole,
            "nats": float(total),
        }
        for document, tokens, total in zip(documents, ids, sums, strict=True)
    ]


def _item_rows(reader: Any, items: Sequence[Item], settings: EvaluateSpec, folder: Path) -> tuple[list[dict[str, Any]], int]:
    """Returns one row for each item that fits the context, and how many do not; leaves the speed in `folder`."""
    both = [reader.question_and_answer(item.messages) for item in items]
    fitting = [number for number, (question, answer) in enumerate(both) if reader.fits(question, answer)]
    if not fitting:
        raise ContractError(f"none of {len(items)} held-out items fits the model's context of {reader.context_tokens} tokens")
    num_too_long = len(items) - len(fitting)
    items, both = [items[number] for number in fitting], [both[number] for number in fitting]
    nats, foreign_nats = _answer_nats(reader, items, both, settings)
    answers = _timed_answers(reader, [question for question, _ in both], settings.max_new_tokens, folder)
    rows = [
        {
            "id": item.id,
            "group": item.group,
            "source": item.source,
            "num_bytes": len(item.answer.encode()),
            "num_tokens": len(answer_ids),
            "nats": float(own),
            "foreign_nats": foreign,
            "is_matched": item.is_matched(answer),
            "copied": item.copied,
            "prompt": item.messages[-2]["content"],
            "reference": item.answer,
            "answer": answer,
        }
        for item, (_, answer_ids), own, foreign, answer in zip(items, both, nats, foreign_nats, answers, strict=True)
    ]
    return rows, num_too_long


def _timed_answers(reader: Any, questions: Sequence[list[int]], max_new_tokens: int, folder: Path) -> list[str]:
    """Returns the greedy answers, and notes how many tokens of them a second were made."""
    from tasks.modeling.infer import greedy_answers

    start_s = time.perf_counter()
    answers = greedy_answers(reader, questions, max_new_tokens, partial(_tell, "answers"))
    seconds = time.perf_counter() - start_s
    num_tokens = sum(
        min(max_new_tokens, 1 + len(ids)) for ids in reader.tokenizer(answers, add_special_tokens=False)["input_ids"]
    )
    note_speed(folder, num_tokens / seconds)
    return answers


def _answer_nats(
    reader: Any, items: Sequence[Item], both: Sequence[tuple[list[int], list[int]]], settings: EvaluateSpec
) -> tuple[Any, list[float | None]]:
    """Returns the nats of each answer after its own prompt, and their mean after those foreign ones that fit the context."""
    from tasks.modeling.infer import example_nats

    sources, groups = [item.source for item in items], [item.group for item in items]
    foreign = foreign_prompts(sources, groups, settings.foreign_prompts, settings.seed)
    pairs = [
        (number, other)
        for number, others in enumerate(foreign)
        for other in others
        if reader.fits(both[other][0], both[number][1])
    ]
    examples = [reader.example(question, answer) for question, answer in both]
    examples += [reader.example(both[other][0], both[number][1]) for number, other in pairs]
    nats = example_nats(reader, examples, partial(_tell, "rows of answers"))
    own, strange = nats[: len(items)], nats[len(items) :]
    numbers = np.array([number for number, _ in pairs], dtype=np.int64)
    counts = np.bincount(numbers, minlength=len(items))
    sums = np.bincount(numbers, weights=strange, minlength=len(items))
    return own, [float(total / count) if count else None for total, count in zip(sums, counts, strict=True)]


def _samples(reader: Any, settings: EvaluateSpec) -> list[dict[str, str]]:
    from tasks.modeling.infer import greedy_answers

    prompts = settings.sample_prompts
    questions = [reader.question([{"role": "user", "content": prompt}]) for prompt in prompts]
    answers = greedy_answers(reader, questions, settings.max_new_tokens) if questions else []
    return [{"prompt": prompt, "answer": answer} for prompt, answer in zip(prompts, answers, strict=True)]


def _tell(unit: str, done: int, total: int) -> None:
    report(done=done, total=total, unit=unit)
