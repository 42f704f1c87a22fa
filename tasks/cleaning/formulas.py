"""Formulas: one that was pasted two or three times over stands once.

In: one text. Out: the text in which "E=mc2E=mc^2E=mc2" (a page's MathML, TeX and picture text, copied together) is the form
that says most. Invariant: runs without a relation or an operator of mathematics stay, whatever they repeat.
"""

import re
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from tasks.cleaning.base import Example, FilterBase, Judge, same

_RUN = re.compile(r"[^\s\u3000-\u303f\u3400-\u9fff\uff00-\uff65]{6,600}")
_SIGN = re.compile(r"[=<>≤≥≈≠≡∈∉⊂⊆∑∏∫√±×÷∝→⇒]|\\[a-zA-Z]+")
_MARKUP = frozenset("^_{}\\$")
_ENDS = re.compile(r"[\w)\]}|!′]")
_STARTS = re.compile(r"[\w(\[{|\\∑∏∫√±$−-]")


class Formulas(FilterBase):
    """Formulas whose renderings were copied together."""

    kind: Literal["formulas"]
    min_chars: Annotated[
        int,
        Field(ge=3, description="Shortest formula, without mark-up. 3: `x=1` is the shortest that says something of a quantity."),
    ] = 3

    EXAMPLES: ClassVar[tuple[Example, ...]] = (
        Example("质能方程E=mc2E=mc^2E=mc2说明了", "zh", None, "质能方程E=mc^2说明了"),
        Example("Here a+b=ca+b=c holds.", "en", None, "Here a+b=c holds."),
        Example("For x_{1}=0x1=0 we have", "en", None, "For x_{1}=0 we have"),
        Example("while (a==b==c) tartar a=1&a=1& and ====== stay", "en", None),
    )

    def build(self) -> Judge:
        """Returns the judge, the same for every language."""
        return same(lambda text: _RUN.sub(lambda found: _once(found.group(), self.min_chars), text))


def _once(run: str, min_chars: int) -> str:
    """Returns one copy of a run that is three or two times the same formula, mark-up apart; any other run as it is."""
    if not _SIGN.search(run):
        return run
    places = [place for place, char in enumerate(run) if char not in _MARKUP]
    plain = "".join(run[place] for place in places)
    for times in (3, 2):
        size, rest = divmod(len(plain), times)
        unit = plain[:size]
        if rest or size < min_chars or unit * times != plain:
            continue
        if _SIGN.search(unit) and _STARTS.match(unit) and _ENDS.match(unit[-1]):
            return max(_copies(run, places, size), key=len)
    return run


def _copies(run: str, places: list[int], size: int) -> list[str]:
    """Cuts a run into its copies; an opening brace, a backslash and a dollar sign belong to what follows them."""
    cuts = [0]
    for first in places[size::size]:
        while run[first - 1] in "{\\$":
            first -= 1
        cuts.append(first)
    return [run[start:end] for start, end in zip(cuts, [*cuts[1:], len(run)], strict=True)]
