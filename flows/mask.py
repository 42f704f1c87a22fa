"""`textmill inspect --show-mask`: which tokens of a conversation are learned.

In: a preset whose conversations were read and whose tokenizer is there. Out: some conversations as the model sees them, template
included, what is learned in colour; where an encoder reads, once for each answer. Invariant: read only; the marks are those of
tuning, by the same function.
"""

import json
from collections.abc import Sequence
from itertools import groupby
from typing import Any

from rich.console import Console
from rich.text import Text

from flows.pipeline import AnyRecipe
from flows.plan import found_artifacts, require_stage
from flows.presets import load_recipe
from flows.recipe import Recipe
from tasks.contracts import Checkpoint, Conversations, Tokenizer
from tasks.core.artifact import Artifact
from tasks.core.errors import RecipeError
from tasks.core.site import current_site
from tasks.modeling.architecture import is_encoder_decoder
from tasks.modeling.chat import Marked, mark_answers

_LEARNED, _READ = "bold green", "dim"


def show_mask(preset: str, overrides: Sequence[str], count: int) -> None:
    """Prints the first `count` conversations of the train split, in the order of the file.

    Raises:
        RecipeError: Conversations or tokenizer are not there yet.
    """
    from tasks.modeling.words import load_tokenizer

    recipe = load_recipe(preset, overrides)
    for stage in ("instructions", "tokenizer"):
        require_stage(recipe, stage)
    found = found_artifacts(recipe, current_site(), "tokenizer")
    conversations, made = _artifacts(preset, found)
    tokenizer, console = load_tokenizer(made.path), Console()
    end_of_text, turn_end = (tokenizer.convert_tokens_to_ids(made.special_tokens[name]) for name in ("end_of_text", "turn_end"))
    has_two_parts = _has_two_parts(recipe, found)
    console.print(Text.assemble("learned: ", ("like this", _LEARNED), ", only read: ", ("like this", _READ)))
    for item in _train_items(conversations)[:count]:
        marked = mark_answers(tokenizer, item["messages"], turn_end)
        parts = as_pairs(marked, end_of_text) if has_two_parts else [marked]
        num_learned, num_tokens = sum(sum(part.is_target) for part in parts), sum(len(part.ids) for part in parts)
        console.rule(f"{item['id']}: {num_learned} of {num_tokens} tokens are learned", align="left")
        for part in parts:
            console.print(mask_text(tokenizer, part), highlight=False)


def _artifacts(preset: str, found: dict[str, Artifact]) -> tuple[Conversations, Tokenizer]:
    conversations, tokenizer = found.get("instructions"), found.get("tokenizer")
    if not isinstance(conversations, Conversations) or not isinstance(tokenizer, Tokenizer):
        raise RecipeError(f"recipe {preset} has no conversations and tokenizer yet: textmill run {preset} --until tokenizer")
    return conversations, tokenizer


def _has_two_parts(recipe: AnyRecipe, found: dict[str, Artifact]) -> bool:
    """Whether an encoder reads and a decoder writes: said by the base that is given, else by how one is pretrained."""
    base = found.get("base")
    if isinstance(base, Checkpoint) and base.method != "none":
        return is_encoder_decoder(base.path / "model")
    return isinstance(recipe, Recipe) and recipe.pretrain.objective.has_two_parts


def as_pairs(marked: Marked, end_of_text: int) -> list[Marked]:
    """Returns what an encoder reads and its decoder learns, for each answer."""
    from tasks.modeling.answers import split_answers

    return [
        Marked([*pair.question, *pair.answer], [False] * len(pair.question) + [True] * len(pair.answer))
        for pair in split_answers(marked, end_of_text)
    ]


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
