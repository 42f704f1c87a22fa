"""Tokenizer: trained on the training split, or adopted; saved as a `transformers` folder.

In: `CleanCorpus`, and the given base. Out: `Tokenizer`. Invariants: the same corpus gives the same bytes; a trained one encodes
and decodes any text without loss, and an adopted one that knows too little of it is refused; special tokens are never made
from text.
"""

import json
from collections import defaultdict
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from tasks.contracts import Checkpoint, CleanCorpus, Tokenizer
from tasks.core.errors import ContractError, RecipeError
from tasks.core.stage import NETWORK, StageContext, stage
from tasks.core.tables import read_rows
from tasks.modeling.roles import CHATML
from tasks.tokenization.specs import AdoptTokenizer, BaseTokenizer, TokenizerSpec, TrainTokenizer

END_OF_TEXT, PAD, TURN_START, TURN_END = "<|endoftext|>", "<|pad|>", "<|im_start|>", "<|im_end|>"
SPECIAL_TOKENS = (END_OF_TEXT, PAD, TURN_START, TURN_END)  # their ids are 0 to 3; what an objective needs follows
_NAMED = ("mask", "cls", "sep")  # roles that transformers has a name for

# How text is split before pairs are merged. Han runs: words with the space before them, runs of Han characters, short runs of
# digits, punctuation, white space; on a small budget a model learns more from it. Llama 3: what other libraries know how to split
# fast; letters of all scripts are one run, with one mark before them (with 1 digit this is how Qwen 2 splits).
_ENDINGS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_PIECES = {
    "han_runs": rf"{_ENDINGS}| ?[\p{{L}}\p{{M}}&&[^\p{{Han}}]]+|\p{{Han}}+|DIGITS| ?[^\s\p{{L}}\p{{N}}\p{{M}}]+[\r\n]*|{_SPACES}",
    "llama3": rf"{_ENDINGS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|DIGITS| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{_SPACES}",
}


@stage(version=7, name="tokenizer", retry=NETWORK, packages=("tokenizers", "transformers"))
def make_tokenizer(spec: TokenizerSpec, corpus: CleanCorpus, base: Checkpoint, *, ctx: StageContext) -> Tokenizer:
    """Trains a tokenizer, or adopts one or the base's, and measures how it compresses the validation split.

    Raises:
        RecipeError: The base's tokenizer is asked for, and no base is given.
        ContractError: The adopted tokenizer is none of the fast ones, has no end-of-text token, or does not know the text.
    """
    special = _make(spec.source, corpus, base, ctx.dir)
    compression = _compression(ctx.dir, corpus)
    _require_known(spec, ctx.dir, corpus)
    return ctx.commit(
        Tokenizer,
        vocab_size=_vocab_size(ctx.dir),
        bytes_per_token=compression,
        special_tokens=special,
        has_chat_template=(ctx.dir / "chat_template.jinja").exists(),
    )


def _make(
    source: TrainTokenizer | AdoptTokenizer | BaseTokenizer, corpus: CleanCorpus, base: Checkpoint, folder: Path
) -> dict[str, str]:
    """Writes the tokenizer's folder and returns the role of each special token."""
    from tasks.tokenization.adoption import adopt, adopt_from_base

    match source:
        case TrainTokenizer():
            return _save(_train(source, corpus), source.extra_special, folder)
        case AdoptTokenizer():
            return adopt(source, folder)
        case BaseTokenizer():
            if base.method == "none":
                raise RecipeError("tokenizer.source.kind is base, and no base is given; set base.source, or another kind")
            return adopt_from_base(base.path / "model", folder)


