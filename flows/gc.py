"""`textmill gc`: removes artifacts nothing refers to.

In: the store and the registry's aliases. Out: space. Invariant: what an alias points at, what a kept artifact was made
from, and the newest result of each recipe are never removed; where the registry does not answer, or a run may work, nothing
is; unfinished work, from which a run would go on, goes only where that is asked for.
"""

import json
import os
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from rich.console import Console

from flows.inspect import made_at, num_bytes
from tasks.core.errors import RecipeError, TransientError
from tasks.core.site import Site, current_site
from tasks.core.store import Manifest, Store, process_alive
from tasks.core.tracking import aliased_digests


def collect(dry_run: bool, keep_last: int, with_unfinished: bool) -> None:
    """Removes, or only names, what can go.

    Raises:
        RecipeError: A run works on this state folder, or may do so, and more is asked than names.
    """
    site, console = current_site(), Console()
    if not dry_run:
        require_no_run(site)
    store, going = Store(site.store_dir), unreferenced(site, keep_last)
    verb = "would remove" if dry_run else "removed"
    for folder, manifest in going:
        console.print(f"{verb} {manifest.address}  {num_bytes(manifest):,} bytes", highlight=False)
        if not dry_run:
            store.retire(folder)
    total = sum(num_bytes(manifest) for _, manifest in going)
    console.print(f"{len(going)} artifacts, {total / 1e6:,.1f} MB", highlight=False)
    _discard(console, store, store.remains(), f"{verb} remains of", dry_run)
    if with_unfinished:
        _discard(console, store, store.partials(), f"{verb} unfinished", dry_run)
    elif unfinished := store.partials():
        _discard(console, store, unfinished, "kept unfinished", only_named=True)
        console.print("runs go on from what is unfinished; `textmill gc --unfinished` removes it", highlight=False)


def _discard(console: Console, store: Store, folders: Sequence[Path], told: str, only_named: bool) -> None:
    """Removes, or only names, folders that are no artifacts; those that a process works in stay."""
    for folder in folders:
        size = _size(folder)
        try:
            if not only_named:
                store.discard(folder)
        except TransientError as error:
            console.print(f"kept: {error}", highlight=False)
            continue
        console.print(f"{told} {folder.parent.name}/{folder.stem}  {size:,} bytes", highlight=False)


def _size(folder: Path) -> int:
    """Returns the bytes of the files of a folder, in which a run may work."""
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):
                total += Path(root, name).lstat().st_size
    return total


def require_no_run(site: Site) -> None:
    """Insists that no process runs a recipe: what a run reads, or has just made, nothing may refer to yet.

    Raises:
        RecipeError: One does, or is another host's, of which that cannot be known.
    """
    for path in sorted((site.root / "runs").glob("*.json")):
        try:
            owner = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            continue  # it has just ended
        if (alive := process_alive(owner)) is False:
            continue
        where = "" if alive else f" on host {owner.get('host')}; if it is gone, remove {path}"
        raise RecipeError(
            f"run {path.stem} (process {owner['pid']}{where}) works on {site.root} and uses what nothing refers to yet; run "
            "`textmill gc` again when it has ended, or end it. `textmill gc --dry-run` says meanwhile what could go."
        )


def unreferenced(site: Site, keep_last: int) -> list[tuple[Path, Manifest]]:
    """Returns the artifacts that nothing kept refers to."""
    everything = list(Store(site.store_dir).manifests())
    manifests = {manifest.address: manifest for _, manifest in everything}
    kept = reachable(manifests, roots(manifests, keep_last, aliased_digests(site)))
    return [(folder, manifest) for folder, manifest in everything if manifest.address not in kept]


def roots(manifests: dict[str, Manifest], keep_last: int, aliased: set[str]) -> set[str]:
    """Returns what is kept for its own sake: aliased models, and the newest end results of each recipe and stage."""
    used = {entry.address for manifest in manifests.values() for entry in manifest.inputs.values()}
    ends: dict[tuple[str, str], list[Manifest]] = defaultdict(list)
    for manifest in manifests.values():
        if manifest.address not in used:
            ends[manifest.label, manifest.stage].append(manifest)
    newest = {manifest.address for group in ends.values() for manifest in sorted(group, key=made_at, reverse=True)[:keep_last]}
    return newest | {manifest.address for manifest in manifests.values() if manifest.digest in aliased}


def reachable(manifests: dict[str, Manifest], start: set[str]) -> set[str]:
    """Returns `start` and everything it was made from."""
    found: set[str] = set()
    waiting = list(start)
    while waiting:
        address = waiting.pop()
        if address not in found:
            found.add(address)
            if address in manifests:
                waiting += [entry.address for entry in manifests[address].inputs.values()]
    return found
