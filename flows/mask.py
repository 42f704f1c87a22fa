"""`textmill inspect --show-mask`: which tokens of a conversation are learned.

In: a preset whose conversations were read and whose tokenizer is there. Out: some conversations as the model sees them, template
included, what is learned in colour. Invariant: read only; the marks are those of tuning, by the same function.
"""

import json
from collections.abc import Sequence
from itertools import groupby
from typing import Any

from rich.console import Console
from rich.text import Text

from flows.plan import found_artifacts
from flows.presets import load_recipe
from tasks.contracts import Conversations, Tokenizer
from tasks.core.errors import RecipeError
from tasks.core.site import current_site
from tasks.modeling.chat import Marked, mark_answers

_LEARNED, _READ = "bold green", "dim"


def show_mask(preset: str, overrides: Sequence[str], count: int) -> None:
    """Prints the first `count` conversations of the train split, in the order of the file.

    Raises:
        RecipeError: Conversations or tokenizer are not there yet.
    """
    from tasks.modeling.words import load_tokenizer

    conversations, made = _artifacts(preset, overrides)
    tokenizer, console = load_tokenizer(made.path), Console()
    turn_end = tokenizer.convert_tokens_to_ids(made.special_tokens["turn_end"])
    console.print(Text.assemble("learned: ", ("like this", _LEARNED), ", only read: ", ("like this", _READ)))
    for item in _train_items(conversations)[:count]:
        marked = mark_answers(tokenizer, item["messages"], turn_end)
        console.rule(f"{item['id']}: {sum(marked.is_target)} of {len(marked.ids)} tokens are learned", align="left")
        console.print(mask_text(tokenizer, marked), highlight=False)


def _artifacts(preset: str, overrides: Sequence[str]) -> tuple[Conversations, Tokenizer]:
    found = found_artifacts(load_recipe(preset, overrides), current_site(), "tokenizer")
    conversations, tokenizer = found.get("instructions"), found.get("tokenizer")
    if not isinstance(conversations, Conversations) or not isinstance(tokenizer, Tokenizer):
        raise RecipeError(f"recipe {preset} has no conversations and tokenizer yet: textmill run {preset} --until tokenizer")
    return conversations, tokenizer


def _train_items(conversations: Conversations) -> list[dict[str, Any]]:
    with (conversations.path / "conversations.jsonl").open(encoding="utf-8") as file:
        items = [json.loads(line) for line in file]
    return [item for item in items if item["split"] == "train"]


def mask_text(tokenizer: Any, marked: Marked) -> Text:
    """Returns the conversation with what is learned in another style than the rest."""
    text = Text()
    for is_target, pairs in groupby(zip(marked.ids, marked.is_target, strict=True), key=lambda pair: pair[1]):
        text.append(tokenizer.decode([token for token, _ in pairs]), style=_LEARNED if is_target else _READ)
    return text
