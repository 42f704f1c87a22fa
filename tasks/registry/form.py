"""What form a version has: the whole model or its adapter alone, how long it answers unless a caller says otherwise, and how many
questions it carries.

In: what a recipe asks for, and a version of the same checkpoint. Out: nothing, or an error. Invariant: what a version holds is
read from its own `MLmodel`, so that those of earlier releases are known too.
"""

import json
from dataclasses import dataclass

from tasks.core.errors import ContractError
from tasks.core.site import Site
from tasks.core.tracking import TRIAL, RegisteredVersion, download


@dataclass(frozen=True, slots=True)
class Form:
    """What a version holds (`registry.holds`), and its longest answer (`registry.answer_tokens`; none: it does not say)."""

    holds: str
    answer_tokens: int | None

    @property
    def tags(self) -> dict[str, str]:
        """Tags of the logged model."""
        return {"textmill.holds": self.holds, "textmill.answer_tokens": str(self.answer_tokens)}


def check_form(version: RegisteredVersion, asked: Form, site: Site) -> None:
    """Checks that the version of a checkpoint has the form that is asked for.

    Raises:
        ContractError: It has another one, and a version does not change.
    """
    has = held(version, site)
    if has.holds != asked.holds:
        raise _refused(version, f"holds this model as its {has.holds}", "holds", has.holds, asked.holds)
    if has.answer_tokens not in (None, asked.answer_tokens):
        raise _refused(version, "holds this model", "answer_tokens", has.answer_tokens, asked.answer_tokens)


def check_trial(version: RegisteredVersion, asked: int, possible: int, site: Site) -> None:
    """Checks that the version of a labelled model carries as many trial questions as are asked for, or as its test items allow.

    Args:
        asked: What `registry.trial_items` says.
        possible: How many of them the test items give.

    Raises:
        ContractError: It carries another number, and a version does not change.
    """
    has = len(json.loads((download(site, version) / TRIAL).read_text(encoding="utf-8")))
    if not possible <= has <= asked:
        raise _refused(version, "holds this model", "trial_items", has, asked)


def _refused(version: RegisteredVersion, what: str, key: str, has: object, asked: object) -> ContractError:
    return ContractError(
        f"{version} {what} with registry.{key} = {has}, and {asked} is asked for; a version does not change. Set registry.{key} "
        f"to {has}, or registry.name to another name: it gets a version of its own there"
    )


def held(version: RegisteredVersion, site: Site) -> Form:
    """Returns the form of a registered version."""
    from mlflow.models import Model

    about = Model.load(str(download(site, version)))
    params = about.signature.params.params if about.signature is not None and about.signature.params is not None else []
    tokens = next((int(param.default) for param in params if param.name == "max_new_tokens"), None)
    alone = "base" in (about.flavors["python_function"].get("config") or {})
    return Form("adapter" if alone else "model", tokens)
