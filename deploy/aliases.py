"""The order in which aliases move, so that a kill at any point leaves something that can be gone on from.

In: a version that was tried. Out: `live` at it, `previous` at the one before. Invariants: `live` moves in one step and last, and
only to the champion; one process at a time moves the aliases of a name.
"""

from deploy.audit import note
from tasks.core.errors import GateError
from tasks.core.site import Site
from tasks.core.tracking import RegisteredVersion, find_alias, find_version, moving_aliases, set_alias, set_tags

WAS_LIVE = "textmill.was_live"


def make_live(site: Site, version: RegisteredVersion, reason: str, **details: str | None) -> None:
    """Makes a version live and remembers the one before; nothing to change is no change.

    Raises:
        GateError: The version was taken back meanwhile, or another one became champion.
    """
    with moving_aliases(site, version.name):
        now = find_version(site, version.name, version.version)
        if now is None or now.rolled_back is not None:
            raise GateError(f"{version} was taken back while it was tried; what was live stays live")
        if "champion" not in now.aliases:
            raise GateError(
                f"{version} is not the champion any more: another version became champion while it was tried; what was live "
                "stays live. Run its recipe again: it is judged against the new champion"
            )
        old = find_alias(site, version.name, "live")
        if old is not None and old.version == version.version:
            return
        note(site, "deploy", old, version, reason, **details)
        if old is not None:
            set_alias(site, old, "previous")
        set_tags(site, version, {WAS_LIVE: "true"})
        set_alias(site, version, "live")
