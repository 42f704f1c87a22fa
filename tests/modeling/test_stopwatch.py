"""Where the time went: each second once, in the records and in one line."""

import logging
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tasks.modeling import stopwatch
from tasks.modeling.records import read_records
from tasks.modeling.stopwatch import Stopwatch, describe
from tests.modeling.training import TinyJob, train_tiny


def test_a_second_counts_once_for_the_innermost_lap(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([0.0, 1.0, 3.0, 6.0, 10.0, 15.0])  # start, lap in, inner lap in, inner out, out, asked
    monkeypatch.setattr(stopwatch.time, "monotonic", lambda: next(now))
    watch = Stopwatch()
    with watch.lap("forward_backward"), watch.lap("data"):
        pass
    figures = watch.figures(torch.device("cpu"))
    assert figures["peak_memory_bytes"] > 1e8
    assert {name: value for name, value in figures.items() if name != "peak_memory_bytes"} == {
        "seconds_forward_backward": 2.0 + 4.0,
        "seconds_data": 3.0,
        "seconds_total": 15.0,
    }
    assert describe(figures | {"peak_memory_bytes": 2e9}) == (
        "where 15.0 s went: forward backward 6.0 s (40%), other 6.0 s (40%), data 3.0 s (20%); at most 2,000 MB"
    )


def test_a_training_says_where_its_time_went(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="textmill.train"):
        train_tiny(TinyJob(folder=tmp_path))
    last = read_records(tmp_path / "metrics.jsonl")[-1]
    laps = {"forward_backward", "optimizer", "data", "validation", "checkpoint"}
    assert last.keys() == {"step", "peak_memory_bytes", "seconds_total", *(f"seconds_{lap}" for lap in laps)}
    spent = sum(last[f"seconds_{lap}"] for lap in laps)
    assert 0 < spent <= last["seconds_total"]
    assert caplog.messages[-1].startswith("where ")


def test_the_peak_of_a_child_is_its_own_and_not_what_its_parent_held() -> None:
    held = b"x" * 1_500_000_000
    ask = "import torch; from tasks.modeling.stopwatch import peak_memory_bytes; print(peak_memory_bytes(torch.device('cpu')))"
    peak = int(subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True).stdout)
    assert 1e8 < peak < len(held)
