"""`textmill inspect`: a sample of what each rule of cleaning dropped, and of what was masked, to judge the rules by.

In: a preset whose corpus was cleaned, or the artifact. Out: for each reason its share and some of its texts, cut; for each
kind of personal data some of its places. Invariant: read only; the sample depends on the seed and the documents alone.
"""

import heapq
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from flows.inspect import find_artifact
from flows.plan import found_artifacts, require_stage
from flows.presets import load_recipe
from tasks.cleaning.pii import MARKS
from tasks.contracts import FilteredCorpus
from tasks.core.errors import RecipeError
from tasks.core.site import current_site
from tasks.core.store import Store
from tasks.core.tables import Row, read_rows
from tasks.core.text import one_line

_TEXT_CHARS = 300
_AROUND_CHARS = 60
_ADDRESS = re.compile(r"[\w-]+/[0-9a-f]+|[0-9a-f]{6,}")
_ANY_MARK = re.compile("|".join(map(re.escape, MARKS)))


def show_dropped(name: str, overrides: Sequence[str], reason: str | None, count: int, seed: int) -> None:
    """Prints a sample of `count` documents for each reason, and of `count` places for each kind of personal data.

    Raises:
        RecipeError: Nothing was cleaned under this name, or no document was dropped for such a reason.
    """
    corpus, console = cleaned_corpus(name, overrides), Console()
    wanted = _wanted(corpus, reason)
    console.print(f"{corpus.address}: {corpus.summary()}", highlight=False, markup=False)
    for one, rows in sample(_dropped(corpus, wanted), count, seed).items():
        lost = corpus.drops_by_reason[one]
        console.print(_table(f"{one}: {lost:,} dropped, {lost / corpus.num_documents_in:.2%} of all", rows))
    if reason is None:
        for mark, rows in sample(_masked(corpus), count, seed).items():
            counts = ", ".join(f"{corpus.masked.get(kind, 0):,} {kind}" for kind in MARKS[mark])
            console.print(_table(f"masked as {mark} in kept documents: {counts}", rows))


def cleaned_corpus(name: str, overrides: Sequence[str] = ()) -> FilteredCorpus:
    """Returns the filtered corpus that `name` (a preset, a TOML file, or an artifact) means.

    Raises:
        RecipeError: There is none.
    """
    site = current_site()
    if _ADDRESS.fullmatch(name):
        store = Store(site.store_dir)
        folder, manifest = find_artifact(store, name)
        if manifest.kind != FilteredCorpus.kind():
            raise RecipeError(f"{name!r} is a {manifest.kind}; inspect wants what `clean` makes: {FilteredCorpus.kind()}/...")
        return store.load(FilteredCorpus, folder)
    recipe = load_recipe(name, overrides)
    require_stage(recipe, "clean")
    found = found_artifacts(recipe, site, "clean").get("clean")
    if not isinstance(found, FilteredCorpus):
        raise RecipeError(f"{name!r} is not cleaned yet; run first: textmill run {name} --until clean")
    return found


def _wanted(corpus: FilteredCorpus, reason: str | None) -> set[str]:
    reasons = {one for one in corpus.drops_by_reason if reason is None or one == reason or one.partition(":")[0] == reason}
    if reason is not None and not reasons:
        raise RecipeError(f"nothing was dropped for {reason!r}; the reasons are: {', '.join(corpus.drops_by_reason) or 'none'}")
    return reasons


def _dropped(corpus: FilteredCorpus, reasons: set[str]) -> Iterator[tuple[str, Row]]:
    return ((row["reason"], row) for row in read_rows(corpus.path / "dropped") if row["reason"] in reasons)


def _masked(corpus: FilteredCorpus) -> Iterator[tuple[str, Row]]:
    """Yields each place where personal data was, with the text around it; marks that the text had itself are among them."""
    for row in read_rows(corpus.path / "documents", ["id", "source", "text"]):
        for found in _ANY_MARK.finditer(row["text"]):
            around = row["text"][max(0, found.start() - _AROUND_CHARS) : found.end() + _AROUND_CHARS]
            yield found.group(), row | {"id": f"{row['id']}@{found.start()}", "text": around}


def sample(rows: Iterable[tuple[str, Row]], count: int, seed: int) -> dict[str, list[Row]]:
    """Returns up to `count` rows of each group, drawn by a hash of seed and id; the most frequent group first."""
    best: dict[str, list[tuple[int, str, Row]]] = defaultdict(list)
    sizes: Counter[str] = Counter()
    for group, row in rows:
        sizes[group] += 1
        number = int.from_bytes(sha256(f"{seed}/{row['id']}".encode()).digest()[:8], "big")
        push = heapq.heappush if len(best[group]) < count else heapq.heappushpop
        push(best[group], (-number, row["id"], row))
    return {group: [row for _, _, row in sorted(best[group], reverse=True)] for group, _ in sizes.most_common()}


def _table(title: str, rows: Sequence[Row]) -> Table:
    table = Table(title=escape(title), title_justify="left", show_lines=True)
    table.add_column("source")
    table.add_column("document", overflow="fold", max_width=30)
    table.add_column("text", overflow="fold")
    for row in rows:
        table.add_row(*(escape(one_line(row[name], _TEXT_CHARS)) for name in ("source", "id", "text")))
    return table
