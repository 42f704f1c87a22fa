# ruff: noqa: TID253  (runs in a child only; holds no Spec)
"""The converting child: reads a base as `transformers` has it and leaves a model folder of this pipeline.

In: a `ConvertJob`. Out: `model/`, `extra/base.json`. Invariants: no weight is new: what the files lack is an error; a decoder
names the tokens that end a turn and a text, as every model made here does; no code that came with the model is run.
"""

import logging
import shutil
from pathlib import Path
from typing import Any

import torch
import transformers

from tasks.bases.job import RESULT_NAME, Converted, ConvertJob
from tasks.core.artifact import EXTRA_DIR
from tasks.core.errors import ContractError
from tasks.modeling.architecture import num_positions
from tasks.modeling.model import num_parameters, save_model
from tasks.modeling.roles import save_settled, settle
from tasks.modeling.words import SpecialIds, special_ids

_T5_POSITIONS = 512
_PAIRED = ("BertForMaskedLM", "ErnieForMaskedLM")  # named so, though the files may hold the head of pairs and its pooler too
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
_log = logging.getLogger("textmill.base")


def convert_main(job: ConvertJob) -> None:
    """Converts a base."""
    transformers.utils.logging.disable_progress_bar()
    model, tokenizer = _load(job)
    roles = settle(tokenizer, job.source.name, job.chat_template)
    special = special_ids(tokenizer, roles)
    _require_rows(model, tokenizer)
    if num_positions(model) is None and (stated := getattr(model.config, "max_seq_len", None)):
        model.config.max_position_embeddings = stated  # the name that everyone but MPT gives it
    if model.config.is_encoder_decoder:
        _settle_ends(model.config, special)
    elif model.can_generate():
        model.config.bos_token_id = special.opening
        model.config.eos_token_id = [special.turn_end, special.end_of_text]
    model.config.pad_token_id = special.pad
    vars(model.config).pop("_model_name_or_path", None)
    work = job.dir / "tokenizer"
    save_settled(tokenizer, work)
    save_model(model.to(_DTYPES[job.weights]), work, special, job.dir / "model")
    shutil.rmtree(work)
    _tell(model, job.dir / EXTRA_DIR)


def _settle_ends(config: Any, special: SpecialIds) -> None:
    """Names the tokens that end a text and a turn, and the positions of T5's kin, which was trained on 512 (arXiv:1910.10683)."""
    config.turn_end_token_id = special.turn_end
    if not isinstance(config.eos_token_id, int):
        config.eos_token_id = special.end_of_text
    if hasattr(config, "relative_attention_num_buckets") and getattr(config, "n_positions", None) is None:
        config.n_positions = _T5_POSITIONS


def _load(job: ConvertJob) -> tuple[Any, Any]:
    """Returns the model in fp32 and the tokenizer."""
    options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    if job.gguf is not None:
        options |= {"gguf_file": job.gguf}
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(job.source, **options)
        config = transformers.AutoConfig.from_pretrained(job.source, **options)
        if job.gguf is not None:
            made = transformers.AutoModelForCausalLM
            options |= {"quantization_config": transformers.GgufConfig(dequantize=True)}
        else:
            made = _class_of(config, job.source)
            options |= {"use_safetensors": True}
        options |= {"dtype": torch.float32, "output_loading_info": True}
        model, loading = made.from_pretrained(job.source, **options)
        if type(model).__name__ in _PAIRED and loading["unexpected_keys"]:
            whole, found = transformers.AutoModelForPreTraining.from_pretrained(job.source, **options)
            model, loading = (model, loading) if found["missing_keys"] else (whole, found)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ContractError(f"the base in {job.source} could not be loaded: {error}") from error
    if missing := sorted(loading["missing_keys"]):
        raise ContractError(
            f"the files in {job.source} lack weights of a {type(model).__name__}: {', '.join(missing[:4])}; "
            "they would be random. Give the whole model, or name the right one under architectures in its config.json"
        )
    if dropped := sorted(loading["unexpected_keys"]):
        _log.warning("left out of the base, for a %s has none: %s", type(model).__name__, ", ".join(dropped))
    return model, tokenizer


def _class_of(config: Any, source: Path) -> Any:
    """Returns the class of `transformers` that the configuration names."""
    if getattr(config, "quantization_config", None) is not None:
        raise ContractError(f"the base in {source} is quantized; give its plain weights, or a GGUF file")
    name = (config.architectures or ["none"])[0]
    found = getattr(transformers, name, None)
    if found is None:
        raise ContractError(f"transformers {transformers.__version__} has no model {name!r}, which config.json in {source} names")
    return found


def _require_rows(model: Any, tokenizer: Any) -> None:
    """Checks that each token has an embedding."""
    if (rows := model.get_input_embeddings().weight.shape[0]) < len(tokenizer):
        raise ContractError(
            f"the base has {rows} embeddings, but its tokenizer has {len(tokenizer)} tokens; they do not belong together"
        )


def _tell(model: Any, folder: Path) -> None:
    found = Converted(
        architecture=type(model).__name__,
        num_parameters=num_parameters(model),
        context_tokens=num_positions(model),
    )
    folder.mkdir(exist_ok=True)
    (folder / RESULT_NAME).write_text(found.model_dump_json(indent=1), encoding="utf-8")
