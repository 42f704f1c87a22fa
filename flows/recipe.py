"""The recipe: one frozen object that says everything a run makes, read from a TOML preset.

In: a shipped preset's name or a path to a TOML file, and `--set a.b=value` overrides. Out: a validated `Recipe`, cut into
one spec a stage. Invariants: a preset holds only differences (`extends` names its parent); a misspelt key or an unknown
kind fails with its path; "off" in TOML is None in Python.
"""

import difflib
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from data_quality.check import CheckSpec
from deploy.rollout import DeploySpec
from flows.preference import NoPreference, Preference
from tasks.bases import BaseSpec
from tasks.cleaning import CleanSpec, DecontaminateSpec, DedupSpec, QualitySpec
from tasks.core.artifact import in_order
from tasks.core.errors import RecipeError
from tasks.core.site import Site, current_site
from tasks.evaluation import EvaluateSpec, GateSpec
from tasks.ingest import IngestSpec
from tasks.instructions import InstructionsSpec
from tasks.modeling.specs import PrecisionSpec
from tasks.pretrain import PretrainSpec
from tasks.registry import RegisterSpec
from tasks.tokenization import EncodeSpec, MixSpec, TokenizerSpec
from tasks.tuning import TuneSpec

if TYPE_CHECKING:
    from flows.labelled_recipe import LabelledRecipe

RECIPES_DIR = Path(__file__).parent / "recipes"
PACKAGE_PREFIX = "package:"
DATA_PREFIX = "data:"
_PATH_KEYS = ("path", "paths")
_FILE_KEY = "suite"  # the name of a shipped one, or a path

Tree = dict[str, Any]


