"""Check kinds: what a suite may ask of a table of numbers, one class a kind.

In: the fields of a check as a suite's file has them. Out: a `Rule`, an expectation of Great Expectations. Invariants: a column
that the table does not have is refused before anything runs; a rule names its table, its bound and what to do when it fails.
"""

from abc import abstractmethod
from dataclasses import replace
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import Field, model_validator

from data_quality.labelled_tables import TABLES as LABELLED_TABLES
from data_quality.profile import COMPARED, DRIFT, TABLES, Tables
from data_quality.rules import Rule, Severity, figure
from tasks.core.artifact import Spec
from tasks.core.tables import Schema

CorpusPart = Literal["raw_corpus", "filtered_corpus", "clean_corpus"]
LabelledPart = Literal["any_task", "labels", "scores", "suspects", "one_label"]
CORPUS_PARTS: tuple[CorpusPart, ...] = get_args(CorpusPart)
LABELLED_PARTS: tuple[LabelledPart, ...] = get_args(LabelledPart)
Share = Annotated[float, Field(ge=0, le=1)]


class CheckBase(Spec):
    """What every check has."""

    kind: Any
    artifact: Annotated[
        CorpusPart | LabelledPart, Field(description="What the check is about; of labelled data when it is asked.")
    ]
    name: Annotated[str, Field(min_length=1, description="Name in reports; one of a kind in its suite.")]
    severity: Annotated[Severity, Field(description="critical stops the run, warning marks the model, info only tells.")]
    table: Annotated[str, Field(description="Table of the profile.")]
    remedy: Annotated[str, Field(min_length=1, description="What to do when it fails.")]

    @model_validator(mode="after")
    def _known_table(self) -> Self:
        self._require_table(self.table)
        return self

    @property
    def tables(self) -> dict[str, Schema]:
        """Tables there are of what it is about."""
        return LABELLED_TABLES if self.artifact in LABELLED_PARTS else TABLES

    def _require_table(self, name: str) -> None:
        if name not in self.tables:
            raise ValueError(f"no table {name!r}; there are: {', '.join(self.tables)}")

    @abstractmethod
    def rule(self, tables: Tables) -> Rule:
        """Returns the expectation; bounds relative to another table are taken from `tables`."""

    def _rule(self, expectation: str, settings: dict[str, Any], bound: str, table: str | None = None) -> Rule:
        about = "" if self.artifact in LABELLED_PARTS else self.artifact  # there is one kind of labelled data
        return Rule(self.name, table or self.table, self.severity, expectation, settings, bound, self.remedy, artifact=about)


class ColumnCheck(CheckBase):
    """A check of one column."""

    column: Annotated[str, Field(description="Column of the table.")]

    @model_validator(mode="after")
    def _known_column(self) -> Self:
        known = self.tables[self.table]
        if self.column not in known:
            raise ValueError(f"table {self.table} has no column {self.column!r}; it has {', '.join(known)}")
        if not isinstance(self, Unique | ShareOf | Drift) and known[self.column] == "string":
            raise ValueError(f"column {self.column} holds names, and {self.kind} takes numbers")
        return self


class Bounded(Spec):
    """A check with a smallest or a largest value, or both."""

    min: Annotated[float | None, Field(description="Smallest value.")] = None
    max: Annotated[float | None, Field(description="Largest value.")] = None

    @model_validator(mode="after")
    def _has_bound(self) -> Self:
        if self.min is None and self.max is None:
            raise ValueError("set min or max, or both")
        return self

    def within(self, what: str) -> str:
        """Returns the bounds as people read them."""
        bounds = ((">=", self.min), ("<=", self.max))
        return " and ".join(f"{what} {sign} {figure(bound)}" for sign, bound in bounds if bound is not None)

    def limits(self, factor: float = 1.0) -> dict[str, float]:
        """Returns the bounds times `factor`, under the names that Great Expectations has for them."""
        named = {"min_value": self.min, "max_value": self.max}
        return {name: bound * factor for name, bound in named.items() if bound is not None}


class Range(ColumnCheck, Bounded):
    """Each value of a column lies between bounds."""

    kind: Literal["range"]
    max_outside: Annotated[Share, Field(description="Share of rows that may lie outside.")] = 0.0

    def rule(self, tables: Tables) -> Rule:
        """Returns the expectation."""
        settings, bound = {"column": self.column} | self.limits(), self.within(self.column)
        if self.max_outside:
            settings["mostly"] = 1 - self.max_outside
            bound += f" in {1 - self.max_outside:.1%} of {self.table}"
        return self._rule("ExpectColumnValuesToBeBetween", settings, bound)


