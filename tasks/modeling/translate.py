# ruff: noqa: TID253  (runs in a child only; holds no Spec)
"""The translating child: texts into another language and back, by encoder-decoders or by chat models that are asked to.

In: a `TranslateJob`. Out: a JSON list of what came back. Invariants: beam search, so equal jobs give equal texts; nothing is cut:
what is too long, or does not come to an end, is left out; no code that came with a model is run.
"""

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tasks.core.child import report
from tasks.core.errors import ContractError
from tasks.modeling.translate_job import TranslateJob, TranslatorJob


def translate_main(job: TranslateJob) -> None:
    """Translates each text that is short enough there and back."""
    there, back = _Translator(job.there, job), _Translator(job.back, job)
    found: list[list[str | None]] = []
    for start in range(0, len(job.texts), job.batch):
        others = there(job.texts[start : start + job.batch], 1)
        found += back([ways[0] for ways in others], job.copies)
        report(done=len(found), total=len(job.texts), unit="texts")
    job.out.write_text(json.dumps(found, ensure_ascii=False), encoding="utf-8")


class _Translator:
    """A model that translates."""

    def __init__(self, how: TranslatorJob, job: TranslateJob) -> None:
        self._model, self._tokenizer = _loaded(how.folder, how.is_chat, job.device)
        self._how, self._job = how, job

    def __call__(self, texts: Sequence[str | None], ways: int) -> list[list[str | None]]:
        """Returns the best `ways` translations of each text; none of what is too long."""
        fitting = [number for number, text in enumerate(texts) if text is not None and self._fits(text)]
        found: list[list[str | None]] = [[None] * ways for _ in texts]
        said = self._said([self._asked(str(texts[number])) for number in fitting], ways) if fitting else []
        for place, number in enumerate(fitting):
            found[number] = said[place * ways : (place + 1) * ways]
        return found

    def _fits(self, text: str) -> bool:
        return len(self._tokenizer(self._how.prefix + text)["input_ids"]) <= self._job.max_tokens

    def _asked(self, text: str) -> str:
        """Returns what the model reads."""
        if not self._how.is_chat:
            return self._how.prefix + text
        turn = {"role": "user", "content": self._how.prefix + text}
        return str(self._tokenizer.apply_chat_template([turn], tokenize=False, add_generation_prompt=True))

    @torch.inference_mode()
    def _said(self, asked: list[str], ways: int) -> list[str | None]:
        job, is_chat = self._job, self._how.is_chat
        inputs = self._tokenizer(
            asked, padding=True, add_special_tokens=not is_chat, return_token_type_ids=False, return_tensors="pt"
        ).to(job.device)
        ids = self._model.generate(
            **inputs, num_beams=job.num_beams, num_return_sequences=ways, max_new_tokens=job.max_tokens, do_sample=False
        )
        new = ids[:, inputs["input_ids"].shape[1] if is_chat else 1 :]  # after what was asked, or the token that opens
        texts = self._tokenizer.batch_decode(new, skip_special_tokens=True)
        return [text if is_whole else None for text, is_whole in zip(texts, self._are_whole(new), strict=True)]

    def _are_whole(self, new: Tensor) -> list[bool]:
        """Says which sequences came to their end; some models are made to end where they are cut."""
        ends = torch.as_tensor(self._model.generation_config.eos_token_id, device=new.device)
        whole: list[bool] = torch.isin(new[:, : self._job.max_tokens - 1], ends).any(dim=1).tolist()
        return whole


@cache
def _loaded(folder: Path, is_chat: bool, device: str) -> tuple[Any, Any]:
    """Returns a model and its tokenizer; chat models, which are large, in the number format of their files."""
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

    options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    made = AutoModelForCausalLM if is_chat else AutoModelForSeq2SeqLM
    remedy = "name another model in augment (back_translation); is_chat says which it is"
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, **options)
        options |= {"dtype": "auto" if is_chat else torch.float32, "use_safetensors": True, "output_loading_info": True}
        model, loading = made.from_pretrained(folder, **options)
    except (OSError, ValueError) as error:
        raise ContractError(
            f"{folder} holds no {'chat model' if is_chat else 'encoder-decoder'} with safetensors: {error}; {remedy}"
        ) from error
    if missing := sorted(loading["missing_keys"]):
        raise ContractError(f"the files in {folder} lack weights of a {type(model).__name__}: {', '.join(missing[:4])}; {remedy}")
    if model.generation_config.eos_token_id is None:
        raise ContractError(f"the generation settings in {folder} name no end of text (eos_token_id); add it there, or {remedy}")
    if is_chat:
        if tokenizer.chat_template is None:
            raise ContractError(f"the tokenizer in {folder} has no chat template; {remedy}")
        tokenizer.padding_side = "left"  # an answer follows what was asked without a gap
    return model.to(device).eval(), tokenizer
