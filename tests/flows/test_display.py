"""The terminal's lines."""

import io
from typing import Any

from rich.console import Console

from flows.display import TerminalObserver, summary_table
from tasks.contracts import TokenizedCorpus, Verdict
from tasks.core.run import StageRecord, stage_log

NOTHING: dict[str, Any] = {"uri": "none", "fingerprint": "0" * 64, "digest": "0" * 64}


def test_a_plain_line_says_how_far_how_fast_and_how_long_yet() -> None:
    console = Console(file=io.StringIO(), width=200)
    observer = TerminalObserver(console)
    observer.started("pretrain")
    observer._next_plain_s = 0.0
    observer.progressed("pretrain", 1200, 4000, "steps", {"loss": 5.4321, "mfu": 0.456, "seconds_left": 3725.4})
    line = console.file.getvalue()  # type: ignore[attr-defined]
    assert "1,200/4,000 steps loss 5.432 mfu 0.456 1:02:05 left" in line


def test_a_warning_is_said_once_whether_it_was_logged_or_is_kept_in_what_was_made() -> None:
    console = Console(file=io.StringIO(), width=200)
    made = TokenizedCorpus(
        **NOTHING, tokenizer_digest="", vocab_size=1, warnings=("a [small] part", "two"),
        tokens_by_split={}, bytes_by_split={}, documents_by_split={}, tokens_by_language={},
    )  # fmt: skip
    with TerminalObserver(console) as observer:
        stage_log("encode").warning("a [small] part")
        stage_log("encode").info("nothing to see")
        observer.finished(StageRecord("encode", "built", 1.0, made))
        observer.finished(StageRecord("encode_again", "reused", 1.0, made))
    stage_log("encode").warning("after the end")
    said = [line.split() for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]
    assert [line for line in said if "warning" in line] == [
        ["encode", "warning", "a", "[small]", "part"],
        ["encode", "warning", "two"],
    ]
    assert len(said) == 4


def test_the_table_says_a_verdict_once() -> None:
    verdict = Verdict(**NOTHING, passed=True, tuned_digest="1" * 64, reasons=("all held",))
    other = verdict.model_copy(update={"fingerprint": "2" * 64, "reasons": ("held again",)})
    records = [
        StageRecord("gate", "built", 1.0, verdict),
        StageRecord("require_verdict", "reused", 0.0, verdict),
        StageRecord("gate_again", "built", 1.0, other),
        StageRecord("deploy", "failed", 1.0, error="no server\nTraceback"),
    ]
    said = list(summary_table("run", records).columns[3].cells)
    assert said == ["yes: all held", "as gate", "yes: held again", "no server"]
