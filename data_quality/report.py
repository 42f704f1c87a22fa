"""Report: the quality of a corpus as one HTML page that needs nothing from elsewhere.

In: results, tables and the three corpora (for examples). Out: HTML. Invariants: everything is escaped by the template; no
script and no address in the page, and a policy that forbids both; the same input gives the same bytes.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from math import floor, log10
from pathlib import Path
from typing import Any

from data_quality.profile import DRIFT, Tables
from data_quality.validation import Result
from tasks.contracts import Baseline, CleanCorpus, FilteredCorpus, RawCorpus
from tasks.core.tables import read_rows
from tasks.core.text import text_safe

_EXAMPLES_PER_REASON = 2
_MAX_REASONS = 24
_EXAMPLE_CHARS = 280
_MAX_CLUSTERS = 6
_BINS_PER_DECADE = 4


def render(
    results: Sequence[Result],
    tables: Tables,
    raw: RawCorpus,
    filtered: FilteredCorpus,
    corpus: CleanCorpus,
    baseline: Baseline,
) -> str:
    """Returns the page of a corpus."""
    return page(
        "report.jinja",
        results,
        title="Corpus quality",
        digest=corpus.digest[:12],
        corpus=tables["corpus"][0],
        steps_title="From records to clean documents",
        steps=_steps(raw, filtered, corpus),
        histogram=histogram(tables["documents"], "lang"),
        reasons=tables["reasons"][:_MAX_REASONS],
        languages=tables["languages"],
        sources=tables["sources"],
        splits=tables["splits"],
        masked=dict(filtered.masked),
        quality=corpus.quality,
        drift=_drift(results, tables),
        baseline=baseline,
        dropped=_dropped(filtered),
        clusters=_clusters(corpus),
    )


def page(template: str, results: Sequence[Result], **facts: Any) -> str:
    """Returns a page of checks: the verdict and the results, and what its template shows beside them."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    failed = [result for result in results if not result.passed]
    suites = [(name, _by_urgency(results, name)) for name in dict.fromkeys(result.rule.artifact for result in results)]
    num_checks = sum(not result.skipped for result in results)
    return environment.get_template(template).render(suites=suites, num_checks=num_checks, failed=failed, **facts)


def _by_urgency(results: Sequence[Result], artifact: str) -> list[Result]:
    order = {"critical": 0, "warning": 1, "info": 2}
    own = [result for result in results if result.rule.artifact == artifact]
    return sorted(own, key=lambda result: (result.passed, order[result.severity]))


def _drift(results: Sequence[Result], tables: Tables) -> list[dict[str, Any]]:
    """Returns each measured drift beside its bound."""
    (row,) = tables.get(DRIFT) or [{}]
    rules = [result.rule for result in results if result.rule.settings.get("column") in row]
    seen = [(rule, row[rule.settings["column"]], rule.settings["max_value"]) for rule in rules if rule.table == DRIFT]
    return [
        {"name": rule.name, "bound": rule.bound, "value": value, "fill": min(1.0, value / bound if bound else 1.0)}
        | {"passed": value <= bound, "severity": rule.severity}
        for rule, value, bound in seen
    ]


def _steps(raw: RawCorpus, filtered: FilteredCorpus, corpus: CleanCorpus) -> list[dict[str, Any]]:
    """Returns how many documents each stage passed on."""
    num_low = sum(corpus.low_quality_by_reason.values())
    scored = corpus.num_documents + num_low
    steps = [
        ("read", raw.num_records, "records seen"),
        ("ingest", raw.num_documents, f"{sum(raw.quarantined.values()):,} quarantined"),
        ("clean", filtered.num_documents, f"{sum(filtered.drops_by_reason.values()):,} dropped"),
        ("dedup", scored + corpus.num_contaminated, f"{sum(corpus.removed_by_reason.values()):,} duplicates"),
        ("decontaminate", scored, f"{corpus.num_contaminated:,} held evaluation items"),
    ]
    if corpus.quality:
        steps.append(("score_quality", corpus.num_documents, f"{num_low:,} scored low"))
    first = max(1, raw.num_records)
    return [{"name": name, "count": count, "note": note, "share": count / first} for name, count, note in steps]


def histogram(rows: Sequence[dict[str, Any]], by: str) -> dict[str, Any]:
    """Returns the bins of lengths (`num_chars`) on a logarithmic axis, as shares of the rows of each value of a column."""
    places: dict[str, Counter[int]] = defaultdict(Counter)
    for row in rows:
        places[row[by]][floor(log10(max(1, row["num_chars"])) * _BINS_PER_DECADE)] += 1
    used = [place for counts in places.values() for place in counts]
    low, high = min(used, default=0), max(used, default=0)
    low, high = low - low % _BINS_PER_DECADE, high + 1
    bins = [{"from": 10 ** (place / _BINS_PER_DECADE), "place": place - low} for place in range(low, high + 1)]
    languages: list[dict[str, Any]] = [
        {"name": name, "total": counts.total(), "counts": [counts[place] for place in range(low, high)]}
        | {"shares": [counts[place] / counts.total() for place in range(low, high)]}
        for name, counts in sorted(places.items())
    ]
    return {
        "bins": bins,
        "decades": [
            {"place": one["place"], "label": f"{round(one['from']):,}"} for one in bins if one["place"] % _BINS_PER_DECADE == 0
        ],
        "top": max((share for one in languages for share in one["shares"]), default=1.0),
        "languages": languages,
    }


def _dropped(filtered: FilteredCorpus) -> list[dict[str, Any]]:
    """Returns the first dropped documents of each reason, cut."""
    shown: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in read_rows(filtered.path / "dropped"):
        if len(shown[row["reason"]]) < _EXAMPLES_PER_REASON:
            shown[row["reason"]].append(
                {"id": row["id"], "lang": row["lang"], "text": text_safe(row["text"].strip(), _EXAMPLE_CHARS)}
            )
    counts = filtered.drops_by_reason
    order = sorted(shown, key=lambda reason: (-counts[reason], reason))
    return [{"reason": reason, "count": counts[reason], "examples": shown[reason]} for reason in order[:_MAX_REASONS]]


def _clusters(corpus: CleanCorpus) -> list[dict[str, Any]]:
    path = corpus.path / "clusters.json"
    found: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    return [
        {
            "size": one["size"],
            "members": [member | {"text": text_safe(member["text"], _EXAMPLE_CHARS)} for member in one["members"]],
        }
        for one in found[:_MAX_CLUSTERS]
    ]
