"""Small real inputs for modeling tests: a tokenizer, token shards, conversations, as artifacts of toy stages."""

import contextlib
import importlib
import json
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from pydantic import BaseModel

from tasks.contracts import SPLITS, Checkpoint, CleanCorpus, Conversations, Fisher, TokenizedCorpus, Tokenizer
from tasks.core.artifact import Spec
from tasks.core.site import Site
from tasks.core.stage import StageContext, stage
from tasks.core.tables import write_table
from tasks.tuning import FisherSpec, estimate_fisher

SPECIAL = {"end_of_text": "<|endoftext|>", "pad": "<|pad|>", "turn_start": "<|im_start|>", "turn_end": "<|im_end|>"}
# What the objectives need beside them.
EXTRA = (
    {"mask": "[MASK]", "cls": "[CLS]", "sep": "[SEP]"}
    | {f"sentinel_{number}": f"<extra_id_{number}>" for number in range(12)}
    | {f"fim_{part}": f"<|fim_{part}|>" for part in ("prefix", "suffix", "middle")}
)
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
ENGLISH = ("the", "model", "reads", "text", "and", "answers", "short", "questions", "about", "files")
CHINESE = ("文件", "命令", "列出", "目录", "内容", "显示", "用户")
WORDS = (*ENGLISH, *CHINESE)


def save_tokenizer(folder: Path, vocab_size: int = 320, extra: Sequence[str] = ()) -> Any:
    """Trains a byte-level BPE on a few words and writes it as a transformers folder."""
    from tokenizers import Tokenizer as Fast
    from tokenizers import decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    fast = Fast(models.BPE())
    fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    fast.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[*SPECIAL.values(), *extra],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    fast.train_from_iterator([" ".join(WORDS)] * 8, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=fast, eos_token=SPECIAL["turn_end"], pad_token=SPECIAL["pad"], clean_up_tokenization_spaces=False
    )
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    return tokenizer


def sentences(count: int, seed: int = 0) -> list[str]:
    """Makes texts with something to learn: each word is followed by one of two."""
    random = np.random.default_rng(seed)
    texts = []
    for _ in range(count):
        place, words = int(random.integers(len(WORDS))), []
        for _ in range(int(random.integers(4, 30))):
            words.append(WORDS[place])
            place = (place + int(random.integers(1, 3))) % len(WORDS)
        texts.append(" ".join(words))
    return texts


class ToySpec(Spec):
    """How much of it."""

    size: int = 0
    seed: int = 0
    shuffled: bool = False
    extra: bool = False


@stage(version=1)
def toy_tokenizer(spec: ToySpec, *, ctx: StageContext) -> Tokenizer:
    extra = EXTRA if spec.extra else {}
    tokenizer = save_tokenizer(ctx.dir, extra=list(extra.values()))
    return ctx.commit(
        Tokenizer,
        vocab_size=len(tokenizer),
        bytes_per_token={"en": 2.0},
        special_tokens=SPECIAL | extra,
        has_chat_template=True,
    )


@stage(version=1)
def toy_tokens(spec: ToySpec, tokenizer: Tokenizer, *, ctx: StageContext) -> TokenizedCorpus:
    from tasks.core.shards import write_shard
    from tasks.modeling.words import load_tokenizer

    coder = load_tokenizer(tokenizer.path)
    end = coder.convert_tokens_to_ids(SPECIAL["end_of_text"])
    tokens, num_bytes = {}, {}
    for number, split in enumerate(SPLITS):
        texts = sentences(spec.size if split == "train" else 12, spec.seed + number)
        if spec.extra:  # sentences, for the objective that looks for them
            texts = [text.replace(" and", " and.") for text in texts]
        documents = [[*coder.encode(text), end] for text in texts]
        ids = [token for document in documents for token in document]
        write_shard(ctx.dir / f"{split}-00000.tokens", np.array(ids, dtype=np.uint16), tokenizer.digest)
        tokens[split], num_bytes[split] = len(ids), sum(len(text.encode()) for text in texts)
        rows = [
            {"id": str(n), "lang": ("en", "zh")[n % 2], "source": "toy", "num_tokens": len(one), "num_bytes": len(text.encode())}
            for n, (one, text) in enumerate(zip(documents, texts, strict=True))
        ]
        schema = dict.fromkeys(("id", "lang", "source"), "string") | {"num_tokens": "int64", "num_bytes": "int64"}
        write_table(ctx.dir / f"documents-{split}.parquet", schema, rows)
    return ctx.commit(
        TokenizedCorpus,
        tokenizer_digest=tokenizer.digest,
        vocab_size=tokenizer.vocab_size,
        tokens_by_split=tokens,
        bytes_by_split=num_bytes,
        documents_by_split={"train": spec.size, "validation": 12, "test": 12},
        tokens_by_language={"en": sum(tokens.values())},
    )


