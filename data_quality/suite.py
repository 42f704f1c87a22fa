"""Suites: files of checks that anyone can edit, read and made definite before anything runs.

In: the name of a shipped suite or the path of a TOML file, and bounds that a recipe sets. Out: checks. Invariants: what enters
the fingerprint are the checks with their numbers, never where the file lies; an unknown kind, table, column, key or bound is
refused with the file and the check it stands in; a suite without checks is refused.
"""

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from pydantic import Field, TypeAdapter, ValidationError

from data_quality.checks import CORPUS_PARTS, LABELLED_PARTS, Check, Drift
from tasks.core.artifact import AS_JSON, Spec
from tasks.core.errors import RecipeError
from tasks.core.site import Site
from tasks.core.toml import read_toml

SUITES_DIR = Path(__file__).parent / "suites"

_NUMBERS = ("min", "max", "max_outside", "quantile")  # what may name a bound
_CHECK: TypeAdapter[Check] = TypeAdapter(Check)
Tree = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Suites:
    """The suites of one kind of data.

    Attributes:
        folder: Where the shipped ones lie.
        sections: What their checks may stand under.
    """

    folder: Path
    sections: tuple[str, ...]

    @property
    def names(self) -> list[str]:
        """Names of the shipped suites."""
        return sorted(path.stem for path in self.folder.glob("*.toml"))


CORPUS = Suites(SUITES_DIR, CORPUS_PARTS)
LABELLED = Suites(SUITES_DIR / "labelled", LABELLED_PARTS)


class SuiteSpec(Spec):
    """Which checks data must pass. Critical ones stop the run, warnings mark the model."""

    of: ClassVar[Suites]

    suite: Annotated[str, Field(description="A shipped suite, or the path of a TOML file of checks.")] = "default"
    bounds: Annotated[
        dict[str, float],
        Field(description="Numbers that the suite names under [bounds], where they are to differ, e.g. max_quarantined_share."),
    ] = Field(default_factory=dict)
    checks: Annotated[
        tuple[Annotated[Check, AS_JSON], ...] | None, Field(description="Filled in by the pipeline: the checks of the suite.")
    ] = None

    def pinned(self, site: Site) -> Self:
        """Fills in the checks as they are in the suite's file now."""
        return self if self.checks is not None else self.model_copy(update={"checks": self.read()})

    def read(self) -> tuple[Check, ...]:
        """Returns the checks as they are in the suite's file now."""
        return read_suite(self.suite, self.bounds, self.of)

    def identity(self) -> dict[str, Any]:
        """Returns the checks; never where the file lies."""
        return self.model_dump(mode="json", exclude={"suite", "bounds"})


class CheckSpec(SuiteSpec):
    """Which checks the corpus must pass (suites: default, drift). Critical ones stop the run, warnings mark the model."""

    of: ClassVar[Suites] = CORPUS


def read_suite(suite: str, bounds: dict[str, float], of: Suites = CORPUS) -> tuple[Check, ...]:
    """Reads the checks of a suite, those it extends first.

    Raises:
        RecipeError: There is no such suite, it holds no check, or something in it is not known.
    """
    numbers, rows = _read(_suite_path(suite, of), (), of)
    if unknown := sorted(bounds.keys() - numbers.keys()):
        raise RecipeError(f"check.bounds.{unknown[0]}: suite {suite} names no such bound{_near(unknown[0], list(numbers))}")
    if not rows:
        raise RecipeError(f"suite {suite} is empty: nothing would be checked; give it checks, e.g. under [[{of.sections[-1]}]]")
    return tuple(_check(row, path, numbers | bounds) for row, path in rows.values())


def asks_for_drift(checks: tuple[Check, ...]) -> bool:
    """Says whether a suite compares with the registered corpus."""
    return any(isinstance(check, Drift) for check in checks)


def _suite_path(suite: str, of: Suites) -> Path:
    shipped = of.folder / f"{suite}.toml"
    if shipped.is_file():
        return shipped
    path = Path(suite)
    if path.suffix == ".toml" and path.is_file():
        return path
    raise RecipeError(f"no suite {suite!r}: neither a shipped one ({', '.join(of.names)}) nor a TOML file")


def _read(path: Path, seen: tuple[Path, ...], of: Suites) -> tuple[dict[str, float], dict[str, tuple[Tree, Path]]]:
    """Returns the bounds and the checks by name; a check of the same name replaces that of the parent."""
    tree = read_toml(path, seen)
    keys = ["extends", "bounds", *of.sections]
    if unknown := sorted(tree.keys() - set(keys)):
        raise RecipeError(f"{path}: no such section {unknown[0]!r}{_near(unknown[0], keys)}")
    parent = tree.get("extends")
    beside = path.parent / str(parent)
    numbers, rows = _read(beside if beside.is_file() else _suite_path(str(parent), of), (*seen, path), of) if parent else ({}, {})
    return numbers | _bounds(tree.get("bounds", {}), path), rows | _rows(tree, path, of)


def _bounds(found: Any, path: Path) -> dict[str, float]:
    if not isinstance(found, dict):
        raise RecipeError(f"{path}: bounds is {found!r}, and should be a table, [bounds]")
    for name, value in found.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise RecipeError(f"{path}: bound {name} is {value!r}, and a bound is a number")
    return found


def _rows(tree: Tree, path: Path, of: Suites) -> dict[str, tuple[Tree, Path]]:
    rows: dict[str, tuple[Tree, Path]] = {}
    for artifact in of.sections:
        for row in _tables(tree.get(artifact, []), artifact, path):
            name = str(row.get("name", f"check {len(rows) + 1} without a name"))
            if name in rows:
                raise RecipeError(f"{path}: two checks are called {name!r}; give one of them another name")
            rows[name] = ({"artifact": artifact} | row, path)
    return rows


def _tables(found: Any, artifact: str, path: Path) -> list[Tree]:
    if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
        raise RecipeError(f"{path}: each check of {artifact} stands under [[{artifact}]], in two brackets")
    return found


def _check(row: Tree, path: Path, numbers: dict[str, float]) -> Check:
    try:
        return _CHECK.validate_python({key: _number(key, value, numbers) for key, value in row.items()})
    except (ValidationError, KeyError) as error:
        raise RecipeError(f"{path}: check {row.get('name', '')!r} under [[{row['artifact']}]]: {_why(error, numbers)}") from None


def _number(key: str, value: Any, numbers: dict[str, float]) -> Any:
    return numbers[value] if key in _NUMBERS and isinstance(value, str) else value


def _why(error: ValidationError | KeyError, numbers: dict[str, float]) -> str:
    if isinstance(error, KeyError):
        return f"no bound is called {error.args[0]!r}{_near(error.args[0], list(numbers))}"
    lines = []
    for item in error.errors():
        where = ".".join(str(part) for part in item["loc"][1:])
        lines.append((f"{where}: " if where else "") + item["msg"].removeprefix("Value error, "))
    return "; ".join(lines)


def _near(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; there are: {', '.join(known) or 'none'}"
