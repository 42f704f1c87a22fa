"""Which tuning method to try first: a table of rules over labels, size, memory and task.

In: what is known before a tuning. Out: a method, with the reason and its source. Invariant: the first rule that holds speaks, and
nothing acts on it.
"""

from collections.abc import Callable
from dataclasses import dataclass

# Bytes a weight while training: all of them (fp32 weight, gradient and two moments), or a frozen base in fp32 with its bf16 copy.
FULL_BYTES, FROZEN_BYTES, FOUR_BIT_BYTES = 16, 6, 1
_FEW, _MANY = 100, 1_000
_SMALL = 50_000_000


@dataclass(frozen=True, slots=True)
class Situation:
    """What is known before a tuning.

    Attributes:
        num_labels: Labelled training items; none where the model answers.
        device_bytes: Memory of a device; none where it cannot be told.
    """

    num_labels: int | None
    num_parameters: int
    device_bytes: int | None
    has_cuda: bool

    @property
    def answers(self) -> bool:
        """Whether the model is to answer; else it labels."""
        return self.num_labels is None

    def fits(self, bytes_per_weight: float) -> bool:
        """Says whether weights of so many bytes leave a third of the memory to activations and the process."""
        return self.device_bytes is None or self.num_parameters * bytes_per_weight <= 2 / 3 * self.device_bytes


@dataclass(frozen=True, slots=True)
class Advice:
    """A method to try first, and why."""

    method: str
    reason: str
    source: str

    def __str__(self) -> str:
        return f"{self.method}: {self.reason} ({self.source})"


@dataclass(frozen=True, slots=True)
class _Rule:
    holds: Callable[[Situation], bool]
    advice: Advice


RULES = (
    _Rule(
        lambda one: not one.fits(FROZEN_BYTES) and one.answers and one.has_cuda and one.fits(FOUR_BIT_BYTES),
        Advice("qlora", "the base fits the memory in 4 bits only", "Dettmers et al., arXiv:2305.14314"),
    ),
    _Rule(
        lambda one: not one.fits(FROZEN_BYTES),
        Advice("a smaller base", "not even frozen weights fit the memory", "6 bytes a weight, tasks/modeling/sizing.py"),
    ),
    _Rule(
        lambda one: not one.fits(FULL_BYTES),
        Advice("lora", "16 bytes a weight for all of them do not fit the memory", "Hu et al., arXiv:2106.09685"),
    ),
    _Rule(
        lambda one: one.answers and one.num_parameters >= _SMALL,
        Advice("lora", "it forgets less of the general text, and the adapter is small", "Biderman et al., arXiv:2405.09673"),
    ),
    _Rule(
        lambda one: one.answers,
        Advice(
            "full", "a base this small is quick to train whole, and full tuning learns more", "Biderman et al., arXiv:2405.09673"
        ),
    ),
    _Rule(
        lambda one: one.num_labels is not None and one.num_labels < _FEW,
        Advice("lora", "with about 100 examples it beat training all weights", "Hu et al., arXiv:2106.09685, appendix F.3"),
    ),
    _Rule(
        lambda one: one.num_labels is not None and one.num_labels < _MANY,
        Advice("layer_decay", "lower layers are general and should move less", "Howard and Ruder, arXiv:1801.06146"),
    ),
    _Rule(
        lambda one: True,
        Advice("full", "there are labels enough for all weights", "Devlin et al., arXiv:1810.04805"),
    ),
)


def advise(situation: Situation) -> Advice:
    """Returns the advice of the first rule that holds."""
    return next(rule.advice for rule in RULES if rule.holds(situation))
