"""An existing tokenizer made ready: which of its tokens plays which role, saved so that equal tokenizers are equal bytes.

In: a tokenizer of `transformers`. Out: the role of each special token, a folder. Invariant: its vocabulary stays as it is; what
it lacks is an error, not an added token. Nothing here imports torch.
"""

import itertools
import json
from pathlib import Path
from typing import Any

from tasks.core.errors import ContractError

CHATML = Path(__file__).with_name("chatml.jinja")
_PLAIN = Path(__file__).with_name("plain_chat.jinja")  # for decoders whose tokenizer has no marks of turns
_ENDS = ("<|endoftext|>", "</s>", "<|end_of_text|>", "<eos>")
_TURN_STARTS = ("<|im_start|>", "<|start_header_id|>", "<start_of_turn>")
_TURN_ENDS = ("<|im_end|>", "<|eot_id|>", "<end_of_turn>")
# Tokens that objectives need, where a tokenizer has them: masks by transformers' names, the rest by their texts.
_NAMED = ("mask", "cls", "sep")
_MARKS = {f"fim_{part}": f"<|fim_{part}|>" for part in ("prefix", "suffix", "middle")}
_SENTINEL = "<extra_id_{}>"


def settle(tokenizer: Any, where: str) -> dict[str, str]:
    """Gives the tokenizer a pad token and, where it has none, a chat template; returns its roles.

    The template is ChatML where its marks are tokens, else one of plain text. Encoders get none.

    Args:
        tokenizer: A fast one.
        where: What a message calls it.

    Raises:
        ContractError: It is no fast tokenizer, or knows no token that ends a text.
    """
    if not tokenizer.is_fast:
        raise ContractError(f"the tokenizer of {where} is no fast one: it has no tokenizer.json")
    vocabulary = tokenizer.get_vocab()
    end = tokenizer.eos_token or _first(_ENDS, vocabulary) or tokenizer.sep_token  # encoders separate texts and end none
    start, turn_end = _first(_TURN_STARTS, vocabulary), _first(_TURN_ENDS, vocabulary)
    if end is None:
        raise ContractError(f"the tokenizer of {where} has no token that ends a text ({', '.join(_ENDS)})")
    if "<|endoftext|>" in vocabulary and turn_end == end:
        end = "<|endoftext|>"  # chat models call the end of a turn eos; documents are separated by the end of a text
    if tokenizer.chat_template is None and tokenizer.eos_token is not None:
        has_marks = start == "<|im_start|>" and turn_end == "<|im_end|>"
        tokenizer.chat_template = (CHATML if has_marks else _PLAIN).read_text(encoding="utf-8")
    tokenizer.pad_token = tokenizer.pad_token or end
    roles = {"end_of_text": end, "pad": tokenizer.pad_token, "turn_start": start or end, "turn_end": turn_end or end}
    return roles | _objective_roles(tokenizer, vocabulary)


def _objective_roles(tokenizer: Any, vocabulary: dict[str, int]) -> dict[str, str]:
    named = {role: token for role in _NAMED if (token := getattr(tokenizer, f"{role}_token", None))}
    sentinels = itertools.takewhile(vocabulary.__contains__, map(_SENTINEL.format, itertools.count()))
    marks = {role: text for role, text in _MARKS.items() if text in vocabulary}
    return named | marks | {f"sentinel_{number}": text for number, text in enumerate(sentinels)}


def _first(names: tuple[str, ...], vocabulary: dict[str, int]) -> str | None:
    return next((name for name in names if name in vocabulary), None)


def save_settled(tokenizer: Any, folder: Path) -> None:
    """Writes the tokenizer, and takes out of its configuration where the files lay, which is no part of what they are."""
    tokenizer.save_pretrained(str(folder))
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    for key in ("name_or_path", "local_files_only", "_commit_hash", "cache_dir", "is_local", "gguf_file"):
        config.pop(key, None)
    path.write_text(json.dumps(config, indent=2, ensure_ascii=False, sort_keys=True) + "\n", encoding="utf-8")
