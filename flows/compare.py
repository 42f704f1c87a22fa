"""A comparison: one recipe run for every combination of values of some of its fields.

In: a preset, overrides and a grid, `a.b=value,value` a field. Out: cells, each a whole recipe, and what the comparison of them is
asked. Invariants: every cell is checked before the first one runs; fields called `seed` are repeated over, never chosen among;
all are judged on the same validation items; losses choose only where they are in one unit.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from flows.labelled_recipe import LabelledRecipe
from flows.pipeline import AnyRecipe, tuning_of
from flows.presets import load_recipe
from flows.recipe import Recipe
from flows.runner import require_reach
from tasks.core.errors import RecipeError
from tasks.core.site import Site
from tasks.evaluation import CompareTuningsSpec
from tasks.evaluation.label_specs import DEFAULT_METRICS
from tasks.evaluation.tunings import CellSpec, TuningCriterion
from tasks.modeling.labels import figures_of

# What a tokenizer is made of beside its own part of the recipe, by the kind of its source.
_MADE_OF = {"train": ("ingest", "clean", "dedup", "decontaminate", "quality"), "base": ("base",)}
_AFTER_TUNING = {"name", "evaluate", "gate", "registry", "deploy"}
_OPENING, _CLOSING, _QUOTES = "[{(", "]})", "'\""


@dataclass(frozen=True, slots=True)
class Cell:
    """One combination of the grid's values, by field, and the recipe it makes."""

    values: dict[str, str]
    recipe: AnyRecipe

    @property
    def label(self) -> str:
        """The combination in one line."""
        return " ".join(f"{field}={value}" for field, value in self.values.items())

    @property
    def spec(self) -> CellSpec:
        """What the comparison is told of it."""
        is_seed = {field: field.rpartition(".")[2] == "seed" for field in self.values}
        return CellSpec(
            settings={field: value for field, value in self.values.items() if not is_seed[field]},
            seeds={field: value for field, value in self.values.items() if is_seed[field]},
        )


@dataclass(frozen=True, slots=True)
class Comparison:
    """What is run, and what is asked of it."""

    cells: tuple[Cell, ...]
    spec: CompareTuningsSpec


def load_comparison(preset: str, overrides: Sequence[str], grid: Sequence[str], criterion: str | None, site: Site) -> Comparison:
    """Reads a comparison and checks all of it.

    Args:
        preset: As for `load_recipe`.
        overrides: As for `load_recipe`, for every cell alike.
        grid: `a.b=value,value`, one a field.
        criterion: Figure on the validation split that chooses; none: that of the gate for labels where it is one, else the loss.
        site: Where it will run.

    Raises:
        RecipeError: A field or value is wrong, two cells are the same training, what chooses means another thing in one of them
            or is taken on other items, or this machine cannot run one.
    """
    cells = tuple(_cells(preset, overrides, grid))
    _require_different(cells)
    for cell in cells:
        require_reach(tuning_of(cell.recipe), cell.recipe, None)
        cell.recipe.check_site(site)
    chosen_by = choose_criterion(cells[0].recipe, criterion)
    for cell in cells:
        choose_criterion(cell.recipe, chosen_by)
    _require_same_items([cell.recipe for cell in cells])
    if chosen_by == "loss":
        _require_one_unit([cell.recipe for cell in cells if not isinstance(cell.recipe, LabelledRecipe)])
    return Comparison(cells, CompareTuningsSpec(cells=tuple(cell.spec for cell in cells), criterion=chosen_by))


def _cells(preset: str, overrides: Sequence[str], grid: Sequence[str]) -> Iterator[Cell]:
    axes = [parse_axis(text) for text in grid]
    fields = [field for field, _ in axes]
    if not axes:
        raise RecipeError("nothing to compare: name a field of the recipe and its values, e.g. --grid tune.method.kind=full,lora")
    if twice := [field for field in fields if fields.count(field) > 1]:
        raise RecipeError(f"--grid names {twice[0]} twice; give all its values at once")
    for combination in product(*(values for _, values in axes)):
        values = dict(zip(fields, combination, strict=True))
        try:
            recipe = load_recipe(preset, [*overrides, *(f"{field}={value}" for field, value in values.items())])
        except RecipeError as error:
            raise RecipeError(f"--grid {' '.join(f'{field}={value}' for field, value in values.items())}: {error}") from None
        yield Cell(values, recipe)


