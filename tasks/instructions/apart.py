"""Apart: training conversations are kept away from held-out ones, and taken once.

In: conversations one at a time, and those that are held out. Out: nothing, or the reason why one is not taken. Invariant: no
group, prompt (also of an earlier answer), answer or long run of a held-out conversation passes once it is known.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence

from tasks.core.errors import ContractError
from tasks.core.overlap import Reference, ReferenceItem
from tasks.core.rows import Refused
from tasks.instructions.items import Item
from tasks.instructions.sets import InstructionsSpec, PreferencesSpec

_SHINGLE_CHARS = 5


class Apart:
    """Refuses conversations that are too long, repeat an id, or share something with a held-out one."""

    def __init__(self, spec: InstructionsSpec | PreferencesSpec) -> None:
        self._spec = spec
        self._ids: set[str] = set()
        self._heldout_groups: set[str] = set()
        self._heldout_prompts = _Prompts()
        self._heldout: Reference | None = None

    def keep_out(self, items: Sequence[Item]) -> None:
        """From here on, refuses conversations that share a group, a prompt, a long run or an answer with these."""
        self._heldout_groups = {item.group for item in items}
        for item in items:
            self._heldout_prompts.add(item)
        if self._spec.heldout_overlap is not None:
            found = [ReferenceItem(item.id, item.source, _said(item), item.answer) for item in items]
            self._heldout = Reference(found, self._spec.heldout_overlap)

    def require(self, item: Item, *others: str) -> None:
        """Refuses a conversation that cannot be taken.

        Args:
            others: Further answers to the same prompt.

        Raises:
            Refused: With the reason that is counted.
            ContractError: It is too long, and the spec says `fail`.
        """
        num_chars = item.num_chars + max([len(other) - len(item.answer) for other in others] + [0])
        if num_chars > self._spec.max_chars:
            self._too_long(item, num_chars)
        if self._heldout_prompts.holds(item, self._spec.near_heldout_similarity):
            raise Refused("held_out_prompt")
        if item.group in self._heldout_groups:
            raise Refused("held_out_group")
        if self._heldout is not None and (found := {match.reason for match in self._heldout.matches((*_said(item), *others))}):
            raise Refused("held_out_answer" if "answer" in found else "held_out_ngram")

    def take(self, id: str) -> None:
        """Notes the id of a conversation that is taken.

        Raises:
            Refused: Another one has it.
        """
        if id in self._ids:
            raise Refused("duplicate_id")
        self._ids.add(id)

    def _too_long(self, item: Item, num_chars: int) -> None:
        if self._spec.too_long == "fail":
            raise ContractError(
                f"conversation {item.id} has {num_chars} characters, max_chars is {self._spec.max_chars}; "
                'raise it, or set too_long = "drop"'
            )
        raise Refused("too_long")


def _said(item: Item) -> tuple[str, ...]:
    """Returns what was asked and answered; a system message is shared by items that have nothing else in common."""
    return tuple(message["content"] for message in item.messages if message["role"] != "system")


class _Prompts:
    """Held-out prompts that can be asked whether a conversation begins with one, begins one, or has nearly the same prompt."""

    def __init__(self) -> None:
        self._keys: set[str] = set()
        self._openings: set[str] = set()
        self._sizes: list[int] = []
        self._with_shingle: dict[str, list[int]] = defaultdict(list)

    def add(self, item: Item) -> None:
        self._keys.add(item.prompt_key)
        self._openings.update(item.opening_keys)
        shingles = _shingles(item.prompt)
        for shingle in shingles:
            self._with_shingle[shingle].append(len(self._sizes))
        self._sizes.append(len(shingles))

    def holds(self, item: Item, similarity: float | None) -> bool:
        if item.prompt_key in self._openings or not self._keys.isdisjoint((item.prompt_key, *item.opening_keys)):
            return True
        if similarity is None:
            return False
        shingles = _shingles(item.prompt)
        shared = Counter(number for shingle in shingles for number in self._with_shingle.get(shingle, ()))
        return any(count / (len(shingles) + self._sizes[number] - count) >= similarity for number, count in shared.items())


def _shingles(text: str) -> set[str]:
    return {text[start : start + _SHINGLE_CHARS] for start in range(max(1, len(text) - _SHINGLE_CHARS + 1))}
