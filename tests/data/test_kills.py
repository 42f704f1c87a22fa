"""A data stage that is killed in the middle: the next run makes the same bytes, and no finished piece is done again."""

import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.chain import ROOT, wait_until
from tests.data.killable import STAGES

pytestmark = pytest.mark.slow


def start(folder: Path, slow: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.data.killable", str(folder / "state"), str(folder / "ledger"), slow]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def ended(folder: Path, stage: str) -> list[str]:
    ledger = folder / "ledger"
    lines = ledger.read_text().splitlines() if ledger.exists() else []
    return [line for line in lines if line.startswith(f"end {stage} ")]


@pytest.fixture(scope="module")
def calm(tmp_path_factory) -> tuple[Path, str]:
    """A run nobody disturbed: its folder and the digests."""
    folder = tmp_path_factory.mktemp("calm")
    output, _ = start(folder, "none").communicate(timeout=300)
    return folder, output.split("\n")[-2]


@pytest.mark.parametrize("stage", STAGES)
def test_a_killed_stage_goes_on_where_it_was_and_ends_with_the_same_bytes(stage, calm, tmp_path):
    whole, digests = calm
    for name in ("texts", "held.jsonl", "train.jsonl"):
        source = whole / name
        (shutil.copytree if source.is_dir() else shutil.copy2)(source, tmp_path / name)
    process = start(tmp_path, stage)
    wait_until(lambda: len(ended(tmp_path, stage)) >= 2, 200)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = ended(tmp_path, stage)
    assert 2 <= len(before) < len(ended(whole, stage)), "it must be killed in the middle"
    output, _ = start(tmp_path, "none").communicate(timeout=300)
    assert output.split("\n")[-2] == digests
    times = Counter(line for name in STAGES for line in ended(tmp_path, name))
    assert max(times.values()) == 1, "a finished piece was done again"
    assert len(times) >= sum(len(ended(whole, name)) for name in STAGES) - 1  # the kill may fall between a piece and its note
