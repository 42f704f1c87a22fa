"""QLoRA: LoRA beside weights held in 4 bits (Dettmers et al., arXiv:2305.14314), through bitsandbytes.

In: the base model, read in 4 bits (NF4, double quantization). Out: `adapter/` and the base, in full precision, with the
updates merged. Invariants: only on CUDA with bitsandbytes, and refused elsewhere before any work; what was trained beside
the 4-bit weights is merged into the exact ones, so the merged model differs from what was trained by the rounding of the
base.
"""

import importlib.util
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from tasks.core.errors import RecipeError
from tasks.core.site import Site
from tasks.tuning.lora import Targets
from tasks.tuning.prepared import Method, Prepared
from tasks.tuning.through_peft import check_targets, merge, save_adapter


class QloraSpec(Method):
    """Train low-rank updates of linear layers that are held in 4 bits."""

    kind: Literal["qlora"]
    rank: Annotated[int, Field(ge=1, le=1024, description="Rank of an update.")] = 16
    alpha: Annotated[float, Field(gt=0, description="The update is scaled by alpha / rank.")] = 32.0
    dropout: Annotated[float, Field(ge=0, lt=1, description="Share of an adapter's inputs left out while training.")] = 0.0
    targets: Targets = None
    own_rate: ClassVar[float | None] = 2e-3

    def check_site(self, site: Site) -> None:
        """Refuses machines without CUDA or bitsandbytes, and weights that are cut over several devices."""
        missing = [] if site.resolved_device == "cuda" else [f"a CUDA device (this site trains on {site.resolved_device})"]
        if importlib.util.find_spec("bitsandbytes") is None:
            missing.append("the package bitsandbytes (pip install bitsandbytes)")
        if missing:
            raise RecipeError(f"tune.method qlora needs {' and '.join(missing)}; set tune.method.kind to lora instead")
        if site.num_shards > 1:
            raise RecipeError("tune.method qlora needs whole weights in each process; set TEXTMILL_SHARDING to ddp")

    def load(self, folder: Path) -> Any:
        """Loads the base in 4 bits."""
        import torch
        from transformers import AutoModelForCausalLM, BitsAndBytesConfig

        from tasks.modeling.attention import with_packed_attention
        from tasks.modeling.parallel import own_device

        four_bits = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16,
        )
        return with_packed_attention(
            AutoModelForCausalLM.from_pretrained(
                folder,
                quantization_config=four_bits,
                use_safetensors=True,
                local_files_only=True,
                device_map={"": own_device("cuda")},  # a base in 4 bits stays where it was read
            )
        )

    def prepare(self, model: Any, seed: int) -> Prepared:
        """Freezes the model and puts adapters beside its linear layers."""
        import torch
        from peft import LoraConfig, PeftModel, get_peft_model

        if self.targets is not None:
            check_targets(model, self.targets)
        torch.manual_seed(seed)
        config = LoraConfig(
            task_type="CAUSAL_LM",
            r=self.rank,
            lora_alpha=self.alpha,
            lora_dropout=self.dropout,
            target_modules="all-linear" if self.targets is None else list(self.targets),
        )
        base = Path(model.name_or_path)
        adapted = get_peft_model(model, config)

        def finish(folder: Path) -> Any:
            save_adapter(adapted, folder)
            return merge(PeftModel.from_pretrained(super(QloraSpec, self).load(base), folder))

        return Prepared(adapted.get_base_model(), finish)
