"""Adoption: an existing tokenizer, local or from the hub, saved beside what Textmill needs to know of it.

In: a folder, a tokenizer.json or a name on the hub. Out: a `transformers` folder and the role of each special token.
Invariant: its vocabulary stays as it is; what it lacks is an error, not an added token.
"""

from pathlib import Path
from typing import Any

from tasks.core.errors import ContractError, TransientError
from tasks.modeling.roles import save_settled, settle
from tasks.tokenization.specs import AdoptTokenizer, tokenizer_folder


def adopt(source: AdoptTokenizer, folder: Path) -> dict[str, str]:
    """Saves the tokenizer into `folder` and returns the role of each special token.

    Raises:
        ContractError: It is no fast tokenizer, or knows no token that ends a text.
        TransientError: The hub could not be reached.
    """
    tokenizer = _load(source)
    roles = settle(tokenizer, str(source.path or source.name))
    save_settled(tokenizer, folder)
    return roles


def adopt_from_base(base: Path, folder: Path) -> dict[str, str]:
    """Copies the tokenizer of a model folder into `folder` and returns the role of each special token."""
    from tasks.modeling.words import copy_tokenizer, load_tokenizer

    copy_tokenizer(base, folder)
    return settle(load_tokenizer(folder), str(base))


def _load(source: AdoptTokenizer) -> Any:
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    where, revision = tokenizer_folder(source)
    try:
        if source.path is not None and not (Path(where) / "tokenizer_config.json").exists():
            return PreTrainedTokenizerFast(tokenizer_file=str(Path(where) / "tokenizer.json"), clean_up_tokenization_spaces=False)
        return AutoTokenizer.from_pretrained(where, revision=revision, use_fast=True, trust_remote_code=False)
    except Exception as error:  # the tokenizers library raises Exception itself
        kind = ContractError if source.path is not None else TransientError
        raise kind(f"the tokenizer of {where} could not be loaded: {error}") from error
