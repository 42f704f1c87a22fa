"""Check: labelled data against its quality rules; the report is always committed, a separate step may stop the run.

In: `Labelled`. Out: `QualityReport`, with `suspects.parquet` (id, split, given, likely, probability) beside the report.
Invariant: the verdict is in the artifact whether it is yes or no; `require_quality` only reads it.
"""

from collections.abc import Sequence

from data_quality.labelled.judged import Judged
from data_quality.labelled.page import render
from data_quality.labelled.profile import profile
from data_quality.labelled.suites import CheckLabelledSpec, rules_for
from data_quality.labelled.suspects import judge
from data_quality.labelled_tables import TABLES
from data_quality.profile import write_tables
from data_quality.validation import validate
from data_quality.verdict import commit_report
from tasks.contracts import Labelled, QualityReport
from tasks.core.stage import DISK, StageContext, stage
from tasks.core.tables import read_rows, write_table

_SUSPECTS = {"id": "string", "split": "string", "given": "string[]", "likely": "string[]", "probability": "float64"}


@stage(version=5, name="check_labelled", retry=DISK, packages=("great-expectations", "pandas", "pyarrow", "scikit-learn"))
def check_labelled(spec: CheckLabelledSpec, labelled: Labelled, *, ctx: StageContext) -> QualityReport:
    """Measures the data, looks for labels that seem wrong, checks every rule of its task and writes the report."""
    items = list(read_rows(labelled.path / "items.parquet"))
    judged: list[Judged] = []
    if spec.suspects is not None:
        judged = judge(items, labelled.task, labelled.label_names, spec.suspects)
    below = spec.suspects.below(labelled.task) if spec.suspects is not None else 0.0
    tables = profile(labelled, items, judged, below)
    write_tables(tables, ctx.dir / "tables", TABLES)
    suspects = [one for one in judged if one.probability < below][: spec.suspects.num_listed if spec.suspects else 0]
    _write_suspects(suspects, ctx)
    results = validate(rules_for(spec, labelled.task), tables)
    return commit_report(ctx, results, render(results, tables, labelled, suspects), labelled.digest)


def _write_suspects(suspects: Sequence[Judged], ctx: StageContext) -> None:
    rows = (
        {"id": one.item["id"], "split": one.item["split"], "given": one.given}
        | {"likely": one.likely, "probability": one.probability}
        for one in suspects
    )
    write_table(ctx.dir / "suspects.parquet", _SUSPECTS, rows)
