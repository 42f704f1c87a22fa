"""How an artifact was made, as one number: sha256 over a canonical form that refuses what has none.

In: JSON-like values, pydantic models, paths' contents. Out: hexadecimal sha256 digests. Invariant: equal meaning gives
equal bytes on every machine; a value without a stable form raises instead of being guessed at.
"""

import hashlib
import json
import math
from collections.abc import Iterable
from datetime import date
from enum import Enum
from pathlib import Path
from typing import Any

from pydantic import BaseModel


def canonical(value: Any) -> Any:
    """Returns `value` in a form whose JSON is stable.

    Raises:
        TypeError: `value` holds something without a stable form (a callable, a set, an object, NaN).
    """
    match value:
        case Enum():
            return canonical(value.value)
        case None | bool() | int() | str():
            return value
        case float():
            return _canonical_float(value)
        case BaseModel():
            return canonical(value.model_dump(mode="json"))
        case dict():
            return {_key(key): canonical(item) for key, item in value.items()}
        case list() | tuple():
            return [canonical(item) for item in value]
        case date() | Path():
            return str(value)
    raise TypeError(f"{type(value).__name__} has no stable form to fingerprint: {value!r}")


def _canonical_float(value: float) -> float | int:
    if not math.isfinite(value):
        raise TypeError(f"{value} has no stable form to fingerprint")
    return int(value) if value.is_integer() else value


def _key(key: Any) -> str:
    if not isinstance(key, str):
        raise TypeError(f"a key must be a string to be fingerprinted, not {key!r}")
    return key


def canonical_json(value: Any) -> str:
    """Returns `value` as compact JSON with sorted keys."""
    return json.dumps(canonical(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def fingerprint(value: Any) -> str:
    """Returns the sha256 of the canonical JSON of `value`."""
    return hashlib.sha256(canonical_json(value).encode("utf-8", "surrogatepass")).hexdigest()


def file_digest(path: Path) -> str:
    """Returns the sha256 of the bytes of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tree_digest(digests: Iterable[tuple[str, str]]) -> str:
    """Returns one digest for `(relative name, digest)` pairs, in any order."""
    return fingerprint(sorted([name, digest] for name, digest in digests))
