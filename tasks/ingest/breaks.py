"""Lost line breaks: paragraphs that a converter glued together (`socialism.Humans lived`) stand apart again.

In: a text. Out: the same characters, with line breaks between them. Invariant: a break comes only where a sentence of the
Latin script ends in a lower-case letter, digit or closing mark and the next begins with a capital, no space between.
"""

import re

_GLUED = re.compile(r"""(?:(?<=[a-z0-9)\]"”’][.!?])|(?<=[a-z0-9)\]][.!?][")\]”’]))(?=[A-Z][a-z]|[A-Z] )""")


def restore_breaks(text: str) -> str:
    """Returns the text with an empty line wherever two paragraphs are glued.

    Names such as `Node.Js` or `java.util.List` look the same, so it is for sources that are known to have lost their breaks.
    """
    return _GLUED.sub("\n\n", text)
