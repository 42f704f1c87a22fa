"""Repair: wrong decoding undone, control characters and loose white space removed.

In: one text. Out: the same text as it was meant, in NFC. Invariants: full-width punctuation and quotation marks stay as
they are; indentation stays, since it is part of code.
"""

import re
from functools import lru_cache
from typing import Any

_SPACES = " \t\u3000"
GAPS = re.compile(r"\n{3,}")
# What ftfy leaves: bidirectional overrides, zero-width characters and the byte order mark inside a text.
_INVISIBLE = re.compile("[\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff\x7f-\x84\x86-\x9f]")


def repair(text: str) -> str:
    """Returns the text with its encoding mended."""
    import ftfy

    fixed = ftfy.fix_text(text, _config())
    fixed = _INVISIBLE.sub("", fixed)
    fixed = "\n".join(line.rstrip(_SPACES) for line in fixed.split("\n"))  # a pattern is quadratic on spaces inside a line
    return GAPS.sub("\n\n", fixed).strip("\n")


@lru_cache
def _config() -> Any:
    import ftfy

    return ftfy.TextFixerConfig(
        unescape_html=False,  # a manual that explains &lt; means it; HTML was decoded when it was extracted
        uncurl_quotes=False,  # Chinese quotation marks are the curly ones
        fix_character_width=False,  # full-width punctuation is Chinese punctuation
        fix_latin_ligatures=True,
        normalization="NFC",
        explain=False,
    )
