"""The rules by which spaCy finds English words, as data: importing spaCy takes longer than cleaning a few megabytes.

In: a run of characters without white space. Out: how much of it is a mark at its ends, where it is cut, what it is as a whole.
Invariant: the rules are those of `spacy.blank("en")`, which a test asks; `python -m tests.english_rules` writes the file anew.

What spaCy's patterns say of ASCII is said here a second time in tables and a short pattern, since most runs are ASCII and the
patterns list every script.
"""

import json
import re
import string
from collections.abc import Iterator
from functools import cached_property, lru_cache
from itertools import takewhile
from pathlib import Path
from typing import Any

RULES = Path(__file__).parent / "english_rules.json"

_NO_MARKS = string.digits + "-/@\\^|~"
_MARKS = dict.fromkeys(",:;!?()[]{}<>_#*&'\"`", 1)
_PREFIX_CHARS = _MARKS | dict.fromkeys("%=", 1) | dict.fromkeys(set(string.ascii_letters) - set("UCA") | set(_NO_MARKS), 0)
_SUFFIX_CHARS = _MARKS | dict.fromkeys(_NO_MARKS + "=", 0)
_PREFIX_WINDOW = 4  # the longest prefix but for dots has 3 characters, and one looks ahead
_SUFFIX_WINDOW = 8  # the longest suffix but for dots has 5 characters and looks 2 further back
_ASCII_INFIX = re.compile(
    r"""[-+*^.,:<>=/~](?:(?<=\.)\.+|(?<=[0-9][-+*^])(?=[0-9-])|(?<=[a-z'"`,]\.)(?=[A-Z'"`,])|(?<=[A-Za-z],)(?=[A-Za-z])"""
    r"""|(?<=[A-Za-z0-9]-)-{0,2}?(?=[A-Za-z])|(?<=[A-Za-z0-9][~:<>=/])(?=[A-Za-z]))"""
)


class EnglishRules:
    """What is cut off a run and where.

    Attributes:
        exceptions: Runs that are taken whole, and their words.
    """

    def __init__(self, rules: dict[str, Any]) -> None:
        self.exceptions: dict[str, tuple[str, ...]] = {run: tuple(words) for run, words in rules["exceptions"].items()}
        self._rules = rules

    def prefix_chars(self, run: str, start: int, end: int) -> int:
        """Characters of the mark before a part of a run; none of an empty part."""
        head = run[start : min(end, start + _PREFIX_WINDOW)]
        known = _PREFIX_CHARS.get(head[:1])
        if known is not None:
            return known
        if head.startswith(".."):
            return _num_dots(run, range(start, end))
        found = self._prefix.match(head)
        return found.end() if found else 0

    def suffix_chars(self, run: str, start: int, end: int) -> int:
        """Characters of the mark or unit after a part of a run; none of an empty part."""
        tail = run[max(start, end - _SUFFIX_WINDOW) : end]
        known = _SUFFIX_CHARS.get(tail[-1:])
        if known is not None:
            return known
        if tail.endswith(".."):
            return _num_dots(run, range(end - 1, start - 1, -1))
        if tail.isascii() and tail.isalpha():
            return 0
        found = self._suffix.search(tail)
        return found.end() - found.start() if found else 0

    def is_address(self, run: str) -> bool:
        """Whether a run is an address of the web."""
        return "." in run and self._address.match(run) is not None  # no address is without a stop

    def infixes(self, run: str) -> Iterator[re.Match[str]]:
        """Returns the marks inside a run."""
        return (_ASCII_INFIX if run.isascii() else self._infix).finditer(run)

    def is_cut(self, run: str) -> bool:
        """Whether any rule but an exception cuts the run."""
        ends = self.prefix_chars(run, 0, len(run)) or self.suffix_chars(run, 0, len(run))
        return bool(ends or any(True for _ in self.infixes(run)))

    @cached_property
    def _prefix(self) -> re.Pattern[str]:
        return re.compile(self._rules["prefix"])

    @cached_property
    def _suffix(self) -> re.Pattern[str]:
        return re.compile(self._rules["suffix"])

    @cached_property
    def _infix(self) -> re.Pattern[str]:
        return re.compile(self._rules["infix"])

    @cached_property
    def _address(self) -> re.Pattern[str]:
        # spaCy's form lets every colon begin the password; each is looked at once here.
        return re.compile(self._rules["address"].replace(r"\S+(?::\S*)?@", r"\S+@"))


def _num_dots(run: str, places: range) -> int:
    """Dots of a run that come first at these places."""
    return sum(1 for _ in takewhile(lambda place: run[place] == ".", places))


@lru_cache
def rules_file() -> dict[str, Any]:
    """Returns what the file holds."""
    rules: dict[str, Any] = json.loads(RULES.read_text(encoding="utf-8"))
    return rules
