"""Paths in a recipe: beside the file that names them, in the package (`package:`), or in the data folder (`data:`).

In: a tree of plain values. Out: the same tree with absolute paths. Invariant: those with a prefix stay as they are until a run,
so that a recipe is the same on every machine.
"""

from pathlib import Path
from typing import Any, cast

from tasks.core.errors import RecipeError
from tasks.core.site import current_site

RECIPES_DIR = Path(__file__).parent / "recipes"
PACKAGE_PREFIX = "package:"
DATA_PREFIX = "data:"
_PATH_KEYS = ("path", "paths")
_FILE_KEY = "suite"  # the name of a shipped one, or a path

Tree = dict[str, Any]


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
