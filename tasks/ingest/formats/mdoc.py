"""mdoc: the words of a line whose macros say what they are (BSD man pages).

In: macro names and words in their order. Out: the line as a terminal shows it. Invariant: a word is never lost; what is no
macro stands as it is.
"""

from collections.abc import Sequence

_ENCLOSED = {"Op": "[]", "Oo": "[]", "Bq": "[]", "Pq": "()", "Brq": "{}", "Aq": "<>", "In": "<>"}
_ENCLOSED |= {"Dq": "“”", "Qq": '""', "Sq": "‘’", "Ql": "‘’"}
_OPENED = {"Oo": "[", "Po": "(", "Bo": "[", "Ao": "<", "Do": "“", "So": "‘", "Qo": '"', "Bro": "{"}
_CLOSED = {"Oc": "]", "Pc": ")", "Bc": "]", "Ac": ">", "Dc": "”", "Sc": "’", "Qc": '"', "Brc": "}", "Fc": ")"}
_SYSTEMS = {"Bx": "BSD", "Fx": "FreeBSD", "Nx": "NetBSD", "Ox": "OpenBSD", "Ux": "UNIX", "At": "AT&T UNIX", "Bsx": "BSD/OS"}
_MARKED = frozenset(
    {"Ad", "An", "Ar", "Cm", "Dv", "Em", "Er", "Ev", "Fa", "Fd", "Fl", "Fn", "Ft", "Ic", "Li", "Lk", "Mt", "Nd", "Nm", "No", "Pa"}
) | {"Pf", "Ns", "Ap", "St", "Sx", "Sy", "Tn", "Va", "Vt", "Xr", "Xo", "Xc", "Rv", "Ex", "Cd", "Ms", "Fo", "Lb"}
_MARKED |= {f"%{part}" for part in "ABCDIJNOPQRTUV"}  # of a reference: its author, book, city, date, ...
INLINE = _MARKED | _ENCLOSED.keys() | _OPENED.keys() | _CLOSED.keys() | _SYSTEMS.keys()

_NO_SPACE_BEFORE = frozenset(".,:;)]?!")
_NO_SPACE_AFTER = frozenset("([")


def inline(words: Sequence[str], name: str) -> str:
    """Returns the text of a line of macros.

    Args:
        words: Macros and what they apply to, e.g. `["Op", "Fl", "a"]` for `[-a]`.
        name: Name of the page, which `Nm` alone stands for.
    """
    line = _Line(name)
    for number, word in enumerate(words):
        line.word(word, words[number + 1 : number + 3])
    return line.text()


class _Line:
    """Puts words together: spaces between them, none around brackets and before punctuation."""

    def __init__(self, name: str) -> None:
        self._parts: list[str] = []
        self._glue = True
        self._name = name
        self._ends: list[str] = []
        self._flags = False
        self._section = 0

    def text(self) -> str:
        """Returns the line, with what was opened closed."""
        tail: list[str] = []
        while self._parts and self._ends and self._parts[-1] in _NO_SPACE_BEFORE:
            tail.insert(0, self._parts.pop())
        return "".join([*self._parts, *reversed(self._ends), *tail])

    def word(self, word: str, after: Sequence[str]) -> None:
        """Adds a macro or a word."""
        if word in INLINE:
            self._flags = word == "Fl"
            self._macro(word, after)
        elif self._section == 1:
            self._section = 0
            self._parts.append(f"({word})")
        else:
            self._put(f"-{word}" if self._flags and word not in _NO_SPACE_BEFORE else word)
            self._section = max(0, self._section - 1)

    def _macro(self, word: str, after: Sequence[str]) -> None:
        if word == "Ns":
            self._glue = True
        elif word == "Ap":
            self._parts.append("'")
            self._glue = True
        elif word == "Xr":
            self._section = 2 if len(after) > 1 and after[1] not in INLINE else 0
        elif word == "Nm" and (not after or after[0] in INLINE or after[0] in _NO_SPACE_BEFORE):
            self._put(self._name)
        elif word in _SYSTEMS:
            self._put(_SYSTEMS[word])
        elif word == "Nd":
            self._put("-")
        elif word == "Fo":
            self._ends.append("(")  # until `Fc` in a line of its own
        elif word in _OPENED or word in _ENCLOSED:
            self._put(_OPENED.get(word) or _ENCLOSED[word][0])
            self._glue = True
            self._ends += [] if word in _OPENED else [_ENCLOSED[word][1]]
        elif word in _CLOSED:
            self._parts.append(_CLOSED[word])

    def _put(self, word: str) -> None:
        if not self._glue and word not in _NO_SPACE_BEFORE:
            self._parts.append(" ")
        self._parts.append(word)
        self._glue = word in _NO_SPACE_AFTER
