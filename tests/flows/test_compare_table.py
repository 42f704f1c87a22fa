"""The table of a comparison in the terminal."""

from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from flows.compare_run import choices_table
from flows.display import print_whole


def row(kind: str) -> dict[str, Any]:
    figure = {"mean": 5.1278, "low": 5.0, "high": 5.25, "over": "items"}
    return {
        "settings": {"tune.method.kind": kind, "tune.optim.learning_rate": "0.0005"},
        "figure": figure,
        "num_runs": 3,
        "num_trained_parameters": 3_704_320,
        "trained_share": 0.0426,
        "kept_bytes": 14_820_000,
        "peak_memory_bytes": 710_000_000,
        "seconds": 90.1,
        "tokens_per_s": 1316.0,
        "train_validation_gap": 0.618,
        "forgetting": figure | {"mean": 0.263},
    }


@pytest.mark.parametrize("width", [40, 80, 300])
def test_no_figure_is_cut_however_narrow_the_terminal(width: int) -> None:
    said = StringIO()
    print_whole(Console(file=said, width=width), choices_table("loss", [row("full"), row("lora")]))
    figures = ("5.128 [5.000, 5.250]", "3,704,320", "4.26%", "14.82", "0.71", "90.1", "1,316", "0.618", "0.263 [5.000, 5.250]")
    lines = said.getvalue().splitlines()
    for kind in ("full", "lora"):
        (line,) = [line for line in lines if kind in line]
        assert [figure for figure in figures if figure not in line] == []
