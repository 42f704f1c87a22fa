"""LoRA: low-rank updates beside frozen weights (Hu et al., arXiv:2106.09685), through peft.

In: the base model. Out: `adapter/` (safetensors and its configuration) and the base with the updates merged. Invariants: B
starts at 0, so training starts at the base; merged model and adapter give the same logits within `MERGE_TOLERANCE`.
"""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from tasks.core.artifact import Spec
from tasks.core.errors import StageError
from tasks.tuning.prepared import Prepared

# Largest difference of a logit, as a share of the largest logit: fp32 products in another order differ by less.
MERGE_TOLERANCE = 1e-4
_PROBE_TOKENS = 64


class LoraSpec(Spec):
    """Train low-rank updates of every linear layer, the output layer apart."""

    kind: Literal["lora"]
    rank: Annotated[int, Field(ge=1, le=1024, description="Rank of an update.")] = 16
    alpha: Annotated[float, Field(gt=0, description="The update is scaled by alpha / rank.")] = 32.0
    dropout: Annotated[float, Field(ge=0, lt=1, description="Share of an adapter's inputs left out while training.")] = 0.0

    def prepare(self, model: Any, seed: int) -> Prepared:
        """Freezes the model and puts adapters beside its linear layers."""
        import torch
        from peft import LoraConfig, get_peft_model

        torch.manual_seed(seed)
        config = LoraConfig(
            task_type="CAUSAL_LM",
            r=self.rank,
            lora_alpha=self.alpha,
            lora_dropout=self.dropout,
            target_modules="all-linear",
        )
        adapted = get_peft_model(model, config)

        def finish(folder: Path) -> Any:
            adapted.eval()
            save_adapter(adapted, folder / "adapter")
            return merge(adapted)

        return Prepared(adapted.get_base_model(), finish)


def save_adapter(adapted: Any, folder: Path) -> None:
    """Writes the adapter so that equal adapters are equal bytes: no path of this machine, no order by chance."""
    adapted.save_pretrained(folder, safe_serialization=True)
    (folder / "README.md").unlink(missing_ok=True)
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = None
    config["target_modules"] = sorted(config["target_modules"])
    path.write_text(json.dumps(config, indent=2, sort_keys=True), encoding="utf-8")


def merge(adapted: Any) -> Any:
    """Adds the updates to the weights and returns the plain model.

    Raises:
        StageError: The merged model's logits differ from those of model and adapter.
    """
    import torch

    vocab_size = adapted.config.vocab_size
    probe = torch.arange(_PROBE_TOKENS, device=adapted.device).remainder(vocab_size)[None]
    with torch.no_grad():
        before = _logits(adapted.get_base_model(), probe)
        merged = adapted.merge_and_unload(safe_merge=True)
        after = _logits(merged, probe)
    difference = float((after - before).abs().max() / before.abs().max().clamp_min(1e-6))
    if not difference <= MERGE_TOLERANCE:
        raise StageError(
            f"the merged model's logits differ from the adapter's by {difference:.2g} of the largest, more than "
            f"{MERGE_TOLERANCE:g}; the adapter is in adapter/ and was not merged"
        )
    return merged


def _logits(model: Any, ids_BT: Any) -> Any:
    import torch

    from tasks.modeling.model import packed_mask

    mask = packed_mask(torch.zeros_like(ids_BT), torch.float32)
    return model(input_ids=ids_BT, attention_mask=mask, use_cache=False).logits.float()
