"""Adoption: an existing tokenizer, local or from the hub, saved beside what Textmill needs to know of it.

In: a folder, a tokenizer.json or a name on the hub. Out: a `transformers` folder and the role of each special token.
Invariant: its vocabulary stays as it is; what it lacks is an error, not an added token.
"""

import itertools
import json
from pathlib import Path
from typing import Any

from tasks.core.errors import ContractError, TransientError
from tasks.tokenization.specs import AdoptTokenizer, tokenizer_folder

_ENDS = ("<|endoftext|>", "</s>", "<|end_of_text|>", "<eos>")
_TURN_STARTS = ("<|im_start|>", "<|start_header_id|>", "<start_of_turn>")
_TURN_ENDS = ("<|im_end|>", "<|eot_id|>", "<end_of_turn>")
# Tokens that objectives need, where an adopted tokenizer has them: masks by transformers' names, the rest by their texts.
_NAMED = ("mask", "cls", "sep")
_MARKS = {f"fim_{part}": f"<|fim_{part}|>" for part in ("prefix", "suffix", "middle")}
_SENTINEL = "<extra_id_{}>"
_CHATML = Path(__file__).with_name("chatml.jinja")


def adopt(source: AdoptTokenizer, folder: Path) -> dict[str, str]:
    """Saves the tokenizer into `folder` and returns the role of each special token.

    Raises:
        ContractError: It is no fast tokenizer, or knows no token that ends a text.
        TransientError: The hub could not be reached.
    """
    tokenizer = _load(source)
    vocabulary = tokenizer.get_vocab()
    end = tokenizer.eos_token or _first(_ENDS, vocabulary)
    start, turn_end = _first(_TURN_STARTS, vocabulary), _first(_TURN_ENDS, vocabulary)
    if end is None:
        raise ContractError(f"the tokenizer of {source.path or source.name} has no token that ends a text ({', '.join(_ENDS)})")
    if "<|endoftext|>" in vocabulary and turn_end == end:
        end = "<|endoftext|>"  # chat models call the end of a turn eos; documents are separated by the end of a text
    if tokenizer.chat_template is None and start == "<|im_start|>" and turn_end == "<|im_end|>":
        tokenizer.chat_template = _CHATML.read_text(encoding="utf-8")
    tokenizer.pad_token = tokenizer.pad_token or end
    tokenizer.save_pretrained(str(folder))
    _forget_origin(folder)
    roles = {"end_of_text": end, "pad": tokenizer.pad_token, "turn_start": start or end, "turn_end": turn_end or end}
    return roles | _objective_roles(tokenizer, vocabulary)


def _objective_roles(tokenizer: Any, vocabulary: dict[str, int]) -> dict[str, str]:
    named = {role: token for role in _NAMED if (token := getattr(tokenizer, f"{role}_token", None))}
    sentinels = itertools.takewhile(vocabulary.__contains__, map(_SENTINEL.format, itertools.count()))
    marks = {role: text for role, text in _MARKS.items() if text in vocabulary}
    return named | marks | {f"sentinel_{number}": text for number, text in enumerate(sentinels)}


def _load(source: AdoptTokenizer) -> Any:
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    where, revision = tokenizer_folder(source)
    try:
        if source.path is not None and not (Path(where) / "tokenizer_config.json").exists():
            return PreTrainedTokenizerFast(tokenizer_file=str(Path(where) / "tokenizer.json"), clean_up_tokenization_spaces=False)
        tokenizer = AutoTokenizer.from_pretrained(where, revision=revision, use_fast=True, trust_remote_code=False)
    except Exception as error:  # the tokenizers library raises Exception itself
        kind = ContractError if source.path is not None else TransientError
        raise kind(f"the tokenizer of {where} could not be loaded: {error}") from error
    if not tokenizer.is_fast:
        raise ContractError(f"the tokenizer of {where} is no fast one: it has no tokenizer.json")
    return tokenizer


def _first(names: tuple[str, ...], vocabulary: dict[str, int]) -> str | None:
    return next((name for name in names if name in vocabulary), None)


def _forget_origin(folder: Path) -> None:
    """Takes out of the configuration where the files lay, which is no part of what they are."""
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    for key in ("name_or_path", "local_files_only", "_commit_hash", "cache_dir", "is_local"):
        config.pop(key, None)
    path.write_text(json.dumps(config, indent=2, ensure_ascii=False, sort_keys=True) + "\n", encoding="utf-8")