def _train(source: TrainTokenizer, corpus: CleanCorpus) -> Any:
    """Trains byte-level BPE: Sennrich et al. 2016 (arXiv 1508.07909) over bytes, as in GPT-2."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    pieces = pre_tokenizers.Split(Regex(split_pattern(source.split, source.max_digits)), "isolated")
    model = Tokenizer(models.BPE())
    model.pre_tokenizer = pre_tokenizers.Sequence([pieces, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    model.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=source.vocab_size,
        min_frequency=source.min_frequency,
        special_tokens=[*SPECIAL_TOKENS, *source.extra_special.values()],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    model.train_from_iterator(_training_texts(corpus), trainer)
    return model


def split_pattern(split: str, max_digits: int) -> str:
    """Returns the regular expression of a way of splitting text."""
    digits = r"\p{N}" if max_digits == 1 else rf"\p{{N}}{{1,{max_digits}}}"
    return _PIECES[split].replace("DIGITS", digits)


def _training_texts(corpus: CleanCorpus) -> Iterator[str]:
    for row in read_rows(corpus.path / "documents", ["text", "split"]):
        if row["split"] == "train":
            yield row["text"]


def _save(model: Any, extra: dict[str, str], folder: Path) -> dict[str, str]:
    """Writes the folder that `transformers` loads, and returns the role of each special token."""
    from transformers import PreTrainedTokenizerFast

    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=model,
        eos_token=END_OF_TEXT,
        pad_token=PAD,
        additional_special_tokens=[TURN_START, TURN_END, *(text for role, text in extra.items() if role not in _NAMED)],
        **{f"{role}_token": text for role, text in extra.items() if role in _NAMED},
        clean_up_tokenization_spaces=False,
        model_max_length=int(1e30),
    )
    wrapped.chat_template = CHATML.read_text(encoding="utf-8")
    wrapped.save_pretrained(str(folder))
    return {"end_of_text": END_OF_TEXT, "pad": PAD, "turn_start": TURN_START, "turn_end": TURN_END, **extra}


@lru_cache(maxsize=2)
def load_plain(folder: Path) -> Any:
    """Returns the `tokenizers` object of a tokenizer folder, set so that special tokens are never made from text.

    It is loaded once a process and shared: callers leave its settings alone.
    """
    from tokenizers import Tokenizer

    model = Tokenizer.from_file(str(folder / "tokenizer.json"))
    model.encode_special_tokens = True
    model.no_truncation()
    model.no_padding()
    return model


def _require_known(spec: TokenizerSpec, folder: Path, corpus: CleanCorpus) -> None:
    """Refuses a tokenizer that turns too much of the validation text of a language into its unknown token."""
    for lang, share in unknown_shares(folder, corpus).items():
        if share > spec.max_unknown_share:
            raise ContractError(
                f"{share:.1%} of the tokens of {lang!r} text are unknown to this tokenizer, {spec.max_unknown_share:.1%} are "
                "allowed (tokenizer.max_unknown_share); take a base that was made for this language, or train a tokenizer"
            )


def unknown_shares(folder: Path, corpus: CleanCorpus) -> dict[str, float]:
    """Returns the share of unknown tokens in the validation split, by language; nothing where every text has tokens."""
    model = load_plain(folder)
    number = _unknown_id(model)
    if number is None:
        return {}
    totals: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0])
    for row in read_rows(corpus.path / "documents", ["text", "split", "lang"]):
        if row["split"] == "validation":
            ids = model.encode(row["text"], add_special_tokens=False).ids
            totals[row["lang"]][0] += ids.count(number)
            totals[row["lang"]][1] += len(ids)
    return {lang: count / max(1, total) for lang, (count, total) in sorted(totals.items())}


def _unknown_id(model: Any) -> int | None:
    """Returns the id of the unknown token; models of the unigram kind (SentencePiece) name no token, but an id."""
    facts = json.loads(model.to_str())["model"]
    unknown: str | None = facts.get("unk_token")
    number: int | None = facts.get("unk_id") if unknown is None else model.token_to_id(unknown)
    return number


def _vocab_size(folder: Path) -> int:
    """Returns one more than the largest id: some vocabularies have holes, and a model has a row for each of these too."""
    ids: dict[str, int] = load_plain(folder).get_vocab(with_added_tokens=True)
    return max(ids.values()) + 1


def _compression(folder: Path, corpus: CleanCorpus) -> dict[str, float]:
    """Returns the UTF-8 bytes a token of the validation split, by language."""
    model = load_plain(folder)
    num_bytes: defaultdict[str, int] = defaultdict(int)
    num_tokens: defaultdict[str, int] = defaultdict(int)
    for row in read_rows(corpus.path / "documents", ["text", "split", "lang"]):
        if row["split"] == "validation":
            num_bytes[row["lang"]] += len(row["text"].encode("utf-8"))
            num_tokens[row["lang"]] += len(model.encode(row["text"], add_special_tokens=False).ids)
    return {lang: round(num_bytes[lang] / num_tokens[lang], 4) for lang in sorted(num_bytes)}
