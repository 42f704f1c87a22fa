"""Reading a recipe: a shipped preset's name or a TOML file, and `--set a.b=value` overrides.

Out: a validated recipe of either kind. Invariants: a preset holds only differences (`extends` names its parent); a misspelt key
or an unknown kind fails with its path; overrides of different fields may stand in any order; "off" in TOML is None in Python.
"""

import difflib
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel, ValidationError

from flows.labelled_recipe import LabelledRecipe
from flows.recipe import Recipe
from flows.recipe_paths import RECIPES_DIR, Tree, with_paths
from tasks.core.errors import RecipeError
from tasks.core.toml import merge, read_toml


def presets() -> list[str]:
    """Returns the names of the shipped presets."""
    return sorted(path.stem for path in RECIPES_DIR.glob("*.toml"))


def load_recipe(preset: str, overrides: Sequence[str] = ()) -> Recipe | LabelledRecipe:
    """Reads a recipe; of a model that answers, or, where it says `kind = "labelled"`, of one that labels text.

    Args:
        preset: Name of a shipped preset, or path to a TOML file.
        overrides: `a.b=value` with `value` in TOML; a bare word is a string. Of one field the last one holds.

    Raises:
        RecipeError: The preset is unknown, or a key, kind or value is wrong; the message has its path.
    """
    path = preset_path(preset)
    tree = _read_tree(path, ())
    tree = merge(_defaults(_class_of(tree)), _expanded(tree))
    for key, value in sorted(map(_parse_override, overrides), key=_turn):
        tree = merge(tree, _nested(key, value))
    return parse_recipe(with_paths(cast(Tree, _off_to_none(tree)), Path.cwd()), str(path))


def load_chat_recipe(preset: str, overrides: Sequence[str] = ()) -> Recipe:
    """Reads a recipe of a model that answers.

    Raises:
        RecipeError: As `load_recipe`, or it is one of another kind.
    """
    recipe = load_recipe(preset, overrides)
    if not isinstance(recipe, Recipe):
        raise RecipeError(f"{preset!r} is a recipe of kind {recipe.kind}: it has no corpus and no conversations of its own")
    return recipe


def require_own_name(preset: str, overrides: Sequence[str], recipe: Recipe | LabelledRecipe) -> None:
    """Checks that a recipe of one's own makes no version of the model of the shipped one that it extends.

    Args:
        preset: As for `load_recipe`.
        overrides: As for `load_recipe`.
        recipe: What they give.

    Raises:
        RecipeError: Neither its files nor the overrides name the model.
    """
    path = preset_path(preset)
    if _is_shipped(path) or any(_names_model(_nested(*_parse_override(text))) for text in overrides):
        return
    while not _is_shipped(path):
        tree = read_toml(path)
        if _names_model(tree) or "extends" not in tree:
            return
        path = _parent_path(path, str(tree["extends"]))
    raise RecipeError(
        f"{preset} registers under {recipe.registry.name!r}, the name of the preset it extends; set registry.name to one of its "
        "own"
    )


def _is_shipped(path: Path) -> bool:
    return path.resolve().parent == RECIPES_DIR.resolve()


def _names_model(tree: Tree) -> bool:
    match tree:
        case {"registry": {"name": _}}:
            return True
    return False


def _class_of(tree: Tree) -> type[Recipe] | type[LabelledRecipe]:
    """Returns the class of a recipe by its `kind`; without one it is of a model that answers."""
    kind = tree.get("kind")
    if kind is None:
        return Recipe
    if kind != "labelled":
        raise RecipeError(f"kind {kind!r} is no kind of recipe; leave it out, or set labelled")
    return LabelledRecipe


def _expanded(tree: Tree) -> Tree:
    """Returns the tree with the recipe of a pretrained base whole: what it `extends`, over a recipe's own defaults."""
    base = tree.get("base")
    own = base.get("recipe") if isinstance(base, dict) else None
    if not isinstance(own, dict) or "extends" not in own:
        return tree
    parent = merge(_defaults(Recipe), _read_tree(preset_path(str(own["extends"])), ()))
    whole = merge(parent, {key: value for key, value in own.items() if key != "extends"})
    return tree | {"base": tree["base"] | {"recipe": whole}}


