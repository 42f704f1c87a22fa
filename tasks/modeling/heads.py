# ruff: noqa: TID253  (runs in training and scoring children only; holds no Spec)
"""Models with a head for labels, and the tokenizer that frames their text.

In: a `transformers` folder, a base's or a labelled model's. Out: `AutoModelForSequenceClassification` or
`AutoModelForTokenClassification` of it. Invariants: labels and their order stand in the configuration; the folder that is
written loads with plain `transformers`, whose own forward pass is the one that is trained.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tasks.core.errors import ContractError
from tasks.modeling.architecture import takes_types
from tasks.modeling.labels import PROBLEMS, HeadFacts
from tasks.modeling.words import load_tokenizer


@dataclass(frozen=True, slots=True)
class Headed:
    """A model with a head.

    Attributes:
        new: Names of the modules the base did not have: always trained, whatever the method.
    """

    model: Any
    new: tuple[str, ...]


def load_with_new_head(folder: Path, tokenizer: Any, facts: HeadFacts, seed: int, dropout: float | None) -> Headed:
    """Loads a base in fp32 and gives it a head; a head it has already, of the same shape, goes on.

    Args:
        folder: The base.
        tokenizer: Knows the padding, which decoders look for to find the end of a text.
        facts: What the head says.
        seed: Seed of the new weights.
        dropout: Share left out while training, wherever the architecture has a dropout; none: as the base says.
    """
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    names = facts.label_names or ("value",)
    config.id2label, config.label2id = dict(enumerate(names)), {name: number for number, name in enumerate(names)}
    config.problem_type, config.pad_token_id = PROBLEMS[facts.task], tokenizer.pad_token_id
    config.value_mean, config.value_spread = facts.mean, facts.spread
    if dropout is not None:
        _set_dropout(config, dropout)
    torch.manual_seed(seed)
    model, found = _load(folder, config, facts.task == "token_classification", ignore_mismatched_sizes=True)
    weights = {*found["missing_keys"], *(key[0] if isinstance(key, tuple) else key for key in found["mismatched_keys"])}
    return Headed(model, tuple(sorted({name.rpartition(".")[0] for name in weights})))


def _set_dropout(config: Any, share: float) -> None:
    for name in vars(config):
        if name.endswith(("dropout", "dropout_prob", "dropout_rate", "_pdrop")):
            setattr(config, name, share)


def _load(folder: Path, config: Any, by_word: bool, **options: Any) -> tuple[Any, dict[str, Any]]:
    from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification
    from transformers.utils import logging

    auto = AutoModelForTokenClassification if by_word else AutoModelForSequenceClassification
    logging.disable_progress_bar()
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # which weights are new is known, and wanted
    try:
        loaded: tuple[Any, dict[str, Any]] = auto.from_pretrained(
            folder,
            config=config,
            dtype=torch.float32,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
            **options,
        )
    finally:
        logging.set_verbosity(verbosity)
    return loaded


def load_headed(folder: Path) -> Any:
    """Loads a labelled model's folder in fp32.

    Raises:
        ContractError: It holds another kind of model.
    """
    from transformers import AutoConfig

    facts, config = head_facts(folder), AutoConfig.from_pretrained(folder, local_files_only=True)
    return _load(folder, config, facts.task == "token_classification")[0]


def head_facts(folder: Path) -> HeadFacts:
    """Returns what the head of a labelled model's folder says.

    Raises:
        ContractError: It holds another kind of model.
    """
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    task = next((task for task, problem in PROBLEMS.items() if problem == config.problem_type), None)
    if task is None:
        raise ContractError(f"{folder} holds a {config.model_type} without a head for labels; tune one on labelled text first")
    names = () if task == "regression" else tuple(config.id2label[number] for number in range(len(config.id2label)))
    mean, spread = getattr(config, "value_mean", 0.0), getattr(config, "value_spread", 1.0)
    return HeadFacts(task=task, label_names=names, mean=mean, spread=spread)


def framing_tokenizer(folder: Path) -> Any:
    """Loads a tokenizer that puts special tokens around a text, and between the two of a pair.

    One that adds none by itself (the pipeline's own) frames as BERT does, `[CLS] text [SEP] pair [SEP]`, where it has those
    tokens, else ends each text with its end of text.
    """
    tokenizer = load_tokenizer(folder)
    if tokenizer.num_special_tokens_to_add() == 0:
        from tokenizers.processors import TemplateProcessing

        start, end = (tokenizer.cls_token, tokenizer.sep_token) if tokenizer.cls_token else ("", tokenizer.eos_token)
        used = [(token, tokenizer.convert_tokens_to_ids(token)) for token in (start, end) if token]
        single = f"{start} $A {end}".strip()
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
            single=single, pair=f"{single} $B:1 {end}:1", special_tokens=used
        )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = tokenizer.truncation_side = "right"
    return tokenizer


def set_words_apart(tokenizer: Any) -> None:
    """Lets each word of a list begin with a space, as in running text, where tokens of bytes hold the space before a word.

    Not where a class of its own builds the tokenizer anew when it is loaded and splits by a pattern first (Qwen's, Cohere's): no
    setting would stay there that puts a space before words alone.
    """
    from tokenizers import normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    backend = tokenizer.backend_tokenizer
    splits, kept = backend.pre_tokenizer, backend.normalizer
    is_sequence = isinstance(splits, pre_tokenizers.Sequence)
    parts = list(splits) if is_sequence else [splits]
    of_bytes = next((part for part in parts if isinstance(part, pre_tokenizers.ByteLevel)), None)
    if of_bytes is None or (kept is not None and kept.normalize_str("a") == " a"):
        return
    if is_sequence:
        if type(tokenizer) is PreTrainedTokenizerFast:
            spaced = normalizers.Prepend(" ")  # the flag below would put a space before every piece of a word
            backend.normalizer = spaced if kept is None else normalizers.Sequence([kept, spaced])
    else:
        of_bytes.add_prefix_space = True
        # Other classes build their tokenizer anew when they are loaded, and go by this.
        tokenizer.add_prefix_space = tokenizer.init_kwargs["add_prefix_space"] = True


def save_headed(model: Any, tokenizer: Any, longest_tokens: int, folder: Path) -> None:
    """Writes a folder that plain `transformers` loads; its tokenizer gives what the model takes, and cuts at `longest_tokens`."""
    tokenizer.model_max_length = longest_tokens
    tokenizer.model_input_names = ["input_ids", *(["token_type_ids"] if takes_types(model) else []), "attention_mask"]
    tokenizer.init_kwargs["model_input_names"] = tokenizer.model_input_names
    model.save_pretrained(folder, safe_serialization=True)
    tokenizer.save_pretrained(str(folder))
