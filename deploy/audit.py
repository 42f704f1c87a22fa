"""Who made which version live, when and why: one line of JSON each, written before the change.

In: a change of what is live. Out: `<state>/audit.jsonl`. Invariant: no change without its line; a line may be there twice where
a kill came between line and change.
"""

import json
import os
import socket
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tasks.core.site import Site
from tasks.core.text import one_line
from tasks.core.tracking import RegisteredVersion
from tasks.core.tracking.send import user_name


def audit_file(site: Site) -> Path:
    """Returns where the lines are."""
    return site.root / "audit.jsonl"


def note(
    site: Site, action: str, old: RegisteredVersion | None, new: RegisteredVersion, reason: str, **details: str | None
) -> None:
    """Appends one line, on disk before this returns."""
    line: dict[str, Any] = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "who": f"{user_name()}@{socket.gethostname()}",
        "action": action,
        "name": new.name,
        "from": old.version if old else None,
        "to": new.version,
        "digest": new.digest,
        "reason": one_line(reason, 500),
    }
    line |= {key: value for key, value in details.items() if value}
    audit_file(site).parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(audit_file(site), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(descriptor, (json.dumps(line, ensure_ascii=False) + "\n").encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
