"""An artifact's page: tables a person can read, and nothing in it that a browser would run."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import Field

from tasks.core.artifact import Artifact
from tasks.core.publish import page


class Report(Artifact):
    note: str = ""
    passed: bool = True
    owner: str | None = None
    metrics: dict[str, Any] = Field(default={})

    def summary(self) -> str:
        return "a <b>summary</b>"


def report(folder: Path, **facts: Any) -> Report:
    return Report(uri=str(folder), fingerprint="f" * 64, digest="d" * 64, **facts)


def rows(text: str) -> list[list[str]]:
    """Cells of every table row."""
    lines = [line for line in text.splitlines() if line.startswith("|") and "---" not in line]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def test_facts_are_one_table(tmp_path: Path) -> None:
    found = dict(map(tuple, rows(page(report(tmp_path, note="kept", passed=False)))))
    assert found == {"fact": "value", "note": "kept", "passed": "**no**", "owner": "-"}


def test_measures_of_several_models_stand_side_by_side(tmp_path: Path) -> None:
    low_high = {"mean": 1.5, "low": 1.0, "high": 2.0, "num_items": 7}
    metrics = {"base/loss": low_high, "base/score": 3, "tuned/loss": low_high | {"mean": 1.25}}
    assert rows(page(report(tmp_path, metrics=metrics)))[:3] == [
        ["", "base", "tuned"],
        ["loss", "1.5000 [1.0000, 2.0000], 7 items", "1.2500 [1.0000, 2.0000], 7 items"],
        ["score", "3", "-"],
    ]


def test_results_of_checks_are_rows(tmp_path: Path) -> None:
    checked = {
        "name": "enough text",
        "severity": "critical",
        "passed": False,
        "seen": "12",
        "bound": ">= 50",
        "settings": {"a": 1},
    }
    (tmp_path / "results.json").write_text(json.dumps([checked]))
    assert rows(page(report(tmp_path)))[-2:] == [
        ["name", "severity", "passed", "seen", "bound"],
        ["enough text", "critical", "**no**", "12", ">= 50"],
    ]


@pytest.mark.parametrize(
    ("value", "shown"),
    [("<img src=x>", "&lt;img src=x>"), ("a|b", "a\\|b"), ("two\nlines", "two lines"), ("0a" * 32, "0a" * 8)],
)
def test_text_cannot_leave_its_cell(value: str, shown: str, tmp_path: Path) -> None:
    assert ["note", shown] in rows(page(report(tmp_path, note=value)))


def test_the_summary_is_text(tmp_path: Path) -> None:
    assert "a &lt;b>summary&lt;/b>" in page(report(tmp_path))


def test_a_plot_is_drawn_in_the_page_itself(tmp_path: Path) -> None:
    (tmp_path / "extra").mkdir()
    (tmp_path / "extra" / "loss.svg").write_bytes(b"<svg/>")
    assert "![loss](data:image/svg+xml;base64,PHN2Zy8+)" in page(report(tmp_path))
