"""The terminal's lines."""

import io

from rich.console import Console

from flows.display import TerminalObserver, summary_table
from tasks.contracts import Verdict
from tasks.core.run import StageRecord


def test_a_plain_line_says_how_far_how_fast_and_how_long_yet() -> None:
    console = Console(file=io.StringIO(), width=200)
    observer = TerminalObserver(console)
    observer.started("pretrain")
    observer._next_plain_s = 0.0
    observer.progressed("pretrain", 1200, 4000, "steps", {"loss": 5.4321, "mfu": 0.456, "seconds_left": 3725.4})
    line = console.file.getvalue()  # type: ignore[attr-defined]
    assert "1,200/4,000 steps loss 5.432 mfu 0.456 1:02:05 left" in line


def test_the_table_says_a_verdict_once() -> None:
    verdict = Verdict(
        uri="gate", fingerprint="0" * 64, digest="0" * 64, passed=True, tuned_digest="1" * 64, reasons=("all held",)
    )
    other = verdict.model_copy(update={"fingerprint": "2" * 64, "reasons": ("held again",)})
    records = [
        StageRecord("gate", "built", 1.0, verdict),
        StageRecord("require_verdict", "reused", 0.0, verdict),
        StageRecord("gate_again", "built", 1.0, other),
        StageRecord("deploy", "failed", 1.0, error="no server\nTraceback"),
    ]
    said = list(summary_table("run", records).columns[3].cells)
    assert said == ["yes: all held", "as gate", "yes: held again", "no server"]