def parse_axis(text: str) -> tuple[str, list[str]]:
    """Returns a field and its values, which stand between commas; a comma inside brackets or quotes parts nothing.

    Raises:
        RecipeError: It is not of the form `a.b=value,value`.
    """
    field, sign, rest = text.partition("=")
    values = split_values(rest)
    if not sign or not field.strip() or not all(values):
        raise RecipeError(f"--grid {text!r} is not of the form a.b=value,value")
    return field.strip(), values


def split_values(text: str) -> list[str]:
    """Cuts a text at the commas that stand outside brackets and quotes."""
    values, depth, quote = [""], 0, ""
    for letter in text:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in _QUOTES:
            quote = letter
        else:
            depth += (letter in _OPENING) - (letter in _CLOSING)
        if letter == "," and not quote and not depth:
            values.append("")
        else:
            values[-1] += letter
    return [value.strip() for value in values]


def _require_different(cells: Sequence[Cell]) -> None:
    seen: list[tuple[Cell, dict[str, Any]]] = []
    for cell in cells:
        tuned = cell.recipe.model_dump(exclude=_AFTER_TUNING)
        if same := [other for other, its in seen if its == tuned]:
            raise RecipeError(
                f"--grid asks for the same training twice: {same[0].label} and {cell.label}; leave out what changes nothing of it"
            )
        seen.append((cell, tuned))


def _require_same_items(recipes: Sequence[AnyRecipe]) -> None:
    """Raises RecipeError where the figures that choose would be taken on other validation items in one of the recipes."""
    first = _items_that_choose(recipes[0])
    for items in map(_items_that_choose, recipes[1:]):
        if varied := [part for part in items if items[part] != first[part]]:
            raise RecipeError(
                f"--grid varies {varied[0]}, and so the validation items that choose; compare tunings on one set of items"
            )


def _items_that_choose(recipe: AnyRecipe) -> dict[str, Any]:
    """Returns what the validation items are made by, by part of the recipe; seeds are repeated over, whatever they draw."""
    if isinstance(recipe, LabelledRecipe):
        named = {"train"} if recipe.labelled.validation else set()  # what is learned is free where nothing of it is set apart
        return {"labelled": recipe.labelled.model_dump(exclude={"seed", *named})}
    weights = {"__all__": {"weight": True}}
    items = {"instructions": recipe.instructions.model_dump(exclude={"seed": True, "shuffle_answers": True, "train": weights})}
    if recipe.preference.kind == "pairs":
        items["preference.pairs"] = recipe.preference.pairs.model_dump(exclude={"seed"})
    return items


def _require_one_unit(recipes: Sequence[Recipe]) -> None:
    made_of = _MADE_OF.get(recipes[0].tokenizer.source.kind, ())
    for part in ("tokenizer", *made_of):
        if any(getattr(recipe, part) != getattr(recipes[0], part) for recipe in recipes):
            through = "" if part == "tokenizer" else f" through {part}, which it is made of"
            raise RecipeError(
                f"--grid varies the tokenizer{through}, and a loss per token says nothing across tokenizers; leave {part} out"
            )
    losses = [recipe.preference.learn.loss if recipe.preference.kind == "pairs" else None for recipe in recipes]
    if any(loss != losses[0] for loss in losses):
        by = "" if None in losses else ", or choose --by preference_accuracy"
        raise RecipeError(f"--grid varies what is learned from preferences, and its losses are not in one unit; leave it out{by}")


def choose_criterion(recipe: AnyRecipe, asked: str | None) -> TuningCriterion:
    """Returns the figure that chooses.

    Raises:
        RecipeError: The recipe's tunings have no such figure on their validation items.
    """
    known = _figures_on_validation(recipe)
    of_gate = recipe.asked.metric if isinstance(recipe, LabelledRecipe) else None
    wanted = asked or next((name for name in (of_gate, *DEFAULT_METRICS) if name in known), "loss")
    for name in known:
        if name == wanted:
            return name
    raise RecipeError(f"--by {wanted!r} is no figure on the validation items of {recipe.name}; there are: {', '.join(known)}")


def _figures_on_validation(recipe: AnyRecipe) -> tuple[TuningCriterion, ...]:
    if isinstance(recipe, LabelledRecipe):
        return "loss", *figures_of(recipe.labelled.task, 2)  # how many labels there are is known once they are read
    return ("loss", "preference_accuracy") if recipe.preference.kind == "pairs" else ("loss",)
