"""Artifacts and progress in the Prefect UI.

In: stage events. Out: a progress bar while a stage works and a page for what it made, under a key that keeps its history.
Invariant: everything is made safe text first, and a server that does not answer never stops a stage.
"""

import base64
import json
import re
import time
from pathlib import Path
from typing import Any
from uuid import UUID

from tasks.core.artifact import EXTRA_DIR, Artifact
from tasks.core.run import Observer, StageRecord
from tasks.core.text import one_line, text_safe

_FIRST_PROGRESS_S = 2.0
_PROGRESS_EVERY_S = 5.0
_MAX_IMAGE_BYTES = 300_000
_RESULT_COLUMNS = ("name", "severity", "passed", "seen", "bound")
_DIGEST = re.compile("[0-9a-f]{64}")
_IMAGE_TYPES = {".png": "image/png", ".svg": "image/svg+xml"}


class PrefectObserver(Observer):
    """Shows a run's stages in the Prefect UI; use it inside a flow run."""

    def __init__(self) -> None:
        self._progress_ids: dict[str, UUID] = {}
        self._next_s: dict[str, float] = {}

    def started(self, stage: str) -> None:
        """A stage that ends at once needs no progress bar."""
        self._progress_ids.pop(stage, None)
        self._next_s[stage] = time.monotonic() + _FIRST_PROGRESS_S

    def progressed(self, stage: str, done: float, total: float, unit: str, figures: dict[str, float]) -> None:
        """Moves the progress bar, every few seconds at most."""
        if time.monotonic() >= self._next_s.get(stage, 0.0):
            self._next_s[stage] = time.monotonic() + _PROGRESS_EVERY_S
            self._update(stage, 100.0 * done / max(total, 1e-9), _progress_line(done, total, unit, figures))

    def finished(self, record: StageRecord) -> None:
        """Completes the progress bar and publishes what was made."""
        from prefect.artifacts import create_markdown_artifact

        if record.result == "built" and record.name in self._progress_ids:
            self._update(record.name, 100.0, f"{record.seconds:.1f} s")
        if record.artifact is not None:
            create_markdown_artifact(
                key=_key(record.shown_name),
                markdown=page(record.artifact),
                description=one_line(record.artifact.summary(), 1_000),
            )

    def _update(self, stage: str, percent: float, description: str) -> None:
        from prefect.artifacts import create_progress_artifact, update_progress_artifact

        percent = min(percent, 100.0)
        if (artifact_id := self._progress_ids.get(stage)) is not None:
            update_progress_artifact(artifact_id=artifact_id, progress=percent, description=description)
        else:
            made = create_progress_artifact(progress=percent, key=f"{_key(stage)}-progress", description=description)
            self._progress_ids[stage] = UUID(str(made))


def publish_link(key: str, url: str, text: str) -> None:
    """Publishes a link on the current flow run's page."""
    from prefect.artifacts import create_link_artifact

    create_link_artifact(key=_key(key), link=url, link_text=one_line(text), description=one_line(text))


def page(artifact: Artifact) -> str:
    """Returns what an artifact is, as Markdown: summary, plot, facts, rows of results, address."""
    lines = [f"## {artifact.kind()}", "", text_safe(artifact.summary(), 20_000).replace("<", "&lt;"), ""]
    lines += [f"![{path.stem}]({_data_uri(path)})\n" for path in _plots(artifact)]
    plain, grids = _parted(artifact.facts())
    for name, grid in grids.items():
        lines += [f"### {name}", "", *_table(grid), ""]
    lines += [*_table([("fact", "value"), *plain.items()]), ""]
    if rows := _result_rows(artifact):
        lines += ["### results", "", *_table(rows), ""]
    return "\n".join([*lines, f"`textmill show {artifact.address}` has its provenance and lineage."])


def _plots(artifact: Artifact) -> list[Path]:
    paths = sorted(path for suffix in _IMAGE_TYPES for path in (artifact.path / EXTRA_DIR).glob(f"*{suffix}"))
    return [path for path in paths if path.stat().st_size <= _MAX_IMAGE_BYTES]


def _data_uri(path: Path) -> str:
    return f"data:{_IMAGE_TYPES[path.suffix]};base64," + base64.b64encode(path.read_bytes()).decode()


def _table(rows: list[tuple[Any, ...]]) -> list[str]:
    """Returns a Markdown table; the first row is its head."""
    head, *body = [f"| {' | '.join(_cell(value) for value in row)} |" for row in rows]
    return [head, "|" + " --- |" * len(rows[0]), *body]


def _parted(facts: dict[str, Any]) -> tuple[dict[str, Any], dict[str, list[tuple[Any, ...]]]]:
    """Parts facts into plain ones and grids: a fact with names like `tuned/loss` has a column a role and a row a measure."""
    grids = {name: _grid(value) for name, value in facts.items() if _is_grid(value)}
    return _flat({name: value for name, value in facts.items() if name not in grids}), grids


def _is_grid(value: Any) -> bool:
    return isinstance(value, dict) and len(value) > 1 and all("/" in name for name in value)


def _grid(values: dict[str, Any]) -> list[tuple[Any, ...]]:
    cells = {tuple(name.split("/", 1)): value for name, value in values.items()}
    columns, measures = list(dict.fromkeys(key[0] for key in cells)), list(dict.fromkeys(key[1] for key in cells))
    return [("", *columns), *((measure, *(cells.get((column, measure)) for column in columns)) for measure in measures)]


def _flat(facts: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in facts.items():
        if isinstance(value, dict) and not _is_interval(value):
            flat |= _flat(value, f"{prefix}{name}: ")
        else:
            flat[prefix + name] = value
    return flat


def _is_interval(value: Any) -> bool:
    return isinstance(value, dict) and {"mean", "low", "high"} <= value.keys()


def _result_rows(artifact: Artifact) -> list[tuple[Any, ...]]:
    """Returns the rows of an artifact's `results.json`, where it has one: what was checked, what was seen."""
    path = artifact.path / "results.json"
    found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    columns = [name for name in _RESULT_COLUMNS if found and name in found[0]]
    return [tuple(columns), *(tuple(row[name] for name in columns) for row in found)] if columns else []


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "**no**"
    if isinstance(value, list):
        return "<br>".join(_cell(item) for item in value) or "-"
    if _is_interval(value):
        return f"{value['mean']:.4f} [{value['low']:.4f}, {value['high']:.4f}], {value['num_items']} items"
    if isinstance(value, float):
        return f"{value:.4f}"
    if isinstance(value, int):
        return f"{value:,}"
    text = one_line(str(value), 500)
    return (text[:16] if _DIGEST.fullmatch(text) else text).replace("|", "\\|").replace("<", "&lt;")


def _progress_line(done: float, total: float, unit: str, figures: dict[str, float]) -> str:
    shown = ", ".join(f"{name} {value:.4g}" for name, value in figures.items())
    return f"{done:,.0f} of {total:,.0f} {unit}" + (f", {shown}" if shown else "")


def _key(stage: str) -> str:
    return stage.replace("_", "-").lower()
