"""An existing tokenizer made ready: which of its tokens plays which role, saved so that equal tokenizers are equal bytes.

In: a tokenizer of `transformers`. Out: the role of each special token, a folder. Invariant: its vocabulary stays as it is; what
it lacks is an error, not an added token. Nothing here imports torch.
"""

import itertools
import json
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from jinja2 import TemplateError

from tasks.core.errors import ContractError
from tasks.modeling.words import BEGIN

ChatTemplate = Literal["own", "chatml", "plain"]
CHATML = Path(__file__).with_name("chatml.jinja")
_PLAIN = Path(__file__).with_name("plain_chat.jinja")  # for decoders whose tokenizer has no marks of turns
_ENDS = ("<|endoftext|>", "<|end_of_text|>", "<eos>", "</s>")  # the last is a tag of HTML too, and as such in vocabularies
_TURN_STARTS = ("<|im_start|>", "<|start_header_id|>", "<start_of_turn>")
_TURN_ENDS = ("<|im_end|>", "<|eot_id|>", "<end_of_turn>")
# Tokens that objectives need, where a tokenizer has them: masks by transformers' names, the rest by their texts.
_NAMED = ("mask", "cls", "sep")
_MARKS = {f"fim_{part}": (f"<|fim_{part}|>", f"<fim_{part}>") for part in ("prefix", "suffix", "middle")}  # Qwen, StarCoder
_SENTINEL = "<extra_id_{}>"
_DATE = '{%- set date_string = "26 Jul 2024" %}'  # what the templates of Llama 3 say where nobody tells them the day

_ON_DAY = "{{%- macro strftime_now(format) %}}{day}{{% endmacro %}}"
_ASKED = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]


def settle(tokenizer: Any, where: str, template: ChatTemplate = "own") -> dict[str, str]:
    """Gives the tokenizer a pad token and the chat template that is asked for; returns its roles.

    Args:
        tokenizer: A fast one.
        where: What a message calls it.
        template: Its own; where it has none ChatML if the marks of turns are tokens, else one of plain text. Encoders get none.

    Raises:
        ContractError: It is no fast tokenizer, knows no token that ends a text, or no conversation goes through the template.
    """
    if not tokenizer.is_fast:
        raise ContractError(f"the tokenizer of {where} is no fast one: it has no tokenizer.json")
    vocabulary = tokenizer.get_vocab()
    end = tokenizer.eos_token or _first(_ENDS, vocabulary) or tokenizer.sep_token  # encoders separate texts and end none
    start, turn_end = _first(_TURN_STARTS, vocabulary), _first(_TURN_ENDS, vocabulary)
    if end is None:
        raise ContractError(f"the tokenizer of {where} has no token that ends a text ({', '.join(_ENDS)})")
    if turn_end == end:  # chat models call the end of a turn eos; documents are separated by the end of a text
        end = _first(_ENDS, vocabulary) or end
    begin = _opening(tokenizer)
    if tokenizer.eos_token is not None:
        has_marks = start == "<|im_start|>" and turn_end == "<|im_end|>"
        _set_template(tokenizer, where, template, begin, has_marks=has_marks)
        if _is_plain(tokenizer.chat_template):
            turn_end = tokenizer.eos_token  # what it ends answers with, whatever marks the vocabulary has
    tokenizer.pad_token = tokenizer.pad_token or end
    roles = {"end_of_text": end, "pad": tokenizer.pad_token, "turn_start": start or end, "turn_end": turn_end or end}
    begins = {BEGIN: begin} if begin else {}
    return roles | begins | _objective_roles(tokenizer, vocabulary)


def _opening(tokenizer: Any) -> str | None:
    """Returns what the tokenizer puts before each text by itself, if that is what it calls the beginning of one."""
    is_put_first = tokenizer.bos_token is not None and tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id]
    return tokenizer.bos_token if is_put_first else None


def _set_template(tokenizer: Any, where: str, template: ChatTemplate, begin: str | None, *, has_marks: bool) -> None:
    if template == "chatml" and not has_marks:
        raise ContractError(f"ChatML needs <|im_start|> and <|im_end|>, which {where} has not; set base.chat_template to plain")
    if template != "own" or tokenizer.chat_template is None:
        chatml = template == "chatml" or (template == "own" and has_marks)
        turns = (CHATML if chatml else _PLAIN).read_text(encoding="utf-8")
        tokenizer.chat_template = ("{{ bos_token }}" if begin else "") + turns
    _fix_date(tokenizer)
    try:
        says_the_day = _says_the_day(tokenizer, _ASKED)
    except Exception as error:  # the template is a program of whoever made the base
        raise ContractError(
            f"no conversation goes through the chat template of {where} ({type(error).__name__}: {error}); "
            "set base.chat_template to chatml or plain"
        ) from error
    with suppress(TemplateError):  # some take no system message
        says_the_day |= _says_the_day(tokenizer, [{"role": "system", "content": "s"}, *_ASKED])
    if says_the_day:
        raise ContractError(
            f"the chat template of {where} says the day in a conversation, so no prompt is the same tomorrow; set "
            "base.chat_template to chatml or plain"
        )


def _says_the_day(tokenizer: Any, conversation: list[dict[str, str]]) -> bool:
    template = tokenizer.get_chat_template()
    days = [_ON_DAY.format(day=day) + template for day in (1, 2)]
    return len({tokenizer.apply_chat_template(conversation, chat_template=day, tokenize=False) for day in days}) > 1


def _fix_date(tokenizer: Any) -> None:
    """Lets a template that asks for the day find one, so that prompts stay as they are."""
    template = tokenizer.chat_template
    if isinstance(template, str) and "strftime_now" in template and not template.startswith(_DATE):
        kept = "\n" if template.startswith("\n") else ""  # a line's end behind a statement is taken away with it
        tokenizer.chat_template = _DATE + kept + template


def _is_plain(chat_template: Any) -> bool:
    """Whether it is the template of plain text, set now or by an earlier settling."""
    return isinstance(chat_template, str) and chat_template.strip().endswith(_PLAIN.read_text(encoding="utf-8").strip())


def _objective_roles(tokenizer: Any, vocabulary: dict[str, int]) -> dict[str, str]:
    named = {role: token for role in _NAMED if (token := getattr(tokenizer, f"{role}_token", None))}
    sentinels = itertools.takewhile(vocabulary.__contains__, map(_SENTINEL.format, itertools.count()))
    marks = {role: text for role, texts in _MARKS.items() if (text := _first(texts, vocabulary))}
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
