"""Rules of English words: what `tasks/cleaning/english_rules.json` holds, taken from the spaCy that is installed.

In: spaCy. Out: its patterns and exceptions as plain data; run as a module this writes them. Invariant: a test compares the file
with the installed spaCy.
"""

import json
from importlib.metadata import version
from typing import Any

from tasks.cleaning.english_rules import RULES


def spacy_rules() -> dict[str, Any]:
    """Returns patterns, exceptions without white space, and marks that end a sentence."""
    import spacy
    from spacy.pipeline import Sentencizer
    from spacy.symbols import ORTH

    tokenizer = spacy.blank("en").tokenizer
    finders = ("prefix_search", "suffix_search", "infix_finditer", "url_match")
    patterns = [getattr(tokenizer, finder).__self__.pattern for finder in finders]
    exceptions = {
        run: [piece[ORTH] for piece in pieces] for run, pieces in sorted(tokenizer.rules.items()) if run.split() == [run]
    }
    return {
        "source": f"spaCy {version('spacy')} (MIT), spacy.blank('en')",
        **dict(zip(("prefix", "suffix", "infix", "address"), patterns, strict=True)),
        "exceptions": exceptions,
        "sentence_ends": sorted(Sentencizer.default_punct_chars),
    }


if __name__ == "__main__":
    RULES.write_text(json.dumps(spacy_rules(), ensure_ascii=True, indent=0) + "\n", encoding="utf-8")
