"""The contract of a stage, read from the signature of its function: `(spec: Spec, *artifacts: Artifact, *, ctx) -> Artifact`.

In: a plain function. Out: what it takes and gives. Invariant: a function that breaks the form fails when its module is imported,
and an input of the wrong kind before any work.
"""

import inspect
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, get_type_hints

from tasks.core.artifact import Artifact, Spec
from tasks.core.errors import ContractError

A = TypeVar("A", bound=Artifact)


@dataclass(frozen=True, slots=True)
class Signature(Generic[A]):
    """What a stage takes and gives.

    Attributes:
        takes_many: Whether the last input may be given any number of times (`*runs: Run`).
    """

    spec: type[Spec]
    inputs: dict[str, type[Artifact]]
    takes_many: bool
    output: type[A]

    def names(self, num_inputs: int) -> dict[str, type[Artifact]]:
        """Returns name and kind of each input; those of a parameter that takes many are numbered from 1."""
        if not self.takes_many:
            return self.inputs
        *fixed, (name, kind) = self.inputs.items()
        many = range(1, max(1, num_inputs - len(fixed)) + 1)
        return dict(fixed) | {f"{name}/{number}": kind for number in many}

    def named(self, inputs: Sequence[Artifact]) -> dict[str, Artifact]:
        """Returns the inputs by their names."""
        return dict(zip(self.names(len(inputs)), inputs, strict=True))

    def check(self, stage: str, spec: Spec, inputs: Sequence[Artifact]) -> None:
        """Compares what a stage is given with what it takes.

        Raises:
            ContractError: The spec or an input is of another kind, or their number is wrong.
        """
        if not isinstance(spec, self.spec):
            raise ContractError(f"{stage} takes a {self.spec.__name__}, not {type(spec).__name__}")
        names = self.names(len(inputs))
        if len(inputs) != len(names):
            raise ContractError(f"{stage} takes {list(self.inputs)}, but was given {len(inputs)} artifacts")
        for (name, kind), artifact in zip(names.items(), inputs, strict=True):
            if not isinstance(artifact, kind):
                raise ContractError(f"{stage} takes a {kind.__name__} as {name}, not {type(artifact).__name__}")


def signature_of(fn: Callable[..., A], context: type) -> Signature[A]:
    """Reads the contract of a function; `context` is the class of its `ctx`.

    Raises:
        TypeError: It is not a Spec, then Artifacts (the last one may take many: `*runs`), then the keyword-only `ctx`, with an
            Artifact back.
    """
    hints = get_type_hints(fn, vars(sys.modules[fn.__module__]), {context.__name__: context})
    parameters = list(inspect.signature(fn).parameters.values())
    if not parameters or not _is_a(hints.get(parameters[0].name), Spec):
        raise TypeError(f"{fn.__qualname__}: the first parameter must be a Spec")
    spec, *inputs, last = parameters
    if last.name != "ctx" or last.kind is not inspect.Parameter.KEYWORD_ONLY:
        raise TypeError(f"{fn.__qualname__}: the last parameter must be the keyword-only `ctx: StageContext`")
    for parameter in inputs:
        if not _is_a(hints.get(parameter.name), Artifact):
            raise TypeError(f"{fn.__qualname__}: parameter `{parameter.name}` must be an Artifact")
    if not _is_a(hints.get("return"), Artifact):
        raise TypeError(f"{fn.__qualname__}: it must return an Artifact")
    takes_many = bool(inputs) and inputs[-1].kind is inspect.Parameter.VAR_POSITIONAL
    return Signature(hints[spec.name], {one.name: hints[one.name] for one in inputs}, takes_many, hints["return"])


def _is_a(hint: Any, base: type) -> bool:
    return isinstance(hint, type) and issubclass(hint, base)
