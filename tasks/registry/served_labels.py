"""The registered labelled model as MLflow loads and serves it: a script that needs mlflow, torch and transformers only.

In: the checkpoint folder, and a table with a column `text`, and `text_pair` for pairs; or a column `words` (lists) for tagged
words.
Out: a table: `label` and `scores` (one label an item), `labels` and `scores` (many labels, or words), or `value`. Invariant: the
tokenizer's own frame and limit, labels in the order of the model's configuration: what training and scoring used.
"""

from typing import Any

import mlflow  # noqa: TID253 the script is run by MLflow
import pandas as pd  # noqa: TID253 what MLflow hands over is a table
from mlflow.pyfunc import PythonModel  # noqa: TID253

_ROWS = 32


class LabelModel(PythonModel):  # type: ignore[misc]
    """Says labels or values of texts."""

    def load_context(self, context: Any) -> None:
        """Loads the checkpoint folder."""
        from transformers import (
            AutoConfig,
            AutoModelForSequenceClassification,
            AutoModelForTokenClassification,
            AutoTokenizer,
        )

        folder = context.artifacts["checkpoint"]
        self.config = AutoConfig.from_pretrained(folder)
        self.by_word = self.config.problem_type == "token_classification"
        auto = AutoModelForTokenClassification if self.by_word else AutoModelForSequenceClassification
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = auto.from_pretrained(folder).eval()
        self.names = [self.config.id2label[number] for number in range(len(self.config.id2label))]

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Returns one row an item, as said above."""
        rows = [{str(name): value for name, value in row.items()} for row in model_input.to_dict(orient="records")]
        found = [answer for start in range(0, len(rows), _ROWS) for answer in self._answers(rows[start : start + _ROWS])]
        return pd.DataFrame(found)

    def _answers(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        import torch

        encoded = [self._encoded(row) for row in rows]
        inputs = self.tokenizer.pad({name: [one[name] for one in encoded] for name in encoded[0]}, return_tensors="pt")
        with torch.inference_mode():
            said = self.model(**inputs.to(self.model.device)).logits.float().cpu()
        if self.by_word:
            return [self._words(logits, one.word_ids(), row) for logits, one, row in zip(said, encoded, rows, strict=True)]
        return [self._item(logits) for logits in said]

    def _encoded(self, row: dict[str, Any]) -> Any:
        if self.by_word:
            return self.tokenizer(list(row["words"]), is_split_into_words=True, truncation=True)
        pair = row.get("text_pair")
        return self.tokenizer(str(row["text"]), pair if isinstance(pair, str) else None, truncation=True)

    def _item(self, logits_K: Any) -> dict[str, Any]:
        if self.config.problem_type == "regression":
            return {"value": float(logits_K[0]) * self.config.value_spread + self.config.value_mean}
        if self.config.problem_type == "multi_label_classification":
            scores = dict(zip(self.names, logits_K.sigmoid().tolist(), strict=True))
            return {"labels": [name for name, score in scores.items() if score > 0.5], "scores": scores}
        scores = dict(zip(self.names, logits_K.softmax(dim=-1).tolist(), strict=True))
        return {"label": self.names[int(logits_K.argmax())], "scores": scores}

    def _words(self, logits_TK: Any, word_ids: list[int | None], row: dict[str, Any]) -> dict[str, Any]:
        """Returns a label a word, said at its first token; none of a word beyond the model's limit."""
        first: dict[int, int] = {}
        for place, word in enumerate(word_ids):
            if word is not None:
                first.setdefault(word, place)
        chances = logits_TK.softmax(dim=-1)
        places = [first.get(word) for word in range(len(row["words"]))]
        return {
            "labels": [None if place is None else self.names[int(chances[place].argmax())] for place in places],
            "scores": [None if place is None else float(chances[place].max()) for place in places],
        }


mlflow.models.set_model(LabelModel())
