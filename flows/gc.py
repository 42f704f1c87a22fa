"""`textmill gc`: removes artifacts nothing refers to.

In: the store and the registry's aliases. Out: space. Invariant: what an alias points at, what a kept artifact was made
from, and the newest result of each recipe are never removed; where the registry does not answer, or a run of this host
works, nothing is.
"""

import json
from collections import defaultdict
from pathlib import Path

from rich.console import Console

from flows.inspect import made_at, num_bytes
from tasks.core.errors import RecipeError
from tasks.core.site import Site, current_site
from tasks.core.store import Manifest, Store, process_alive
from tasks.core.tracking import aliased_digests


def collect(dry_run: bool, keep_last: int) -> None:
    """Removes, or only names, what can go.

    Raises:
        RecipeError: A run works on this state folder, and more is asked than names.
    """
    site = current_site()
    going = unreferenced(site, keep_last)
    if not dry_run:
        require_no_run(site)
    console = Console()
    for folder, manifest in going:
        console.print(
            f"{'would remove' if dry_run else 'removed'} {manifest.address}  {num_bytes(manifest):,} bytes", highlight=False
        )
        if not dry_run:
            Store(site.store_dir).retire(folder)
    total = sum(num_bytes(manifest) for _, manifest in going)
    console.print(f"{len(going)} artifacts, {total / 1e6:,.1f} MB", highlight=False)


def require_no_run(site: Site) -> None:
    """Insists that no process of this host runs a recipe: what a run reads, or has just made, nothing may refer to yet.

    Raises:
        RecipeError: One does.
    """
    for path in sorted((site.root / "runs").glob("*.json")):
        try:
            owner = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            continue  # it has just ended
        if process_alive(owner):
            raise RecipeError(
                f"run {path.stem} (process {owner['pid']}) works on {site.root} and uses what nothing refers to yet; run "
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