class Recipe(BaseModel):
    """From raw text to a served model: what each stage is asked to make, in the order of the chain."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, json_schema_extra=in_order)

    name: Annotated[
        str,
        Field(
            description="Name of the recipe: labels its artifacts and its run in MLflow.",
            pattern=r"^[a-z0-9][a-z0-9-]{0,62}$",
        ),
    ]
    ingest: Annotated[IngestSpec, Field(title="Ingest", description="Raw text to read.")]
    clean: Annotated[CleanSpec, Field(title="Clean", description="How documents are cleaned and filtered.")] = CleanSpec()
    dedup: Annotated[DedupSpec, Field(title="Deduplicate", description="Duplicates and the split.")] = DedupSpec()
    decontaminate: Annotated[DecontaminateSpec, Field(title="Decontaminate", description="Held-out items in the corpus.")]
    quality: Annotated[QualitySpec, Field(title="Quality", description="Scores of documents; off by default.")] = QualitySpec()
    check: Annotated[CheckSpec, Field(title="Check", description="Quality checks of the clean corpus.")] = CheckSpec()
    base: Annotated[BaseSpec, Field(title="Base", description="A model that others made, to start from; none: no such.")] = (
        BaseSpec()
    )
    tokenizer: Annotated[TokenizerSpec, Field(title="Tokenizer", description="Tokenizer: trained or adopted.")] = TokenizerSpec()
    encode: Annotated[EncodeSpec, Field(title="Encode", description="Token shards.")] = EncodeSpec()
    mix: Annotated[MixSpec, Field(title="Mix", description="Weights of sources and languages; off by default.")] = MixSpec()
    pretrain: Annotated[PretrainSpec, Field(title="Pretrain", description="Model and pretraining.")] = PretrainSpec()
    instructions: Annotated[InstructionsSpec, Field(title="Instructions", description="Instruction data and its held-out part.")]
    tune: Annotated[TuneSpec, Field(title="Tune", description="How the model is tuned.")] = TuneSpec()
    preference: Annotated[
        Preference, Field(title="Preference", description="What it learns from preferences; none: nothing.")
    ] = NoPreference(kind="none")
    evaluate: Annotated[EvaluateSpec, Field(title="Evaluate", description="How models are evaluated.")] = EvaluateSpec()
    gate: Annotated[GateSpec, Field(title="Gate", description="What a model must reach to become champion.")] = GateSpec()
    registry: Annotated[RegisterSpec, Field(title="Registry", description="Name of the model in the registry.")]
    deploy: Annotated[DeploySpec, Field(title="Deploy", description="How the champion is rolled out.")] = DeploySpec()

    @model_validator(mode="after")
    def _base_is_used(self) -> Self:
        is_given = self.base.source.kind != "none"
        if is_given != (self.pretrain.start.kind != "scratch"):
            raise ValueError(
                f"base.source.kind is {self.base.source.kind}, but pretrain.start.kind is {self.pretrain.start.kind}: with a "
                "base set it to continued or as_given, without one leave it at scratch"
            )
        if is_given != (self.tokenizer.source.kind == "base"):
            raise ValueError(
                f"base.source.kind is {self.base.source.kind}, but tokenizer.source.kind is {self.tokenizer.source.kind}: a base "
                "reads with its own tokenizer, so set both, or neither, to base"
            )
        return self

    def resolved(self) -> "Recipe":
        """Returns the recipe as stages need it: `package:` and `data:` paths absolute, the objective's tokens in the tokenizer.

        Raises:
            RecipeError: A path lies in the data folder, and the site names none.
        """
        tree = with_paths(self.model_dump(mode="json"), Path.cwd(), RECIPES_DIR / "data")
        source = tree["tokenizer"]["source"]
        if source["kind"] == "train":
            source["extra_special"] |= self.pretrain.objective.special_tokens()
        return type(self).model_validate(tree)

    def require_reach(self, last: str | None, stages: Sequence[str]) -> None:
        """Checks that the stages up to `last` (none: all) take the models that the objective makes.

        Raises:
            RecipeError: One of them does not.
        """
        objective = self.pretrain.objective
        if objective.last_stage is None:
            return
        allowed = stages[: list(stages).index(objective.last_stage) + 1]
        if last not in allowed:
            raise RecipeError(
                f"recipe {self.name!r} trains a {self.pretrain.model.family} for objective {objective.kind!r}; the stages after "
                f"{objective.last_stage} take causal models only. Add `--until {objective.last_stage}`, or set "
                "pretrain.objective.kind to causal or fill_in_the_middle"
                + (
                    "; a recipe of kind labelled tunes it on labelled text (base.kind = pretrained)"
                    if objective.takes_head
                    else ""
                )
            )

    def check_site(self, site: Site) -> None:
        """Raises RecipeError where this machine cannot do it; asked before any work."""
        for name in type(self).model_fields:
            if isinstance(part := getattr(self, name), PrecisionSpec):
                part.pinned(site)
        self.tune.check_site(site)
        self.preference.check_site(site)

    def forewarnings(self) -> list[str]:
        """Returns what should be known of the tuning before it runs."""
        return self.tune.forewarnings(self.pretrain.peak)


def presets() -> list[str]:
    """Returns the names of the shipped presets."""
    return sorted(path.stem for path in RECIPES_DIR.glob("*.toml"))


def load_recipe(preset: str, overrides: Sequence[str] = ()) -> "Recipe | LabelledRecipe":
    """Reads a recipe; of a model that answers, or, where it says `kind = "labelled"`, of one that labels text.

    Args:
        preset: Name of a shipped preset, or path to a TOML file.
        overrides: `a.b=value` with `value` in TOML; a bare word is a string.

    Raises:
        RecipeError: The preset is unknown, or a key, kind or value is wrong; the message has its path.
    """
    path = preset_path(preset)
    tree = _read_tree(path, ())
    tree = _merge(_defaults(_class_of(tree)), _expanded(tree))
    for override in overrides:
        tree = _merge(tree, _parse_override(override))
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


def _class_of(tree: Tree) -> "type[Recipe] | type[LabelledRecipe]":
    """Returns the class of a recipe by its `kind`; without one it is of a model that answers."""
    kind = tree.get("kind")
    if kind is None:
        return Recipe
    if kind != "labelled":
        raise RecipeError(f"kind {kind!r} is no kind of recipe; leave it out, or set labelled")
    from flows.labelled_recipe import LabelledRecipe

    return LabelledRecipe


def _expanded(tree: Tree) -> Tree:
    """Returns the tree with the recipe of a pretrained base whole: what it `extends`, over a recipe's own defaults."""
    own = tree.get("base", {}).get("recipe")
    if not isinstance(own, dict) or "extends" not in own:
        return tree
    parent = _merge(_defaults(Recipe), _read_tree(preset_path(str(own["extends"])), ()))
    whole = _merge(parent, {key: value for key, value in own.items() if key != "extends"})
    return tree | {"base": tree["base"] | {"recipe": whole}}