class Quantile(ColumnCheck, Bounded):
    """A quantile of a column lies between bounds: `quantile = 0.5` is its median."""

    kind: Literal["quantile"]
    quantile: Annotated[Share, Field(description="Which quantile.")]

    def rule(self, tables: Tables) -> Rule:
        """Returns the expectation."""
        ranges = {"quantiles": [self.quantile], "value_ranges": [[self.min, self.max]]}
        bound = self.within(f"quantile {figure(self.quantile)} of {self.column}")
        settings = {"column": self.column, "quantile_ranges": ranges}
        return self._rule("ExpectColumnQuantileValuesToBeBetween", settings, bound)


class ShareOf(ColumnCheck):
    """The share of rows whose column holds one of some names has a bound: `min` or `max`."""

    kind: Literal["share"]
    values: Annotated[tuple[str, ...], Field(min_length=1, description="Names that are counted.")]
    min: Annotated[Share | None, Field(description="Smallest share of rows.")] = None
    max: Annotated[Share | None, Field(description="Largest share of rows.")] = None

    @model_validator(mode="after")
    def _one_bound(self) -> Self:
        if (self.min is None) == (self.max is None):
            raise ValueError("a share has either min or max; write two checks for both")
        return self

    def rule(self, tables: Tables) -> Rule:
        """Returns the expectation: in the set at least so often, or outside of it."""
        settings: dict[str, Any] = {"column": self.column, "value_set": list(self.values)}
        what = f"share of {self.column} {' or '.join(self.values)}"
        if self.min is not None:
            return self._rule("ExpectColumnValuesToBeInSet", settings | {"mostly": self.min}, f"{what} >= {figure(self.min)}")
        most = self.max or 0.0
        return self._rule("ExpectColumnValuesToNotBeInSet", settings | {"mostly": 1 - most}, f"{what} <= {figure(most)}")


class Unique(ColumnCheck):
    """No value of a column stands twice."""

    kind: Literal["unique"]

    def rule(self, tables: Tables) -> Rule:
        """Returns the expectation."""
        return self._rule("ExpectColumnValuesToBeUnique", {"column": self.column}, f"no {self.column.removesuffix('_key')} twice")


class RowCount(CheckBase, Bounded):
    """Rows of a table against those of another one, e.g. of the stage before: bounds are shares of that."""

    kind: Literal["row_count"]
    against: Annotated[str, Field(description="Table whose rows are 1.")]

    @model_validator(mode="after")
    def _known_other(self) -> Self:
        self._require_table(self.against)
        return self

    def rule(self, tables: Tables) -> Rule:
        """Returns the expectation, in rows."""
        settings = self.limits(factor=len(tables.get(self.against, ())))
        bound = self.within(f"rows of {self.table} / rows of {self.against}")
        return replace(self._rule("ExpectTableRowCountToBeBetween", settings, bound), against=self.against)


class Drift(ColumnCheck):
    """How far a column has moved from that of the corpus behind the last registered model.

    `ks` is the largest distance of the two distribution functions (Kolmogorov and Smirnov), `psi` the population stability index
    over tenths of the registered values or over names: below 0.1 is usually read as stable, above 0.25 as moved.
    """

    kind: Literal["drift"]
    table: Annotated[Literal["documents"], Field(description="The clean documents; their profile is kept with a model.")]
    measure: Annotated[Literal["ks", "psi"], Field(description="ks for numbers; psi for numbers and names.")]
    max: Annotated[float, Field(ge=0, description="Largest value.")]

    @model_validator(mode="after")
    def _comparable(self) -> Self:
        if self.column not in COMPARED:
            raise ValueError(f"no drift of {self.column!r} is known; there is one of {', '.join(COMPARED)}")
        if self.measure == "ks" and TABLES[self.table][self.column] == "string":
            raise ValueError(f"column {self.column} holds names: ks takes numbers, psi both")
        return self

    @property
    def drift_column(self) -> str:
        """Column of the table `drift` that holds the measure."""
        return f"{self.column}_{self.measure}"

    def rule(self, tables: Tables) -> Rule:
        """Returns the expectation, on the table of measured drifts."""
        settings = {"column": self.drift_column, "max_value": self.max}
        bound = f"{self.measure} of {self.column} <= {figure(self.max)}"
        return self._rule("ExpectColumnValuesToBeBetween", settings, bound, table=DRIFT)


Check = Annotated[Range | Quantile | ShareOf | Unique | RowCount | Drift, Field(discriminator="kind")]
