"""`textmill ls` and `textmill show`: what is in the store, and where it came from.

In: the store. Out: tables. Invariant: read only, and works with no server running.
"""

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.tree import Tree

from flows.display import facts_table, print_whole
from flows.runner import flat_params
from tasks.core.errors import RecipeError
from tasks.core.site import current_site
from tasks.core.store import Manifest, Store
from tasks.core.text import one_line


def show_artifacts(kind: str | None) -> None:
    """Prints the artifacts of the store, oldest first."""
    site = current_site()
    found = [manifest for _, manifest in Store(site.store_dir).manifests() if kind in (None, manifest.kind)]
    table = Table()
    for column in ("artifact", "recipe", "stage", "made", "size", "digest"):
        table.add_column(column)
    for manifest in sorted(found, key=made_at):
        table.add_row(
            manifest.address, manifest.label, manifest.stage, made_at(manifest), _size(num_bytes(manifest)), manifest.digest[:12]
        )
    console = Console()
    if found:
        print_whole(console, table)
    else:
        console.print(f"no artifacts in {site.store_dir}; `textmill run demo` makes some")
    unfinished = Store(site.store_dir).partials()
    if unfinished:
        console.print(f"{len(unfinished)} unfinished, resumed by the next run that needs them", highlight=False)


def made_at(manifest: Manifest) -> str:
    """Returns when an artifact was committed, in UTC."""
    return str(manifest.provenance.get("ended", ""))[:19]


def num_bytes(manifest: Manifest) -> int:
    """Returns the size of an artifact's files."""
    return sum(entry.num_bytes for entry in manifest.files.values())


def _size(count: int) -> str:
    return f"{count / 1e6:,.1f} MB" if count >= 1e5 else f"{count / 1e3:,.1f} kB"


def find_artifact(store: Store, name: str) -> tuple[Path, Manifest]:
    """Returns the artifact that `name` (kind/fingerprint, or the start of a fingerprint) means.

    Raises:
        RecipeError: None or several are meant.
    """
    found = [item for item in store.manifests() if item[1].address.startswith(name) or item[1].fingerprint.startswith(name)]
    exact = [item for item in found if item[1].address == name]
    if len(exact or found) == 1:
        return (exact or found)[0]
    if not found:
        raise RecipeError(f"no artifact {name!r} in {store.root}; `textmill ls` lists them")
    names = ", ".join(manifest.address for _, manifest in found[:8])
    raise RecipeError(f"{name!r} means {len(found)} artifacts ({names}{', ...' if len(found) > 8 else ''}); give more of it")


def show_artifact(name: str) -> None:
    """Prints facts, provenance and lineage of an artifact."""
    store = Store(current_site().store_dir)
    folder, manifest = find_artifact(store, name)
    console = Console()
    about = {"folder": folder, "stage": f"{manifest.stage} (version {manifest.stage_version})", "recipe": manifest.label}
    about |= {"digest": manifest.digest, "fingerprint": manifest.fingerprint}
    about["files"] = f"{len(manifest.files)}, {_size(num_bytes(manifest))}"
    console.print(facts_table(manifest.address, about))
    console.print(facts_table("facts", flat_params(manifest.facts)))
    console.print(facts_table("spec", flat_params(manifest.spec)))
    console.print(facts_table("provenance", flat_params(manifest.provenance)))
    console.print(lineage(store, manifest))


def lineage(store: Store, manifest: Manifest) -> Tree:
    """Returns the tree of what an artifact was made from, back to the raw sources."""
    by_address = {found.address: found for _, found in store.manifests()}
    tree = Tree(f"[bold]{manifest.address}[/]  {manifest.stage}")
    _grow(tree, manifest, by_address, {manifest.address})
    return tree


def _grow(tree: Tree, manifest: Manifest, by_address: dict[str, Manifest], seen: set[str]) -> None:
    for name, entry in manifest.inputs.items():
        source = by_address.get(entry.address)
        gone = "" if source else "  [red]no longer in the store[/]"
        again = "  (above)" if entry.address in seen and source and source.inputs else ""
        branch = tree.add(f"{name}: {entry.address}{again}{gone}")
        if source is not None and not again:
            seen.add(entry.address)
            _grow(branch, source, by_address, seen)
    for line in _sources(manifest.spec):
        tree.add(escape(line))


def _sources(spec: dict[str, Any]) -> list[str]:
    """Returns one line for each raw source, or given model, named in a spec."""
    groups = [spec.get(key) or [] for key in ("sources", "train", "heldout")]
    given = spec.get("source")
    if isinstance(given, dict) and "licence" in given:
        named = given.get("digest") or given.get("sha256") or given.get("revision")
        groups.append([given | {"name": given.get("name") or given["kind"], "digest": named}])
    return [
        one_line(f"source {item.get('name')}: {item.get('licence', 'no licence stated')}, digest {str(item.get('digest'))[:12]}")
        for group in groups
        if isinstance(group, list)
        for item in group
        if isinstance(item, dict)
    ]
