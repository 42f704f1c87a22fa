"""The registered model as MLflow loads it: one script that needs mlflow, torch and transformers, and nothing of Textmill.

In: the checkpoint folder, and prompts: strings (MLflow makes a table of them), a table with a column `prompt`, or one with a
column `messages` (JSON lists of role and content). Out: greedy answers. Invariant: the same tokens as `transformers serve`
gives at temperature 0: the model's own chat template and stop tokens, prompts one by one (padding in a batch would change last
bits).
"""

import json
from typing import Any

import mlflow  # noqa: TID253 the script is run by MLflow
import pandas as pd  # noqa: TID253 what MLflow hands over is a table
from mlflow.pyfunc import PythonModel  # noqa: TID253


class ChatModel(PythonModel):  # type: ignore[misc]
    """Answers prompts with the greedy continuation of the chat template."""

    def load_context(self, context: Any) -> None:
        """Loads the checkpoint folder."""
        from transformers import AutoModelForCausalLM, AutoTokenizer

        folder = context.artifacts["checkpoint"]
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModelForCausalLM.from_pretrained(folder).eval()

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> list[str]:
        """Returns one answer a prompt.

        Args:
            context: Not used; the model is loaded already.
            model_input: Prompts, as said above.
            params: `max_new_tokens`, the longest answer in tokens.
        """
        max_new_tokens = int((params or {}).get("max_new_tokens", 128))
        return [self._answer(messages, max_new_tokens) for messages in _conversations(model_input)]

    def _answer(self, messages: list[dict[str, str]], max_new_tokens: int) -> str:
        import torch

        inputs = self.tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
        inputs = inputs.to(self.model.device)
        num_prompt_tokens = inputs["input_ids"].shape[1]
        context_tokens = getattr(self.model.config, "max_position_embeddings", None)
        if context_tokens is not None and num_prompt_tokens >= context_tokens:
            raise ValueError(f"the prompt has {num_prompt_tokens} tokens, the model's context {context_tokens}: shorten it")
        with torch.inference_mode():
            output = self.model.generate(**inputs, do_sample=False, max_new_tokens=max_new_tokens)
        return str(self.tokenizer.decode(output[0, num_prompt_tokens:], skip_special_tokens=True))


def _conversations(table: pd.DataFrame) -> list[list[dict[str, str]]]:
    if "messages" in table.columns:
        return [json.loads(text) for text in table["messages"]]
    prompts = table["prompt"] if "prompt" in table.columns else table.iloc[:, 0]
    return [[{"role": "user", "content": str(prompt)}] for prompt in prompts]


mlflow.models.set_model(ChatModel())
