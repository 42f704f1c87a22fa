"""The registered model as MLflow loads it: one script that needs mlflow, torch and transformers, and nothing of Textmill.

In: the checkpoint folder, or an adapter and the address of its base (`model_config={"base": ...}`, a version or a folder), and
prompts: strings (MLflow makes a table of them), a table with a column `prompt`, or one with a column `messages` (JSON lists of
role and content). Out: greedy answers. Invariants: the same tokens as `transformers serve` gives at temperature 0: the model's
own chat template and stop tokens, prompts and requests one by one (padding in a batch would change last bits); an adapter never
answers on other weights than those it was trained on.
"""

import hashlib
import json
import threading
from pathlib import Path
from typing import Any

import mlflow  # noqa: TID253 the script is run by MLflow
import pandas as pd  # noqa: TID253 what MLflow hands over is a table
from mlflow.pyfunc import PythonModel  # noqa: TID253


class ChatModel(PythonModel):  # type: ignore[misc]
    """Answers prompts with the greedy continuation of the chat template."""

    def load_context(self, context: Any) -> None:
        """Loads the checkpoint folder, or the base with the adapter in it."""
        from transformers import AutoTokenizer

        folder, self.num_virtual_tokens = context.artifacts.get("checkpoint"), 0
        if folder is not None:
            self.model = _writer(folder).eval()
        else:
            adapter = Path(context.artifacts["adapter"])
            folder = _base_of(adapter, context.model_config["base"])
            self.model, self.num_virtual_tokens = _adapted(folder, adapter)
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.one_at_a_time = threading.Lock()  # peft's `generate` changes the model while it runs, and servers ask in threads

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> list[str]:
        """Returns one answer a prompt.

        Args:
            context: Not used; the model is loaded already.
            model_input: Prompts, as said above.
            params: `max_new_tokens`, the longest answer in tokens; it ends before, where the context does.
        """
        max_new_tokens = int((params or {}).get("max_new_tokens", 128))
        with self.one_at_a_time:
            return [self._answer(messages, max_new_tokens) for messages in _conversations(model_input)]

    def _answer(self, messages: list[dict[str, str]], max_new_tokens: int) -> str:
        import torch

        inputs = self.tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
        config = self.model.config
        if config.is_encoder_decoder:  # its encoder reads a text with its end, and what it writes stands alone
            ids = torch.cat([inputs["input_ids"], torch.tensor([[config.eos_token_id]])], dim=1)
            inputs = type(inputs)({"input_ids": ids, "attention_mask": torch.ones_like(ids)})
        inputs = inputs.to(self.model.device)
        num_prompt_tokens = inputs["input_ids"].shape[1]
        context_tokens = getattr(config, "max_position_embeddings", getattr(config, "n_positions", None))
        if context_tokens is not None:
            room = context_tokens - self.num_virtual_tokens
            if num_prompt_tokens >= room:
                raise ValueError(f"the prompt has {num_prompt_tokens} tokens, the model's context {room}: shorten it")
            # The last token is never read, and what two parts write stands alone.
            max_new_tokens = min(max_new_tokens, room if config.is_encoder_decoder else room - num_prompt_tokens + 1)
        with torch.inference_mode():
            output = self.model.generate(**inputs, do_sample=False, max_new_tokens=max_new_tokens)
        answer = output[0] if config.is_encoder_decoder else output[0, num_prompt_tokens:]
        return str(self.tokenizer.decode(answer, skip_special_tokens=True))


def _conversations(table: pd.DataFrame) -> list[list[dict[str, str]]]:
    if "messages" in table.columns:
        return [json.loads(text) for text in table["messages"]]
    prompts = table["prompt"] if "prompt" in table.columns else table.iloc[:, 0]
    return [[{"role": "user", "content": str(prompt)}] for prompt in prompts]


def _base_of(adapter: Path, address: str) -> Path:
    """Returns the folder of the adapter's base, once its weights are known to be those the adapter was trained on."""
    found = Path(mlflow.artifacts.download_artifacts(address))
    folder = found / "artifacts" / "model" if (found / "MLmodel").exists() else found
    about = json.loads((adapter / "base.json").read_text(encoding="utf-8"))
    there = {path.name: _digest(path) for path in sorted(folder.glob("*.safetensors"))}
    if there != about["weights"]:
        raise ValueError(
            f"the adapter was trained on base {about['base_digest'][:12]}, and {address} holds other weights; load it with "
            'model_config={"base": FOLDER} of that base'
        )
    return folder


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _writer(folder: Path, **options: Any) -> Any:
    """Loads a model that writes text, by one part or by two."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

    has_two_parts = AutoConfig.from_pretrained(folder).is_encoder_decoder
    return (AutoModelForSeq2SeqLM if has_two_parts else AutoModelForCausalLM).from_pretrained(folder, **options)


def _adapted(base: Path, adapter: Path) -> tuple[Any, int]:
    """Returns the base with the adapter in it, and how many of its positions virtual tokens take."""
    import torch

    model = _writer(base, dtype=torch.float32)
    if not (adapter / "adapter_config.json").exists():
        return _with_bottlenecks(model, adapter).eval(), 0
    from peft import PeftModel

    found = PeftModel.from_pretrained(model, adapter).eval()
    if found.active_peft_config.is_prompt_learning:
        return found, found.active_peft_config.num_virtual_tokens
    return found.merge_and_unload(), 0


def _with_bottlenecks(model: Any, adapter: Path) -> Any:
    """Lets h + up(act(down h)) follow the modules that the adapter names."""
    import torch
    from safetensors.torch import load_file

    linear = torch.nn.functional.linear
    weights = load_file(adapter / "bottleneck.safetensors")
    about = json.loads((adapter / "bottleneck.json").read_text(encoding="utf-8"))
    activation = getattr(torch.nn.functional, about["activation"])

    def after(name: str) -> Any:
        down, up = ((weights[f"{name}.{part}.weight"], weights[f"{name}.{part}.bias"]) for part in ("down", "up"))

        def hook(module: Any, inputs: Any, output: Any) -> Any:
            hidden = output[0] if isinstance(output, tuple) else output
            changed = hidden + linear(activation(linear(hidden, *down)), *up)
            return (changed, *output[1:]) if isinstance(output, tuple) else changed

        return hook

    for name, place in about["after"].items():
        model.get_submodule(place).register_forward_hook(after(name))
    return model


mlflow.models.set_model(ChatModel())
