"""Encoders: texts to token ids, by gigatoken where it gives the ids of `tokenizers`, else by that itself.

In: a tokenizer folder. Out: an `Encoder`. Invariants: special tokens are never made from text; a fast encoder is taken only after
its ids were equal on probes of this corpus and on texts that are hard to split.
"""

import json
import multiprocessing
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from tasks.tokenization.encoded import Counts, Encoded
from tasks.tokenization.runs import MOST_DIGITS, RunsEncoder
from tasks.tokenization.training import load_plain, split_pattern

EncoderName = Literal["gigatoken", "runs", "tokenizers"]

_FAST: tuple[EncoderName, ...] = ("gigatoken", "runs")
_HARD_TEXTS = (
    "",
    " \t\u3000\u00a0  \r\n\r\n \n",
    "e\u0301 \u1100\u1161 \u0e33 \U0001f469\u200d\U0001f469\u200d\U0001f467 \ufeff\u200b",
    "1234567 3.14 \u0663\u0664\u0665 \u2460\u00bd",
    "\x00\x01\x1b[31m",
    "It's I'LL \u017f'S \u0130stanbul DON'T",
    "中文与English混排，全角「标点」……——！",
    "    def f(x):\n\treturn x  # 注释",
    "二〇二六年，“'tis”\r\n\r\n !\n\n　's 'Sound x's'd 12〇 \t a",
)


class Encoder(Protocol):
    """Gives the ids of texts."""

    def __call__(self, texts: Sequence[str]) -> Encoded:
        """Encodes texts without adding any token."""
        ...


class _Tokenizers:
    """The reference: `tokenizers`, a thread a core."""

    def __init__(self, folder: Path) -> None:
        self._model = load_plain(folder)

    def __call__(self, texts: Sequence[str]) -> Encoded:
        found = self._model.encode_batch_fast(list(texts), add_special_tokens=False)
        return Encoded.in_a_row([np.array(one.ids, np.uint32) for one in found])


class _Gigatoken:
    """gigatoken (github.com/marcelroed/gigatoken), which knows the usual ways of splitting text only; a thread a core."""

    def __init__(self, folder: Path) -> None:
        self._model = _load_gigatoken(_tokenizer_json(folder))

    def __call__(self, texts: Sequence[str]) -> Encoded:
        return _in_a_row(self._model, list(texts))


class _Runs:
    """gigatoken for the default split, which it does not know: by that of Llama 3, on texts cut where the two go apart."""

    def __init__(self, folder: Path) -> None:
        tokenizer = _tokenizer_json(folder)
        max_digits = _han_runs_digits(tokenizer)
        self._model = _load_gigatoken(_split_as_llama3(tokenizer))
        self._encoder = RunsEncoder(self._fast, _Tokenizers(folder), max_digits)

    def __call__(self, texts: Sequence[str]) -> Encoded:
        return self._encoder(texts)

    def _fast(self, text: bytes, num_bytes_P: Counts) -> Encoded:
        from awkward import Array, contents, index

        chars = contents.NumpyArray(np.frombuffer(text, np.uint8), parameters={"__array__": "char"})
        bounds = index.Index64(np.concatenate(([0], np.cumsum(num_bytes_P))))
        return _in_a_row(self._model, Array(contents.ListOffsetArray(bounds, chars, parameters={"__array__": "string"})))


def _in_a_row(model: Any, texts: Any) -> Encoded:
    """Returns what gigatoken makes of a list or an awkward array of strings, with a thread a core outside of worker processes."""
    found = model.encode_batch(texts, parallel=multiprocessing.parent_process() is None).layout
    return Encoded(np.asarray(found.content.data), np.diff(np.asarray(found.offsets.data)))


@lru_cache(maxsize=2)
def _tokenizer_json(folder: Path) -> Any:
    return json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))


def _load_gigatoken(tokenizer: Any) -> Any:
    from gigatoken.gigatoken_rs import load_hf_json

    # It makes special tokens from text, and there is no switch: it is not told of them.
    ordinary = [token for token in tokenizer["added_tokens"] if not token["special"]]
    return load_hf_json(json.dumps(tokenizer | {"added_tokens": ordinary}).encode())


def _split_as_llama3(tokenizer: Any) -> Any:
    """Returns the same with the pattern of its first step, which splits, replaced."""
    steps = tokenizer["pre_tokenizer"]
    first, *rest = steps["pretokenizers"]
    first = first | {"pattern": {"Regex": split_pattern("llama3", MOST_DIGITS)}}
    return tokenizer | {"pre_tokenizer": steps | {"pretokenizers": [first, *rest]}}


def _han_runs_digits(tokenizer: Any) -> int:
    """Returns how many digits a token may hold where a tokenizer splits text by runs of Han characters and does no more.

    Raises:
        ValueError: It splits or changes text in another way, or a token may hold more digits than Llama 3's.
    """
    steps = (tokenizer["pre_tokenizer"] or {}).get("pretokenizers", [])
    is_plain = tokenizer["normalizer"] is None and len(steps) == 2 and all(one["special"] for one in tokenizer["added_tokens"])
    pattern = steps[0].get("pattern", {}).get("Regex") if is_plain else None
    for number in range(1, MOST_DIGITS + 1):
        if split_pattern("han_runs", number) == pattern:
            return number
    raise ValueError("another split than han_runs")


@lru_cache(maxsize=2)
def load_encoder(folder: Path, name: EncoderName) -> Encoder:
    """Returns an encoder, loaded once a process."""
    match name:
        case "gigatoken":
            return _Gigatoken(folder)
        case "runs":
            return _Runs(folder)
        case "tokenizers":
            return _Tokenizers(folder)


def choose_encoder(folder: Path, probes: Iterable[str]) -> tuple[EncoderName, str]:
    """Returns the library to encode with, and why it is that one."""
    texts = [*_HARD_TEXTS, *_special_texts(folder), *probes]
    sure = _Tokenizers(folder)(texts)
    reasons = []
    for name in _FAST:
        try:
            fast = load_encoder(folder, name)(texts)
        except Exception as error:  # not installed, or a tokenizer of a kind it does not know: said in many ways
            reasons.append(f"{name} does not take this tokenizer ({str(error).splitlines()[0][:80]})")
            continue
        if np.array_equal(fast.lengths_D, sure.lengths_D) and np.array_equal(fast.ids_N, sure.ids_N):
            return name, f"ids equal to those of tokenizers on {len(texts)} probes"
        reasons.append(f"{name} gives other ids than tokenizers on a probe")
    return "tokenizers", "; ".join(reasons)


def _special_texts(folder: Path) -> list[str]:
    return [f"a{token['content']} b" for token in _tokenizer_json(folder)["added_tokens"]]