def parse_recipe(tree: Tree, origin: str) -> "Recipe | LabelledRecipe":
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
    if shipped.exists():
        return shipped
    path = Path(preset)
    if path.suffix == ".toml" and path.is_file():
        return path
    near = difflib.get_close_matches(preset, presets(), n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise RecipeError(
        f"no recipe {preset!r}: neither a shipped preset ({', '.join(presets())}) nor a TOML file.{hint} "
        "`textmill init my.toml --data DIR` writes one."
    )


def _read_tree(path: Path, seen: tuple[Path, ...]) -> Tree:
    if path in seen:
        raise RecipeError(f"{path} extends itself: {' -> '.join(map(str, (*seen, path)))}")
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path} is not TOML: {error}") from None
    parent = tree.pop("extends", None)
    tree = with_paths(tree, path.parent)
    if parent is None:
        return tree
    beside = path.parent / str(parent)
    return _merge(_read_tree(beside if beside.is_file() else preset_path(str(parent)), (*seen, path)), tree)


def _defaults(model: type[BaseModel]) -> Tree:
    """Returns what a recipe says by itself, so that a change of one field leaves the fields beside it as they were."""
    return {
        name: field.default.model_dump(mode="json")
        for name, field in model.model_fields.items()
        if isinstance(field.default, BaseModel)
    }


def _merge(base: Tree, changes: Tree) -> Tree:
    """Lays `changes` over `base`; a part whose `kind` is set anew starts from that kind's defaults."""
    merged = dict(base)
    for key, value in changes.items():
        old = merged.get(key)
        if isinstance(value, dict) and isinstance(old, dict) and value.get("kind", old.get("kind")) == old.get("kind"):
            merged[key] = _merge(old, value)
        else:
            merged[key] = value
    return merged


def _parse_override(text: str) -> Tree:
    key, sign, value = text.partition("=")
    if not sign or not key:
        raise RecipeError(f"--set {text!r} is not of the form a.b=value")
    try:
        parsed: Any = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        parsed = value
    for part in reversed(key.strip().split(".")):
        parsed = {part: parsed}
    return cast(Tree, parsed)


def _off_to_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _off_to_none(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_off_to_none(item) for item in value]
    return None if value == "off" else value


def with_paths(tree: Tree, base: Path, package_data: Path | None = None) -> Tree:
    """Makes the paths under `path` and `paths` keys absolute; those with a prefix only where the package's folder is given."""

    def walk(value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            return {name: walk(item, name) for name, item in value.items()}
        if isinstance(value, list | tuple):
            return [walk(item, key) for item in value]
        return _absolute(value, base, package_data) if isinstance(value, str) and _is_path(key, value) else value

    return cast(Tree, walk(tree))


def _is_path(key: str, value: str) -> bool:
    return key in _PATH_KEYS or (key == _FILE_KEY and value.endswith(".toml"))


def _absolute(path: str, base: Path, package_data: Path | None) -> str:
    if path.startswith(PACKAGE_PREFIX):
        return path if package_data is None else str(package_data / path.removeprefix(PACKAGE_PREFIX))
    if path.startswith(DATA_PREFIX):
        return path if package_data is None else str(_data_dir(path) / path.removeprefix(DATA_PREFIX))
    if "://" in path or Path(path).is_absolute():
        return path
    return str((base / path).absolute())


def _data_dir(path: str) -> Path:
    folder = current_site().data_dir
    if folder is None:
        raise RecipeError(f"{path} lies in the data folder, and none is set; set TEXTMILL_DATA_DIR to it")
    return folder.absolute()


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
