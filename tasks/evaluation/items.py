"""What models are judged on: test documents and held-out items, chosen by seed and never by the model.

In: a clean corpus and conversations. Out: documents and items in a fixed order. Invariants: only the test split is read; which
documents are drawn depends on their ids and the seed alone; an item's foreign prompts are of its source and of
other groups.
"""

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice
from pathlib import Path

import numpy as np

from tasks.core.errors import ContractError
from tasks.core.tables import read_rows
from tasks.core.text import normalized

Messages = list[dict[str, str]]


@dataclass(frozen=True, slots=True)
class Document:
    """A test document, or its beginning."""

    id: str
    source: str
    lang: str
    text: str
    is_whole: bool

    @property
    def num_bytes(self) -> int:
        """Bytes of the text in UTF-8."""
        return len(self.text.encode())


@dataclass(frozen=True, slots=True)
class Item:
    """A held-out conversation whose last answer is judged."""

    id: str
    group: str
    source: str
    messages: Messages
    keywords: tuple[str, ...]
    match: str
    copied: bool

    @property
    def answer(self) -> str:
        """The answer that is right."""
        return self.messages[-1]["content"]

    def is_matched(self, answer: str) -> bool:
        """Says whether an answer holds any or all of the keywords, in NFKC and case folded."""
        text = normalized(answer)
        return (all if self.match == "all" else any)(normalized(word) in text for word in self.keywords)


def draw_documents(documents: Path, per_language: int | None, max_chars: int | None, seed: int) -> list[Document]:
    """Draws test documents of each language.

    Raises:
        ContractError: There is no test document.
    """
    by_language: dict[str, list[Document]] = defaultdict(list)
    for row in read_rows(documents, ("id", "source", "lang", "text", "split")):
        if row["split"] == "test":
            text = row["text"] if max_chars is None else row["text"][:max_chars]
            document = Document(row["id"], row["source"], row["lang"], text, is_whole=text == row["text"])
            by_language[row["lang"]].append(document)
    if not by_language:
        raise ContractError(f"{documents} has no document in the test split; give dedup a larger test_share, or more text")
    drawn = []
    for _, found in sorted(by_language.items()):
        drawn += sorted(found, key=lambda document: sha256(f"{seed}:{document.id}".encode()).digest())[:per_language]
    return drawn


def read_items(conversations: Path) -> tuple[list[Item], dict[str, int]]:
    """Reads the held-out items, and counts those refused by reason.

    Raises:
        ContractError: No item is left.
    """
    items, refused = [], {"no_keywords": 0}
    with (conversations / "conversations.jsonl").open(encoding="utf-8") as file:
        rows = [row for row in map(json.loads, file) if row["split"] == "test"]
    for row in rows:
        if row["keywords"]:
            items.append(
                Item(
                    id=row["id"],
                    group=row["group"],
                    source=row["source"],
                    messages=row["messages"],
                    keywords=tuple(row["keywords"]),
                    match=row["match"],
                    copied=bool(row["copied"]),
                )
            )
        else:
            refused["no_keywords"] += 1
    if not items:
        raise ContractError(
            f"{conversations} has no held-out item to judge by ({refused['no_keywords']} without keywords were refused); "
            "name a held-out set with keywords under instructions.heldout"
        )
    return items, refused


def foreign_prompts(sources: Sequence[str], groups: Sequence[str], count: int, seed: int) -> list[list[int]]:
    """Returns for each item the numbers of items of its source whose prompts it is shown, up to `count` of them.

    Within a source the items stand in a circle in an order drawn by seed, and each takes the prompts of the next ones of other
    groups: of several answers to one question, each has its own prompt.
    """
    foreign: list[list[int]] = [[] for _ in sources]
    random = np.random.default_rng(seed)
    for source in sorted(set(sources)):
        circle = random.permutation([number for number, found in enumerate(sources) if found == source]).tolist()
        for place, number in enumerate(circle):
            others = (other for other in circle[place + 1 :] + circle[:place] if groups[other] != groups[number])
            foreign[number] = list(islice(others, count))
    return foreign
