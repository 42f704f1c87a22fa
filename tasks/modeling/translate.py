# ruff: noqa: TID253  (runs in a child only; holds no Spec)
"""The translating child: texts into another language and back, by two encoder-decoders.

In: a `TranslateJob`. Out: a JSON list of what came back. Invariants: beam search, so equal jobs give equal texts; no code that
came with a model is run.
"""

import json
from pathlib import Path
from typing import Any

import torch

from tasks.core.child import report
from tasks.core.errors import ContractError
from tasks.modeling.translate_job import TranslateJob


def translate_main(job: TranslateJob) -> None:
    """Translates each text that is short enough there and back."""
    there, back = _Translator(job.there, job.there_prefix, job), _Translator(job.back, job.back_prefix, job)
    short = [number for number, text in enumerate(job.texts) if there.num_tokens(text) <= job.max_tokens]
    found: list[list[str] | None] = [None] * len(job.texts)
    for start in range(0, len(short), job.batch):
        part = short[start : start + job.batch]
        other = [ways[0] for ways in there([job.texts[number] for number in part], 1)]
        for number, ways in zip(part, back(other, job.copies), strict=True):
            found[number] = ways
        report(done=start + len(part), total=len(short), unit="texts")
    job.out.write_text(json.dumps(found, ensure_ascii=False), encoding="utf-8")


class _Translator:
    """A model that translates."""

    def __init__(self, folder: Path, prefix: str, job: TranslateJob) -> None:
        from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

        options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(folder, **options)
            model = AutoModelForSeq2SeqLM.from_pretrained(folder, dtype=torch.float32, use_safetensors=True, **options)
        except (OSError, ValueError) as error:
            raise ContractError(
                f"{folder} holds no encoder-decoder with safetensors: {error}. Name another model in augment (back_translation)"
            ) from error
        self._model = model.to(job.device).eval()
        self._prefix, self._job = prefix, job

    def num_tokens(self, text: str) -> int:
        """Returns the tokens of a text."""
        return len(self._tokenizer(self._prefix + text)["input_ids"])

    @torch.inference_mode()
    def __call__(self, texts: list[str], ways: int) -> list[list[str]]:
        """Returns the best `ways` translations of each text."""
        job = self._job
        inputs = self._tokenizer(
            [self._prefix + text for text in texts],
            padding=True,
            truncation=True,
            max_length=job.max_tokens,
            return_token_type_ids=False,
            return_tensors="pt",
        )
        ids = self._model.generate(
            **inputs.to(job.device),
            num_beams=job.num_beams,
            num_return_sequences=ways,
            max_new_tokens=job.max_tokens,
            do_sample=False,
        )
        said = self._tokenizer.batch_decode(ids, skip_special_tokens=True)
        return [said[start : start + ways] for start in range(0, len(said), ways)]
