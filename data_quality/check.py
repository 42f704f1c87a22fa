"""Check: the corpus against the quality rules; the report is always committed, a separate step may stop the run.

In: `RawCorpus`, `FilteredCorpus`, `CleanCorpus`, `Baseline`. Out: `QualityReport`. Invariant: the verdict is in the artifact
whether it is yes or no; `require_quality` only reads it.
"""

from collections.abc import Sequence

from data_quality.checks import Check, Drift
from data_quality.drift import MIN_COMPARED, Profile, measured, profile_of, read_profile, write_profile
from data_quality.profile import DRIFT, TABLES, Tables, profile, write_tables
from data_quality.report import render
from data_quality.suite import CheckSpec
from data_quality.validation import validate
from data_quality.verdict import commit_report
from tasks.contracts import Baseline, CleanCorpus, FilteredCorpus, QualityReport, RawCorpus
from tasks.core.artifact import Artifact, Spec
from tasks.core.errors import ContractError, GateError
from tasks.core.stage import DISK, StageContext, stage
from tasks.core.tables import Row, Schema

__all__ = ["CheckSpec", "RequireQualitySpec", "check", "require_quality"]


class RequireQualitySpec(Spec):
    """What is asked of the quality report: that no critical check failed."""


@stage(version=5, name="check", retry=DISK, packages=("great-expectations", "pandas", "pyarrow", "scipy"))
def check(
    spec: CheckSpec, raw: RawCorpus, filtered: FilteredCorpus, corpus: CleanCorpus, baseline: Baseline, *, ctx: StageContext
) -> QualityReport:
    """Measures the corpus, checks every rule of the suite and writes the report.

    Raises:
        ContractError: The three corpora do not belong together.
    """
    _require_one_chain(raw, filtered, corpus)
    checks = spec.checks or ()
    tables = profile(raw, filtered, corpus)
    write_profile(ctx.dir / "profile", profile_of(tables["documents"]))
    is_compared = baseline.has_profile and len(tables["documents"]) >= MIN_COMPARED
    if is_compared:
        tables[DRIFT] = _drift(checks, tables, read_profile(baseline.path))
    write_tables(tables, ctx.dir / "tables", TABLES | _drift_schema(tables))
    results = validate([one.rule(tables) for one in checks], tables, compared=is_compared)
    return commit_report(ctx, results, render(results, tables, raw, filtered, corpus, baseline), corpus.digest)


@stage(version=1, name="require_quality", always_runs=True)
def require_quality(spec: RequireQualitySpec, report: QualityReport, *, ctx: StageContext) -> QualityReport:
    """Lets the run go on where no critical check failed.

    Raises:
        GateError: With each failed critical check: expectation, value seen, bound.
    """
    if not report.passed:
        lines = "\n".join(f"  {line}" for line in report.failures)
        raise GateError(
            f"the data failed {len(report.failures)} critical checks (report: {report.path / 'report.html'}):\n{lines}"
        )
    return report


def _drift(checks: Sequence[Check], tables: Tables, registered: Profile) -> list[Row]:
    """Returns one row with every drift that a check asks for."""
    asked = [one for one in checks if isinstance(one, Drift)]
    row = {one.drift_column: measured(one.column, one.measure, tables["documents"], registered) for one in asked}
    return [row] if row else []


def _drift_schema(tables: Tables) -> dict[str, Schema]:
    return {DRIFT: dict.fromkeys(tables[DRIFT][0], "float64")} if tables.get(DRIFT) else {}


def _require_one_chain(raw: RawCorpus, filtered: FilteredCorpus, corpus: CleanCorpus) -> None:
    for above, given, below, taken in (
        (raw, raw.num_documents, filtered, filtered.num_documents_in),
        (filtered, filtered.num_documents, corpus, corpus.num_documents_in),
    ):
        if given != taken:
            raise _mismatch(above, given, below, taken)


def _mismatch(above: Artifact, given: int, below: Artifact, taken: int) -> ContractError:
    return ContractError(
        f"{below.address} was made from {taken} documents, but {above.address} has {given}: they do not belong together; "
        "pass the artifacts of one chain"
    )
