"""Taking the live version back: the one before it is tried, then made champion and live, and the bad one is marked.

In: a registered name, the version to go back to or none, a reason. Out: the version that is live now. Invariants: the version
gone back to answers before an alias moves; the bad one is marked first, so no run promotes it again while aliases move; a
rollback that was killed is finished by the next one, not repeated upon the good version.
"""

from deploy.aliases import WAS_LIVE
from deploy.audit import note
from deploy.trial import try_out
from tasks.core.errors import ContractError
from tasks.core.site import Site
from tasks.core.tracking import (
    ROLLED_BACK,
    RegisteredVersion,
    delete_alias,
    delete_tag,
    find_version,
    moving_aliases,
    set_alias,
    set_tags,
    versions,
)

_PROMPTS = ("How do I list the files of a directory?", "如何查看当前目录下的文件？")
_MAX_NEW_TOKENS = 24
_BACK_TO = "textmill.rolled_back_to"  # on the bad version: where a killed rollback was going


def rollback(site: Site, name: str, to: int | None = None, reason: str = "") -> RegisteredVersion:
    """Takes the live version of a model back; where none is live, its champion.

    Args:
        site: Where the registry is.
        name: Registered name.
        to: Version to go back to; none: the one that was live before. The live one itself: a champion that never got live is
            taken back.
        reason: Why; written into the audit line and onto the version.

    Raises:
        ContractError: There is nothing to take back, or no version to go back to.
        GateError: The version to go back to does not answer as it should; nothing was changed.
    """
    with moving_aliases(site, name):
        known = {version.version: version for version in versions(site, name)}
        bad = _to_take_back(known, name, to)
        good = _explicit(known, name, to, bad) if to is not None else _before(known, name, bad)
        try_out(site, good, _PROMPTS, _MAX_NEW_TOKENS)
        note(site, "rollback", bad, good, reason)
        set_tags(site, bad, {_BACK_TO: str(good.version), ROLLED_BACK: reason or "no reason given"})
        _move(site, good, _older_live(known, good, bad))
        return find_version(site, name, good.version) or good


def _move(site: Site, good: RegisteredVersion, older: RegisteredVersion | None) -> None:
    """Moves the aliases; until the last one has moved, the bad version is still seen as live or champion."""
    for tag in (ROLLED_BACK, _BACK_TO):
        delete_tag(site, good, tag)
    set_tags(site, good, {WAS_LIVE: "true"})
    if older is not None:
        set_alias(site, older, "previous")
    else:
        delete_alias(site, good.name, "previous")
    set_alias(site, good, "champion")
    set_alias(site, good, "live")


def _with_alias(known: dict[int, RegisteredVersion], alias: str) -> RegisteredVersion | None:
    return next((version for version in known.values() if alias in version.aliases), None)


def _to_take_back(known: dict[int, RegisteredVersion], name: str, to: int | None) -> RegisteredVersion:
    """Returns what a killed rollback marked, else the live version; the champion where none is live or that is gone back to."""
    live, champion = _with_alias(known, "live"), _with_alias(known, "champion")
    left = next((version for version in (live, champion) if version is not None and version.rolled_back is not None), None)
    if left is not None and to is None:
        return left
    bad = (champion or live) if live is None or to == live.version else live
    if bad is None:
        raise ContractError(f"{name} has neither a live version nor a champion: there is nothing to take back")
    return bad


def _explicit(known: dict[int, RegisteredVersion], name: str, to: int, bad: RegisteredVersion) -> RegisteredVersion:
    if to not in known:
        raise ContractError(f"{name} has no version {to}; it has {sorted(known)}")
    if to == bad.version:
        raise ContractError(f"version {to} is the one to take back: choose another of {sorted(set(known) - {to})}")
    return known[to]


def _before(known: dict[int, RegisteredVersion], name: str, bad: RegisteredVersion) -> RegisteredVersion:
    """Returns where a killed rollback was going, else the version live before the bad one."""
    if (intended := known.get(int(bad.tags.get(_BACK_TO, 0)))) is not None:
        return intended
    previous = _with_alias(known, "previous")
    if previous is not None and previous != bad and previous.rolled_back is None:
        return previous
    if (older := _older_live(known, bad, bad)) is not None:
        return older
    others = sorted(set(known) - {bad.version})
    remedy = f"name one of {others} with --to" if others else "run the recipe again to make one"
    if (champion := _with_alias(known, "champion")) not in (None, bad):
        remedy += f"; --to {bad.version} takes {champion} back, which is champion and never was live"
    raise ContractError(f"there is no earlier version of {name} that was live and not taken back; {remedy}")


def _older_live(known: dict[int, RegisteredVersion], good: RegisteredVersion, bad: RegisteredVersion) -> RegisteredVersion | None:
    """Returns the newest other version that was live and was not taken back."""
    others = [
        version
        for version in known.values()
        if WAS_LIVE in version.tags and version.rolled_back is None and version.version not in (good.version, bad.version)
    ]
    return max(others, key=lambda version: version.version, default=None)
