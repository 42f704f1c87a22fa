"""Items: conversations as they are read, compared and written.

In: messages and names. Out: values. Invariant: an item ends with an answer.
"""

from dataclasses import dataclass
from typing import Any

from tasks.core.text import normalized
from tasks.instructions.turns import Message

Asked = tuple[tuple[str, str], ...]


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
        said = " ".join(message["content"] for message in self.messages if message["role"] == "user")
        return "".join(char for char in normalized(said) if char.isalnum())

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
