"""What the methods that go through peft share: targets, the adapter's files, the merge.

In: a model and peft's configuration. Out: an adapter folder of equal bytes for equal adapters, a plain model. Invariant: merged
model and adapter give the same logits within `MERGE_TOLERANCE`, or nothing is merged.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tasks.core.errors import RecipeError, StageError
from tasks.modeling.architecture import num_positions

# Largest difference of a logit, as a share of the largest logit: fp32 products in another order differ by less.
MERGE_TOLERANCE = 1e-4
_PROBE_TOKENS = 64


def peft_task(model: Any, head: Sequence[str]) -> dict[str, Any]:
    """Returns what peft is told of the model: a new head is trained and kept beside the adapter.

    Args:
        head: Names of the modules that say labels; none: a model that writes text.
    """
    if not head:
        return {"task_type": "SEQ_2_SEQ_LM" if model.config.is_encoder_decoder else "CAUSAL_LM"}
    by_word = model.config.problem_type == "token_classification"
    # peft keeps these two whole by itself: a part of them that is named too would be kept twice, one copy inside the other.
    whole = {next((top for top in ("classifier", "score") if name.startswith(f"{top}.")), name) for name in head}
    return {"task_type": "TOKEN_CLS" if by_word else "SEQ_CLS", "modules_to_save": sorted(whole), "exclude_modules": list(head)}


def check_targets(model: Any, targets: Sequence[str]) -> None:
    """Compares names of target modules with those the model has.

    Raises:
        RecipeError: One of them is no linear layer of the model; the message lists those that are.
    """
    there = linear_names(model)
    unknown = [target for target in targets if not any(is_target(name, [target]) for name in there)]
    if unknown:
        short = sorted({name.rsplit(".", 1)[-1] for name in there})
        raise RecipeError(
            f"tune.method.targets: {type(model).__name__} has no linear layer named {', '.join(unknown)}; "
            f"it has {', '.join(short)}"
        )


def is_target(name: str, targets: Sequence[str]) -> bool:
    """Whether a module's full name ends in one of the targets, as peft looks for them."""
    return any(f".{name}".endswith(f".{target}") for target in targets)


def linear_names(model: Any, head: Sequence[str] = ()) -> list[str]:
    """Returns the full names of the linear layers, the output layer and the modules of a new head apart."""
    from torch.nn import Linear
    from transformers.pytorch_utils import Conv1D

    output = model.get_output_embeddings()
    linear = {name: module for name, module in model.named_modules() if isinstance(module, Linear | Conv1D)}
    return [name for name, module in linear.items() if module is not output and name not in head]


def save_adapter(adapted: Any, folder: Path, *, initial: Path | None = None) -> None:
    """Writes the adapter so that equal adapters are equal bytes: no path of this machine, no order by chance.

    Args:
        adapted: peft's model.
        folder: Where to.
        initial: Folder of the adapter before training, where the method moved the base's weights: what is written is then
            the difference, a plain LoRA of twice the rank on the untouched base.
    """
    options = {} if initial is None else {"path_initial_model_for_weight_conversion": str(initial)}
    adapted.save_pretrained(folder, safe_serialization=True, **options)
    (folder / "README.md").unlink(missing_ok=True)
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = None
    for name in ("target_modules", "feedforward_modules", "modules_to_save", "exclude_modules"):
        if isinstance(config.get(name), list):
            config[name] = sorted(config[name])
    path.write_text(json.dumps(config, indent=2, sort_keys=True), encoding="utf-8")


def merge(adapted: Any) -> Any:
    """Adds the updates to the weights and returns the plain model.

    Raises:
        StageError: The merged model's logits differ from those of model and adapter.
    """
    import torch

    num_tokens = min(_PROBE_TOKENS, num_positions(adapted.get_base_model()) or _PROBE_TOKENS)
    # Spread over the vocabulary: its first ids are control tokens, on which rounding alone grows a hundredfold in deep models.
    probe = torch.linspace(0, adapted.config.vocab_size - 1, num_tokens, device=adapted.device).long()[None]
    if adapted.config.is_encoder_decoder:  # says the label where a text ends
        probe[0, -1] = adapted.config.eos_token_id
    with torch.no_grad():
        before = _logits(adapted.get_base_model(), probe)
        _unwrap_heads(adapted)
        merged = adapted.merge_and_unload(safe_merge=True)
        after = _logits(merged, probe)
    difference = float((after - before).abs().max() / before.abs().max().clamp_min(1e-6))
    if not difference <= MERGE_TOLERANCE:
        raise StageError(
            f"the merged model's logits differ from the adapter's by {difference:.2g} of the largest, more than "
            f"{MERGE_TOLERANCE:g}; the adapter is in adapter/ and was not merged"
        )
    return merged


def _unwrap_heads(adapted: Any) -> None:
    """Puts trained heads in the place of peft's wrappers, which its IA3 cannot take off a head of several layers."""
    from peft.utils import ModulesToSaveWrapper

    while heads := {name: module for name, module in adapted.named_modules() if isinstance(module, ModulesToSaveWrapper)}:
        name, head = next(iter(heads.items()))
        adapted.set_submodule(name, head.modules_to_save[head.active_adapters[0]])


def _logits(model: Any, ids_BT: Any) -> Any:
    from tasks.modeling.attention import own_attention

    if getattr(model.config, "problem_type", None):
        return model(input_ids=ids_BT).logits.float()
    written = {"decoder_input_ids": ids_BT} if model.config.is_encoder_decoder else {}
    with own_attention(model):
        return model(input_ids=ids_BT, use_cache=False, **written).logits.float()
