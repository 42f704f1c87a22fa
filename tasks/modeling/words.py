"""The tokenizer as models need it: special ids, prompts, files to copy.

In: a tokenizer folder. Out: ids and texts. Invariant: the prompt of training, scoring and serving is the same, since all
of them come from the tokenizer's own chat template.
"""

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import TemplateError

from tasks.contracts import Tokenizer
from tasks.core.errors import ContractError
from tasks.core.fingerprint import file_digest
from tasks.core.store import FileEntry, content_digest

_ROLES = ("end_of_text", "pad", "turn_end")
BEGIN = "begin_of_text"  # the role of a token that only some tokenizers have
_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "special_tokens.json",
)


@dataclass(frozen=True, slots=True)
class SpecialIds:
    """Ids of the tokens that are not text.

    Attributes:
        begin_of_text: What opens a text, where that is another token than the one that ends the text before.
    """

    end_of_text: int
    pad: int
    turn_end: int
    begin_of_text: int | None = None

    @property
    def opening(self) -> int:
        """What a model reads before the first token of a text."""
        return self.end_of_text if self.begin_of_text is None else self.begin_of_text


def special_ids(tokenizer: Any, special_tokens: dict[str, str]) -> SpecialIds:
    """Returns the ids of the special tokens, given the text of each role.

    Raises:
        ContractError: A role is missing, or its text is not one token.
    """
    begins = (BEGIN,) if BEGIN in special_tokens else ()
    return SpecialIds(**role_ids(tokenizer, special_tokens, (*_ROLES, *begins)))


def role_ids(tokenizer: Any, special_tokens: dict[str, str], roles: Iterable[str]) -> dict[str, int]:
    """Returns the id of the special token of each role.

    Raises:
        ContractError: A role is missing, or its text is not one token.
    """
    ids = {}
    for role in roles:
        text = special_tokens.get(role)
        number = tokenizer.convert_tokens_to_ids(text) if text else None
        if number is None or (number == tokenizer.unk_token_id and text != tokenizer.unk_token):
            raise ContractError(
                f"the tokenizer has no token for {role} ({text!r} of {special_tokens}); "
                "train one with these special tokens, or name the tokens that play these roles"
            )
        ids[role] = number
    return ids


def model_special_ids(model: Any) -> SpecialIds:
    """Returns the special ids that a model folder made here names in its configuration.

    Raises:
        ContractError: The configuration does not name two stop tokens, the end of a turn and the end of a text, and an opening.
    """
    config = model.config
    if config.is_encoder_decoder:
        return _of_encoder_decoder(config)
    stops = config.eos_token_id if isinstance(config.eos_token_id, list) else []
    if len(stops) != 2 or not isinstance(config.bos_token_id, int):
        raise ContractError(
            f"{config.name_or_path}: eos_token_id must be [turn end, end of text], not {config.eos_token_id}, and bos_token_id "
            f"what opens a text, not {config.bos_token_id}"
        )
    begin = config.bos_token_id if config.bos_token_id != stops[1] else None
    return SpecialIds(end_of_text=stops[1], pad=config.pad_token_id, turn_end=stops[0], begin_of_text=begin)


def _of_encoder_decoder(config: Any) -> SpecialIds:
    """An encoder-decoder ends what it writes with the end of a text; turns are told apart in what it reads."""
    if not isinstance(config.eos_token_id, int) or not hasattr(config, "turn_end_token_id"):
        raise ContractError(f"{config.name_or_path}: eos_token_id and turn_end_token_id must be one token each")
    return SpecialIds(end_of_text=config.eos_token_id, pad=config.pad_token_id, turn_end=config.turn_end_token_id)


def load_tokenizer(folder: Path) -> Any:
    """Loads the tokenizer of a folder; nothing is fetched and no code in it is run."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


def copy_tokenizer(source: Path, target: Path) -> None:
    """Copies the files that make a tokenizer."""
    target.mkdir(parents=True, exist_ok=True)
    for name in _TOKENIZER_FILES:
        if (source / name).exists():
            shutil.copyfile(source / name, target / name)


def tokenizer_digest(folder: Path) -> str:
    """Returns the digest of a `Tokenizer` that would hold the tokenizer of this model folder, and nothing else."""
    there = [folder / name for name in sorted(_TOKENIZER_FILES) if (folder / name).exists()]
    files = {path.name: FileEntry(num_bytes=path.stat().st_size, sha256=file_digest(path)) for path in there}
    return content_digest(Tokenizer.kind(), Tokenizer.schema_version, files)


def chat_ids(tokenizer: Any, messages: list[dict[str, str]], *, to_answer: bool) -> list[int]:
    """Returns the ids of a conversation, with the opening of an answer at the end if `to_answer`.

    Raises:
        ContractError: The chat template refuses it.
    """
    try:
        return list(tokenizer.apply_chat_template(messages, tokenize=True, add_generation_prompt=to_answer, return_dict=False))
    except TemplateError as error:  # the template is a program of whoever made the base
        roles = ", ".join(message["role"] for message in messages)
        raise ContractError(
            f"the chat template refuses a conversation of {roles} ({error}); leave system messages out, or set "
            "base.chat_template to plain"
        ) from error