def parse_recipe(tree: Tree, origin: str) -> Recipe | LabelledRecipe:
    """Validates a tree of plain values as a recipe.

    Raises:
        RecipeError: With one line for each wrong field.
    """
    model = _class_of(tree)
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        lines = [_explain(item, model) for item in error.errors()]
        raise RecipeError(f"{origin} is no valid recipe:\n" + "\n".join(lines)) from None


def preset_path(preset: str) -> Path:
    """Returns the file of a preset.

    Raises:
        RecipeError: Neither a shipped name nor a file.
    """
    shipped = RECIPES_DIR / f"{preset}.toml"
    if _is_file(shipped):
        return shipped
    path = Path(preset)
    if path.suffix == ".toml" and _is_file(path):
        return path
    near = difflib.get_close_matches(preset, presets(), n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise RecipeError(
        f"no recipe {preset!r}: neither a shipped preset ({', '.join(presets())}) nor a TOML file.{hint} "
        "`textmill init my.toml --data DIR` writes one."
    )


def _read_tree(path: Path, seen: tuple[Path, ...]) -> Tree:
    tree = read_toml(path, seen)
    parent = tree.pop("extends", None)
    tree = _with_base_beside(with_paths(tree, path.parent), path.parent)
    if parent is None:
        return tree
    return merge(_read_tree(_parent_path(path, str(parent)), (*seen, path)), tree)


def _parent_path(path: Path, parent: str) -> Path:
    """Returns the file that the one at `path` extends: beside it, or as for a preset."""
    beside = path.parent / parent
    return beside if _is_file(beside) else preset_path(parent)


def _with_base_beside(tree: Tree, folder: Path) -> Tree:
    """Returns the tree with the file that the recipe of its base extends as seen from `folder`."""
    match tree:
        case {"base": {"recipe": {"extends": str() as parent} as own} as base}:
            beside = folder / parent
            if beside.suffix == ".toml" and _is_file(beside):
                return tree | {"base": base | {"recipe": own | {"extends": str(beside.absolute())}}}
    return tree


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name longer than any file's
        return False


def _defaults(model: type[BaseModel]) -> Tree:
    """Returns what a recipe says by itself, so that a change of one field leaves the fields beside it as they were."""
    return {
        name: field.default.model_dump(mode="json")
        for name, field in model.model_fields.items()
        if isinstance(field.default, BaseModel)
    }


def _parse_override(text: str) -> tuple[str, Any]:
    key, sign, value = text.partition("=")
    if not sign or not key:
        raise RecipeError(f"--set {text!r} is not of the form a.b=value")
    try:
        return key.strip(), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key.strip(), value


def _turn(override: tuple[str, Any]) -> tuple[bool, int]:
    """Orders overrides: kinds first, outer ones before inner ones, for a part of a new kind forgets what was set in it before."""
    key, value = override
    where = key.split(".")
    if isinstance(value, dict) and "kind" in value:
        where.append("kind")
    return (False, len(where)) if where[-1] == "kind" else (True, 0)


def _nested(key: str, value: Any) -> Tree:
    for part in reversed(key.split(".")):
        value = {part: value}
    return cast(Tree, value)


def _off_to_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _off_to_none(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_off_to_none(item) for item in value]
    return None if value == "off" else value


def _explain(item: Any, root: type[BaseModel]) -> str:
    where = ".".join(str(part) for part in item["loc"]) or "recipe"
    if item["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(item["loc"][-1]), _known_keys(root, item["loc"][:-1]), n=1)
        return f"  {where}: no such key" + (f"; did you mean {near[0]!r}?" if near else "")
    if item["type"] == "missing":
        return f"  {where}: is not set, and has no default"
    shown = repr(item["input"])
    return f"  {where}: {item['msg']}" + ("" if not item["loc"] else f" (got {shown if len(shown) < 80 else shown[:77] + '...'})")


def _known_keys(root: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """Returns the field names at a location, as far as plain nesting leads there."""
    model: Any = root
    for part in location:
        field = getattr(model, "model_fields", {}).get(part)
        if field is None:
            return sorted({name for candidate in _models(model) for name in candidate.model_fields})
        model = field.annotation
    return list(getattr(model, "model_fields", {})) or sorted(
        {name for candidate in _models(model) for name in candidate.model_fields}
    )


def _models(annotation: Any) -> list[type[BaseModel]]:
    """Returns the models that appear anywhere inside an annotation."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in getattr(annotation, "__args__", ()) for model in _models(part)]
