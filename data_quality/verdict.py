"""Verdict: results become a report that is always committed.

In: results of checks and the page that shows them. Out: `QualityReport`, its `results.json` and `report.html`. Invariant: a
failed check is told in the log, in the facts and in the files.
"""

import json
from collections.abc import Sequence

from data_quality.validation import Result
from tasks.contracts import QualityReport
from tasks.core.stage import StageContext

_LEVELS = {"critical": 40, "warning": 30, "info": 20}


def commit_report(ctx: StageContext, results: Sequence[Result], page: str, digest: str) -> QualityReport:
    """Writes the results and the page, and commits the verdict.

    Args:
        digest: Digest of what was checked.
    """
    for result in results:
        if not result.passed:
            ctx.log.log(_LEVELS[result.severity], "%s: %s", result.severity, result.line)
    rows = [result.row() for result in results]
    (ctx.dir / "results.json").write_text(json.dumps(rows, ensure_ascii=False, indent=1), encoding="utf-8")
    (ctx.dir / "report.html").write_text(page, encoding="utf-8")
    failures = _lines(results, "critical")
    return ctx.commit(
        QualityReport,
        corpus_digest=digest,
        passed=not failures,
        num_checks=sum(not result.skipped for result in results),
        failures=failures,
        warnings=_lines(results, "warning"),
    )


def _lines(results: Sequence[Result], severity: str) -> tuple[str, ...]:
    return tuple(result.line for result in results if not result.passed and result.severity == severity)
