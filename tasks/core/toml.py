"""Reading a TOML file that may extend another one, and laying one tree of values over another."""

import tomllib
from pathlib import Path
from typing import Any

from tasks.core.errors import RecipeError


def read_toml(path: Path, seen: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Reads a TOML file; `seen` are the files that extend it, the first one first.

    Raises:
        RecipeError: It extends itself, cannot be read, or is not TOML.
    """
    if path in seen:
        raise RecipeError(f"{path} extends itself: {' -> '.join(map(str, (*seen, path)))}")
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))  # some editors put a mark before the first letter
    except OSError as error:
        raise RecipeError(f"{path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path} is not TOML: {error}") from None


def merge(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Lays `changes` over `base`; a part whose `kind` is set anew starts from that kind's defaults."""
    merged = dict(base)
    for key, value in changes.items():
        old = merged.get(key)
        if isinstance(value, dict) and isinstance(old, dict) and value.get("kind", old.get("kind")) == old.get("kind"):
            merged[key] = merge(old, value)
        else:
            merged[key] = value
    return merged
