# ruff: noqa: TID253  (runs in training and scoring children only; holds no Spec)
"""Whether a model says in our packed rows what it says of each text alone, by its own forward pass.

In: a loaded model. Out: nothing, or an error. Invariant: a model that is trained or scored gives the logits it
was published with; an architecture whose attention, positions or output we would get wrong is refused, whatever its name.

Shapes: T positions, V vocabulary.
"""

from typing import Any

import torch
from torch import Tensor

from tasks.core.errors import RecipeError
from tasks.modeling.architecture import num_positions
from tasks.modeling.attention import own_attention
from tasks.modeling.batches import Batch

_LENGTHS = [29, 18]  # of two texts in one row: the second would show what it saw of the first
# Largest difference of a logit, as a share of the largest logit; rounding of fp32 stays a hundredfold below.
_TOLERANCE = 1e-3
# What an architecture raises that knows nothing of packed rows: arguments it does not take, parts it does not have.
FAILURES = (TypeError, AttributeError, ValueError, RuntimeError, LookupError, NotImplementedError)


def require_own_logits(model: Any) -> None:
    """Reads two texts in one packed row, and each alone as the model would by itself, and compares the logits.

    Raises:
        RecipeError: They differ, or the model cannot read packed rows at all.
    """
    texts, is_training = two_texts(model), model.training
    try:
        with torch.no_grad():
            ours = packed_logits(model.eval(), texts)
            with own_attention(model):
                own = _own(model, texts)
    except FAILURES as error:
        raise RecipeError(_refusal(model, f"{type(error).__name__}: {error}")) from error
    difference = float((ours - own).abs().max() / own.abs().max().clamp_min(1e-6))
    if not difference <= _TOLERANCE:
        raise RecipeError(_refusal(model, f"its logits would be off by {difference:.2g} of the largest"))
    model.train(is_training)


def _refusal(model: Any, why: str) -> str:
    return (
        f"{type(model).__name__} cannot be trained or scored on packed rows ({why}); take a base of another architecture "
        "(llama, qwen, mistral, gemma, phi, gpt2, bert, roberta, modernbert, t5, bart and their like can), or tune this one on "
        "labels, which it reads by itself"
    )


def two_texts(model: Any) -> list[Tensor]:
    """Returns the ids of two texts that fit its context, spread over the vocabulary; none of them is padding."""
    num_rows = model.get_input_embeddings().weight.shape[0]
    lengths = [min(length, num_positions(model) or length) for length in _LENGTHS]
    ids = torch.linspace(num_rows - 1, 0, sum(lengths), device=model.device).long()
    ids[ids == (model.config.pad_token_id or 0)] = num_rows // 2
    return list(torch.split(ids, lengths))


def packed_logits(model: Any, texts: list[Tensor]) -> Tensor:
    """Returns our logits (T, V) of both texts in one row; of an encoder-decoder, of the second that answers the first."""
    from tasks.modeling.model import target_logits

    if not model.config.is_encoder_decoder:
        return target_logits(model, _batch(texts))[0]
    source, target = texts
    read = {"source_ids_BS": source[None], "source_segments_BS": torch.zeros_like(source)[None]}
    return target_logits(model, _batch([target], **read))[0]


def _batch(texts: list[Tensor], **source: Tensor) -> Batch:
    ids, positions = torch.cat(texts), torch.cat([torch.arange(len(text), device=text.device) for text in texts])
    segments = torch.cat([torch.full_like(text, number) for number, text in enumerate(texts)])
    types = torch.zeros_like(ids)
    return Batch(ids[None], ids[None], positions[None], segments[None], len(ids), types[None], **source)


def _own(model: Any, texts: list[Tensor]) -> Tensor:
    """Returns the logits (T, V) of the model's own forward pass, each text alone."""
    if model.config.is_encoder_decoder:
        return _said(model(input_ids=texts[0][None], decoder_input_ids=texts[1][None]))
    return torch.cat([_said(model(input_ids=text[None])) for text in texts])


def _said(output: Any) -> Tensor:
    logits_BTV = output.prediction_logits if hasattr(output, "prediction_logits") else output.logits
    return logits_BTV[0].float()  # type: ignore[no-any-return]
