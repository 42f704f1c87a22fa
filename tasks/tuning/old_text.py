"""The text a base was pretrained on, as rows a tuning can look at or learn from.

In: a `TokenizedCorpus` folder and the base's tokenizer. Out: rows in which each token is a target once. Invariant: the train
split alone is read.
"""

from pathlib import Path
from typing import Any

from tasks.modeling.batches import Rows
from tasks.modeling.objectives.causal import CausalSpec
from tasks.modeling.text import open_text
from tasks.modeling.words import SpecialIds


def old_rows(folder: Path, tokenizer_digest: str, tokenizer: Any, special: SpecialIds, row_tokens: int) -> Rows:
    """Returns the train split of a corpus in rows of `row_tokens`."""
    text = open_text(
        folder,
        "train",
        tokenizer_digest,
        special=special,
        roles={},
        tokenizer=tokenizer,
        vocab_size=len(tokenizer),
        context_tokens=row_tokens,
        seed=0,
    )
    return CausalSpec(kind="causal").rows(text)
