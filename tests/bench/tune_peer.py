"""The peer of `tests.bench.tune`: trl's SFTTrainer with peft, run by the Python of an environment that has them and not ours.

In: one JSON argument: base, data (input ids and labels), settings. Out: a line `RESULT {...}`, the adapter in `out`. Invariant:
imports nothing of Textmill; the labels are taken as they are, so both sides learn the same tokens.
"""

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import SFTConfig, SFTTrainer

# What trl recommends where memory allows: rows packed whole (best fit decreasing), no recomputation.
VARIANTS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "as_installed": {},
    "best": {
        "gradient_checkpointing": False,
        "packing": True,
        "packing_strategy": "bfd",
        "per_device_train_batch_size": 2,
    },
}


class Timed(SFTTrainer):
    """Counts labels and notes the time at the end of each step."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.num_labels: list[int] = []

    def training_step(self, model: Any, inputs: Any, *arguments: Any, **options: Any) -> Any:
        """Trains on a batch."""
        self.num_labels.append(int((inputs["labels"][:, 1:] != -100).sum()))
        return super().training_step(model, inputs, *arguments, **options)


class Clock(TrainerCallback):
    """Notes when steps end."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Notes the time."""
        self.ends.append(time.monotonic())


def main() -> None:
    """Trains once over the examples."""
    job = json.loads(sys.argv[1])
    train = json.loads(Path(job["data"]).read_text(encoding="utf-8"))["train"]
    clock = Clock()
    settings = SFTConfig(
        output_dir=job["out"],
        use_cpu=True,
        max_length=job["row_tokens"],
        num_train_epochs=1,
        learning_rate=job["learning_rate"],
        lr_scheduler_type="constant",
        max_grad_norm=1.0,
        weight_decay=0.0,
        optim="adamw_torch_fused",
        report_to=[],
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
        seed=job["seed"],
        bf16=job["precision"] == "bf16",  # by default trl takes it on machines too that have no such products
        **VARIANTS[job["variant"]],
    )
    trainer = Timed(
        model=AutoModelForCausalLM.from_pretrained(job["base"], dtype=torch.float32),
        args=settings,
        train_dataset=Dataset.from_list(train),
        processing_class=AutoTokenizer.from_pretrained(job["base"]),
        peft_config=LoraConfig(task_type="CAUSAL_LM", r=job["rank"], lora_alpha=job["alpha"], target_modules="all-linear"),
        callbacks=[clock],
    )
    trainer.train()
    trainer.model.save_pretrained(job["out"])
    labels = trainer.num_labels
    figures = {
        "num_steps": len(clock.ends),
        "num_labels": sum(labels),
        "label_tokens_per_s": sum(labels[1:]) / (clock.ends[-1] - clock.ends[0]),
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }
    print("RESULT " + json.dumps(figures))


if __name__ == "__main__":
    main()
