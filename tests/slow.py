"""`make test-slow`: what is slow and real, resumable, its last result kept beside this file.

In: the tests marked `slow`. Out: `slow_results.json` with a row a test (result, seconds, commit, date). Invariant: a test
that passed on this very source is not run again; a row is written as soon as its test has ended.
"""

import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).with_name("slow_results.json")
_SUFFIXES = (".py", ".toml", ".yaml", ".lock", ".gz", ".jinja", ".html")
_FOLDERS = re.compile(r"(?<!\w)/\S*/")  # of the machine; what is kept names files alone
_LIMIT_S = 1_800
Row = dict[str, Any]


def main() -> int:
    """Runs what has not passed yet on this source; returns 0 when every row is green."""
    recorder = Recorder(source_digest())
    chain = Path(tempfile.gettempdir()) / f"textmill-chain-{recorder.source}"  # one run of the chain, kept for the next call
    os.environ.setdefault("TEXTMILL_TEST_CHAIN", str(chain))
    os.chdir(ROOT)
    code = pytest.main(["-o", "addopts=-v -rs", "-m", "slow and not gpu", "--timeout", str(_LIMIT_S)], plugins=[recorder])
    failed = [name for name in recorder.names if recorder.rows.get(name, {}).get("result") not in ("passed", "skipped")]
    print(f"{len(recorder.names) - len(failed)} passed, {len(failed)} failed")
    return 1 if failed or not recorder.names or code not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED) else 0


class Recorder:
    """Leaves out the tests that are green on this source, and notes how each other one ends."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.names: list[str] = []
        self.rows: dict[str, Row] = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
        self._running: Row = {}
        self._commit = _git("rev-parse", "--short", "HEAD").strip()

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Keeps the tests that wait; rows of tests that are no more go."""
        self.names = [item.nodeid for item in items]
        done = [item for item in items if self._is_green(item.nodeid)]
        config.hook.pytest_deselected(items=done)
        items[:] = [item for item in items if item not in done]

    def _is_green(self, name: str) -> bool:
        row = self.rows.get(name, {})
        return row.get("source") == self.source and row["result"] != "failed"

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Adds up a test's three phases; the last one writes its row."""
        if report.when == "setup":
            self._running = {"result": "passed", "note": "", "seconds": 0.0}
        self._running["seconds"] = round(self._running["seconds"] + report.duration, 1)
        if not report.passed:
            last_line = str(report.longrepr).strip().splitlines()[-1]
            self._running |= {"result": report.outcome, "note": _FOLDERS.sub("", last_line)}
        if report.when == "teardown":
            date = datetime.now(UTC).isoformat(timespec="seconds")
            self.rows[report.nodeid] = self._running | {"commit": self._commit, "date": date, "source": self.source}
            self._write()

    def _write(self) -> None:
        is_whole = "PYTEST_ADDOPTS" not in os.environ  # a part says nothing of the other tests' rows
        rows = {name: row for name, row in self.rows.items() if name in self.names or not is_whole}
        RESULTS.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def source_digest() -> str:
    """Returns the digest of every tracked file that can change a result; no test reads the benches."""
    digest = hashlib.sha256()
    for name in sorted(_git("ls-files", ":!tests/bench").splitlines()):
        if name.endswith(_SUFFIXES) and (ROOT / name).is_file():
            digest.update(name.encode() + (ROOT / name).read_bytes())
    return digest.hexdigest()[:16]


def _git(*words: str) -> str:
    return subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    sys.exit(main())
