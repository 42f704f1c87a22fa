"""Repeated lines: navigation, headers and footers that stand in many documents of a source are taken out.

In: the documents of a corpus. Out: their texts without such lines, how many were taken out of each source, and examples.
Invariants: a source is counted whole before a line of it is taken out; lines of code stay; a document of hardly anything but
repeated lines stays as it is, and is then a copy of others.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import Field

from tasks.cleaning.prose import code_lines
from tasks.cleaning.repair import GAPS
from tasks.core.artifact import Spec
from tasks.core.tables import Row, read_group, read_rows, row_groups, write_table
from tasks.core.text import normalized, text_safe
from tasks.core.workers import run_jobs

LINES = "lines.json"
_COUNTS = {"source": "string", "line": "uint64", "count": "int64"}
_EXAMPLES = 50
_LEAST_LEFT = 0.05  # of a document's characters: an article that stands often, each time with a date, must not become the date
_EXAMPLE_CHARS = 200


class RepeatedLines(Spec):
    """Which lines are repeated: both bounds must be reached within one source."""

    min_documents: Annotated[int, Field(ge=2, description="Documents of a source in which a line must stand.")] = 20
    min_share: Annotated[float, Field(gt=0, le=1, description="Share of the source's documents in which it must stand.")] = 0.05
    min_chars: Annotated[int, Field(ge=1, description="Shortest line that is taken out, in characters.")] = 4


class _Piece(NamedTuple):
    """One row group to count; its results carry its number."""

    path: Path
    group: int
    counts: Path
    min_chars: int


class LineFilter:
    """Takes repeated lines out of texts.

    Attributes:
        taken: Lines taken out so far, by source.
    """

    def __init__(self, repeated: Mapping[str, Mapping[int, int]], min_chars: int) -> None:
        self.taken: Counter[str] = Counter()
        self._repeated = repeated
        self._min_chars = min_chars
        self._examples: dict[tuple[str, int], str] = {}

    def __call__(self, source: str, text: str) -> str:
        """Returns the text without the lines that are repeated in its source."""
        repeated = self._repeated.get(source)
        if not repeated:
            return text
        keys = _keys(text, self._min_chars)
        lines = text.split("\n")
        kept = "\n".join(line for number, line in enumerate(lines) if keys.get(number) not in repeated)
        found = [(keys[number], line) for number, line in enumerate(lines) if keys.get(number) in repeated]
        if not found or len(kept.strip()) < _LEAST_LEFT * len(text):
            return text
        self.taken[source] += len(found)
        for key, line in found:
            self._examples.setdefault((source, key), text_safe(line.strip(), _EXAMPLE_CHARS))
        return GAPS.sub("\n\n", kept).strip("\n")

    def examples(self) -> list[dict[str, Any]]:
        """Returns the lines taken out that stood in most documents."""
        rows: list[dict[str, Any]] = [
            {"source": source, "line": line, "documents": self._repeated[source][key]}
            for (source, key), line in self._examples.items()
        ]
        return sorted(rows, key=lambda row: (-row["documents"], row["source"], row["line"]))[:_EXAMPLES]


def find_repeated(documents: Path, rules: RepeatedLines, work: Path, workers: int) -> Iterator[tuple[int, int]]:
    """Counts lines, notes the repeated ones in `work`, and yields how many pieces are done, and of how many."""
    groups = row_groups(documents)
    pieces = [
        _Piece(path, group, work / f"{number:06d}.lines.parquet", rules.min_chars) for number, (path, group) in enumerate(groups)
    ]
    for done in run_jobs(count_piece, pieces, workers):
        yield done, len(pieces)
    totals = Counter(row["source"] for row in read_rows(documents, ["source"]))
    counts: defaultdict[str, Counter[int]] = defaultdict(Counter)
    for piece in pieces:
        for row in read_rows(piece.counts):
            counts[row["source"]][row["line"]] += row["count"]
    repeated = {
        source: {str(line): count for line, count in sorted(found.items()) if _is_repeated(rules, count, totals[source])}
        for source, found in sorted(counts.items())
    }
    (work / LINES).write_text(json.dumps(repeated), encoding="utf-8")


@lru_cache(maxsize=1)
def _noted(path: Path) -> dict[str, dict[int, int]]:
    found = json.loads(path.read_text(encoding="utf-8"))
    return {source: {int(line): count for line, count in lines.items()} for source, lines in found.items()}


def line_filter(rules: RepeatedLines | None, work: Path) -> LineFilter:
    """Returns a filter of the lines that `find_repeated` noted; without rules it takes out none."""
    return LineFilter({}, 1) if rules is None else LineFilter(_noted(work / LINES), rules.min_chars)


def count_piece(piece: _Piece) -> None:
    """Counts for each line of a row group the documents of a source in which it stands."""
    counts: Counter[tuple[str, int]] = Counter()
    for row in read_group(piece.path, piece.group, ["source", "text"]):
        counts.update((row["source"], key) for key in set(_keys(row["text"], piece.min_chars).values()))
    rows: Iterator[Row] = ({"source": source, "line": key, "count": count} for (source, key), count in sorted(counts.items()))
    write_table(piece.counts, _COUNTS, rows)


def _is_repeated(rules: RepeatedLines, count: int, total: int) -> bool:
    return count >= rules.min_documents and count >= rules.min_share * total


def _keys(text: str, min_chars: int) -> dict[int, int]:
    """Returns for the number of each line that may be taken out what stands for its text."""
    code = code_lines(text)
    lines = ((number, normalized(line)) for number, line in enumerate(text.split("\n")) if number not in code)
    return {
        number: int.from_bytes(blake2b(line.encode("utf-8"), digest_size=8).digest(), "little")
        for number, line in lines
        if len(line) >= min_chars
    }
