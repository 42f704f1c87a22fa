"""`make test-slow`: what is slow and real, one test at a time, resumable, its last result kept beside this file.

In: the tests marked `slow`. Out: `slow_results.json` with a row a test (result, seconds, commit, date). Invariant: a test
that passed on this very source is not run again; a row is written as soon as its test has ended.
"""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).with_name("slow_results.json")
_SUFFIXES = (".py", ".toml", ".yaml", ".lock", ".gz", ".jinja", ".html")
_LIMIT_S = 1_800


def main() -> int:
    """Runs what has not passed yet on this source; returns 0 when every row is green."""
    source, rows = source_digest(), _read()
    tests = _collect()
    for number, name in enumerate(tests, 1):
        row = rows.get(name)
        if row and row["result"] != "failed" and row["source"] == source:
            continue
        print(f"[{number}/{len(tests)}] {name}", flush=True)
        rows[name] = _run(name) | {"source": source}
        print(f"    {rows[name]['result']} in {rows[name]['seconds']} s  {rows[name]['note']}", flush=True)
        _write({test: rows[test] for test in tests if test in rows})
    failed = [name for name in tests if rows[name]["result"] == "failed"]
    print(f"{len(tests) - len(failed)} passed, {len(failed)} failed")
    return 1 if failed else 0


def source_digest() -> str:
    """Returns the digest of every tracked file that can change a result."""
    listed = subprocess.run(["git", "-C", str(ROOT), "ls-files"], capture_output=True, text=True, check=True).stdout
    digest = hashlib.sha256()
    for name in sorted(listed.splitlines()):
        if name.endswith(_SUFFIXES) and (ROOT / name).is_file():
            digest.update(name.encode() + (ROOT / name).read_bytes())
    return digest.hexdigest()[:16]


def _collect() -> list[str]:
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-m", "slow and not gpu"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    tests = [line for line in listed.stdout.splitlines() if "::" in line]
    if not tests:
        raise SystemExit(f"no slow tests were found:\n{listed.stdout[-2_000:]}{listed.stderr[-2_000:]}")
    return tests


def _run(name: str) -> dict[str, Any]:
    start = time.monotonic()
    command = [sys.executable, "-m", "pytest", "-m", "slow", "-q", "-rs", "--timeout", str(_LIMIT_S), name]
    chain = Path(tempfile.gettempdir()) / f"textmill-chain-{source_digest()}"  # one run of the chain for all of them
    environment = os.environ | {"TEXTMILL_TEST_CHAIN": str(chain)}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    lines = done.stdout.strip().splitlines() or [""]
    skipped = next((line for line in lines if line.startswith("SKIPPED")), "")
    result = "failed" if done.returncode else "skipped" if skipped else "passed"
    if result == "failed":
        print(done.stdout[-4_000:] + done.stderr[-2_000:], flush=True)
    return {
        "result": result,
        "note": skipped or (lines[-1] if result == "failed" else ""),
        "seconds": round(time.monotonic() - start, 1),
        "commit": _commit(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _commit() -> str:
    return subprocess.run(["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()


def _read() -> dict[str, dict[str, Any]]:
    return json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}


def _write(rows: dict[str, dict[str, Any]]) -> None:
    RESULTS.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
