"""Where words and sentences begin among the tokens of a text.

In: the bytes of each token. Out: numbers of tokens. Invariant: a word is never cut: tokens that share one stay together; a
token that lies across the border of two sentences belongs to the first. Nothing here imports torch.
"""

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tasks.core.segment import jieba_tokenizer

_WORD = re.compile(r"\S+")
_SENTENCE_END = re.compile(r"[。！？…]+[”’」』）]*|[.!?]+[\"')\]]*(?=\s)|\n+")


def word_starts(token_bytes: Sequence[bytes], lang: str) -> NDArray[np.int64]:
    """Returns the tokens that begin a group: of each word, by jieba in Chinese and by white space elsewhere, all tokens.

    White space before a word belongs to its group where one token holds both, as byte-level tokenizers do.
    """
    inside: set[int] = set()
    for start, stop in _spans(token_bytes, lang):
        inside.update(range(start + 1, stop))
    starts = _starts(token_bytes)
    return np.array([number for number, start in enumerate(starts) if start not in inside], dtype=np.int64)


def sentence_starts(token_bytes: Sequence[bytes]) -> NDArray[np.int64]:
    """Returns the tokens that begin a sentence: after 。！？…, after .!? before white space, after a line's end."""
    text = _text(token_bytes)
    ends = _byte_places(text, [match.end() for match in _SENTENCE_END.finditer(text)])
    found = np.searchsorted(_starts(token_bytes), ends)
    return np.unique(np.array([0, *(number for number in found if number < len(token_bytes))], dtype=np.int64))


def _spans(token_bytes: Sequence[bytes], lang: str) -> list[tuple[int, int]]:
    """Returns where each word lies, in bytes."""
    text = _text(token_bytes)
    if lang == "zh":
        words = [(start, stop) for _, start, stop in jieba_tokenizer().tokenize(text)]
    else:
        words = [match.span() for match in _WORD.finditer(text)]
    places = _byte_places(text, [place for word in words for place in word])
    return list(zip(places[::2], places[1::2], strict=True))


def _text(token_bytes: Sequence[bytes]) -> str:
    """Returns the text; bytes that are no character (a piece may begin inside one) become one character each."""
    return b"".join(token_bytes).decode("utf-8", "surrogateescape")


def _byte_places(text: str, places: Sequence[int]) -> list[int]:
    lengths = [len(char.encode("utf-8", "surrogateescape")) for char in text]
    before = [0, *np.cumsum(lengths).tolist()]
    return [int(before[place]) for place in places]


def _starts(token_bytes: Sequence[bytes]) -> list[int]:
    lengths = [len(token) for token in token_bytes]
    return [0, *np.cumsum(lengths[:-1]).tolist()] if lengths else []
