"""Items: conversations as they are read, compared and written.

In: messages and names. Out: values. Invariant: an item ends with an answer.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from tasks.core.splits import joined_groups
from tasks.core.text import normalized
from tasks.instructions.turns import Message

Asked = tuple[tuple[str, str], ...]
_MIN_OPENING_WEIGHT = 20  # less (hello, how are you, 你好) opens conversations that have nothing else in common
_HAN_WEIGHT = 3  # a Han character says what two or three Latin letters say
_HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af]")


@dataclass(frozen=True, slots=True)
class Item:
    """One conversation.

    Attributes:
        group: Items of one group (a command, a package) are never in two splits.
        keywords: What recognises a right answer of a held-out item.
        match: Whether any or all keywords are asked for.
        copied: The keywords stand in the prompt: copying them is the task.
    """

    id: str
    group: str
    source: str
    messages: tuple[Message, ...]
    keywords: tuple[str, ...] = ()
    match: str = "any"
    copied: bool = False

    @property
    def prompt(self) -> str:
        """What the user says, in the form in which prompts are compared: letters and digits only."""
        return "".join(self._said)

    @property
    def prompt_key(self) -> str:
        """Hash of the prompt."""
        return sha256(self.prompt.encode("utf-8")).hexdigest()

    @property
    def opening_keys(self) -> Iterator[str]:
        """Hashes of the prompts of the earlier answers: what the user says up to each, where it is more than a greeting."""
        hashed, weight = sha256(), 0
        for said in self._said[:-1]:
            hashed.update(said.encode("utf-8"))
            weight += len(said) + (_HAN_WEIGHT - 1) * len(_HAN.findall(said))
            if weight >= _MIN_OPENING_WEIGHT:
                yield hashed.hexdigest()

    @property
    def _said(self) -> list[str]:
        spoken = (normalized(message["content"]) for message in self.messages if message["role"] == "user")
        return ["".join(char for char in text if char.isalnum()) for text in spoken]

    @property
    def asked(self) -> Asked:
        """What the last answer answers, in the form in which items are told apart: 5 < 3 is another question than 5 > 3."""
        return tuple((message["role"], normalized(message["content"])) for message in self.messages[:-1])

    @property
    def answer(self) -> str:
        """The last answer."""
        return self.messages[-1]["content"]

    @property
    def num_chars(self) -> int:
        """Characters of all messages."""
        return sum(len(message["content"]) for message in self.messages)

    def row(self, split: str) -> dict[str, Any]:
        """Returns the item as a line of `conversations.jsonl`."""
        return {
            "id": self.id,
            "group": self.group,
            "source": self.source,
            "split": split,
            "messages": list(self.messages),
            "keywords": list(self.keywords),
            "match": self.match,
            "copied": self.copied,
        }


def prompt_groups(items: Sequence[Item]) -> list[str]:
    """Returns the group of each item; groups that share a prompt are one, also where one goes on from the other's."""
    prompts = [item.prompt_key for item in items]
    whole = set(prompts)
    begun = [(item.group, key) for item in items for key in item.opening_keys if key in whole]
    groups = [item.group for item in items]
    return joined_groups([*groups, *(group for group, _ in begun)], [*prompts, *(key for _, key in begun)])[: len(items)]
