"""The terminal's lines."""

import io

from rich.console import Console

from flows.display import TerminalObserver


def test_a_plain_line_says_how_far_how_fast_and_how_long_yet() -> None:
    console = Console(file=io.StringIO(), width=200)
    observer = TerminalObserver(console)
    observer.started("pretrain")
    observer._next_plain_s = 0.0
    observer.progressed("pretrain", 1200, 4000, "steps", {"loss": 5.4321, "mfu": 0.456, "seconds_left": 3725.4})
    line = console.file.getvalue()  # type: ignore[attr-defined]
    assert "1,200/4,000 steps loss 5.432 mfu 0.456 1:02:05 left" in line