Old = tuple[TokenizedCorpus, Fisher]


def old_text(base: Checkpoint, site: Site) -> Old:
    """The text a base was pretrained on, and what there is to know of its weights where nothing is asked."""
    tokens = toy_tokens.build(ToySpec(size=200), toy_tokenizer.build(ToySpec(), site=site), site=site)
    return tokens, estimate_fisher.build(FisherSpec(), base, tokens, site=site)


@stage(version=1)
def toy_corpus(spec: ToySpec, *, ctx: StageContext) -> CleanCorpus:
    schema = dict.fromkeys(("id", "source", "licence", "lang", "text", "cluster", "split"), "string")
    rows = [
        {"id": f"d{n}", "source": "toy", "licence": "CC0", "lang": ("en", "zh")[n % 2], "text": text, "cluster": f"c{n}"}
        for n, text in enumerate(sentences(spec.size, spec.seed))
    ]
    parts = [{**row, "split": SPLITS[n % 3]} for n, row in enumerate(rows)]
    write_table(ctx.dir / "documents", schema, parts)
    count = {split: sum(row["split"] == split for row in parts) for split in SPLITS}
    return ctx.commit(
        CleanCorpus,
        num_documents_in=spec.size,
        num_documents=spec.size,
        num_bytes=sum(len(row["text"].encode()) for row in rows),
        removed_by_reason={},
        documents_by_split=count,
        documents_by_language={"en": (spec.size + 1) // 2, "zh": spec.size // 2},
        documents_by_source={"toy": spec.size},
    )


def conversation(number: int, split: str, keywords: Sequence[str] = ("目录",)) -> dict[str, Any]:
    """One item: the answer repeats the word asked about."""
    word = WORDS[number % len(WORDS)]
    return {
        "id": f"i{number}",
        "group": f"g{number}",
        "source": ("a", "b")[number % 2],
        "split": split,
        "messages": [
            {"role": "user", "content": f"about {word}"},
            {"role": "assistant", "content": f"the {word} 目录"},
        ],
        "keywords": list(keywords),
        "match": "any",
        "copied": number % 5 == 0,
    }


@stage(version=1)
def toy_conversations(spec: ToySpec, *, ctx: StageContext) -> Conversations:
    items = [conversation(number, ("train", "train", "validation", "test")[number % 4]) for number in range(spec.size)]
    if spec.shuffled:
        train = [item for item in items if item["split"] == "train"]
        answers = np.random.default_rng(spec.seed).permutation([item["messages"][1]["content"] for item in train])
        for item, answer in zip(train, answers, strict=True):
            item["messages"][1]["content"] = str(answer)
    lines = [json.dumps(item, ensure_ascii=False) + "\n" for item in items]
    (ctx.dir / "conversations.jsonl").write_text("".join(lines), encoding="utf-8")
    count = {split: sum(item["split"] == split for item in items) for split in SPLITS}
    return ctx.commit(
        Conversations,
        num_items_in=len(items),
        num_items=len(items),
        dropped_by_reason={},
        items_by_split=count,
        items_by_source={"a": (len(items) + 1) // 2, "b": len(items) // 2},
    )


@contextmanager
def in_process() -> Iterator[None]:
    """Lets stages run their child's function in this process: starting one costs seconds and has tests of its own."""

    def run(function: str, job: BaseModel, ctx: StageContext, **_: Any) -> None:
        module, name = function.split(":")
        getattr(importlib.import_module(module), name)(type(job).model_validate_json(job.model_dump_json()))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tasks.core.child.run_child", run)
        yield


def kill_rank(store: Path, rank: int, killed_at: list[float]) -> None:
    """Kills one of this test's training processes once a training has left its first checkpoint after the start."""
    while not list(store.glob("checkpoint/*.partial/extra/checkpoints/step-000005")):
        time.sleep(0.01)
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if "tasks.core.child" in process.cmdline() and process.environ().get("RANK") == str(rank):
                process.send_signal(signal.SIGKILL)
                killed_at.append(time.monotonic())


def out_of_memory_once(
    patch: pytest.MonkeyPatch, function: Callable[..., dict[str, float]], where: str
) -> list[dict[str, float]]:
    """Makes `function` run out of a GPU's memory at its first call from `where`; returns what it said, call by call."""
    said: list[dict[str, float]] = []

    def call(*args: Any, **kwargs: Any) -> dict[str, float]:
        said.append(function(*args, **kwargs))
        if len(said) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return said[-1]

    patch.setattr(where, call)
    return said
