"""Dedup: one document of each cluster of copies is kept; the corpus is split by cluster.

In: `FilteredCorpus`. Out: `CleanCorpus`. Invariants: the longest document of a cluster is kept, among equals the one whose
id comes first; in = kept + removed, counted from the rows written; a cluster lies in one split; the order of the input and the
number of workers change no byte.
"""

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from tasks.cleaning.clusters import join_similar
from tasks.cleaning.ordered import chunks_of, rows_in_order
from tasks.cleaning.repeated import LineFilter, RepeatedLines, find_repeated, line_filter
from tasks.cleaning.sketches import Document, NearDuplicates, Sketches, read_sketches, sketch
from tasks.cleaning.splits import assign_splits
from tasks.contracts import SPLITS, CleanCorpus, FilteredCorpus, Split
from tasks.core.artifact import Spec
from tasks.core.errors import ContractError
from tasks.core.stage import DISK, StageContext, stage
from tasks.core.tables import TableWriter
from tasks.core.text import text_safe
from tasks.core.union_find import UnionFind
from tasks.core.workers import workers_for

DOCUMENTS = dict.fromkeys(("id", "source", "licence", "lang", "text", "cluster", "split"), "string")
REMOVED = dict.fromkeys(("id", "source", "reason", "cluster", "kept_id"), "string")

_WORK = "work"
_READ = dict.fromkeys(("id", "source", "licence", "lang", "text"), "string")
_EXAMPLES = 20
_EXAMPLE_MEMBERS = 4
_EXAMPLE_CHARS = 300


class DedupSpec(Spec):
    """How duplicates are removed and the corpus is split."""

    near: Annotated[NearDuplicates | None, Field(description="Near-duplicates; off: exact ones only.")] = NearDuplicates()
    repeated_lines: Annotated[
        RepeatedLines | None, Field(description="Lines of many documents of a source are taken out first; off: none.")
    ] = None
    validation_share: Annotated[float, Field(gt=0, lt=0.5, description="Share of clusters that training is watched on.")] = 0.02
    test_share: Annotated[float, Field(gt=0, lt=0.5, description="Share of clusters that select nothing and only judge.")] = 0.02
    seed: Annotated[int, Field(ge=0, description="Seed of the split.")] = 0


@stage(version=5, name="dedup", retry=DISK, packages=("rensa", "numpy", "pyarrow"))
def dedup(spec: DedupSpec, corpus: FilteredCorpus, *, ctx: StageContext) -> CleanCorpus:
    """Removes exact and near duplicates and assigns the splits.

    Raises:
        ContractError: Too few documents are left for three splits.
    """
    work = ctx.dir / _WORK
    work.mkdir(exist_ok=True)
    workers = workers_for(corpus.num_bytes, ctx.site.data_workers)
    if spec.repeated_lines is not None:
        for done, total in find_repeated(corpus.path / "documents", spec.repeated_lines, work, workers):
            ctx.progress(done, total, "pieces counted")
    for done, total in sketch(corpus.path / "documents", spec.near, spec.repeated_lines, work, workers):
        ctx.progress(done, total, "pieces")
    found = read_sketches(corpus.path / "documents", spec.near, work)
    documents, leaders = found.documents, _clusters(found, spec.near, ctx)
    kept = _survivors(documents, leaders)
    splits = assign_splits(
        ((documents[leaders[number]].id, documents[number].lang) for number in kept.values()),
        spec.validation_share,
        spec.test_share,
        spec.seed,
    )
    _require_splits(spec, splits)
    lines = line_filter(spec.repeated_lines, work)
    facts = _write(corpus, ctx.dir, documents, leaders, kept, splits, lines)
    del found  # it maps files of the work folder
    shutil.rmtree(work)
    return ctx.commit(CleanCorpus, **facts)


def _clusters(found: Sketches, near: NearDuplicates | None, ctx: StageContext) -> list[int]:
    """Returns for each document the first one of its cluster."""
    sets = UnionFind(len(found.documents))
    first_with: dict[bytes, int] = {}
    for number, document in enumerate(found.documents):
        sets.join(first_with.setdefault(document.text_digest, number), number)
    if near is not None and found.sets is not None:
        num_left = join_similar(sets, found.keys, found.sets.__getitem__, near.threshold)
        if num_left:
            ctx.log.warning(
                "%d times a document had more candidates than are compared, as pages of one template have: near copies far apart "
                "may be left; take the template out first (dedup.repeated_lines)",
                num_left,
            )
    return [sets.find(number) for number in range(len(found.documents))]


def _survivors(documents: list[Document], leaders: list[int]) -> dict[int, int]:
    """Returns the document that is kept of each cluster: the longest, then the first."""
    kept: dict[int, int] = {}
    for number, leader in enumerate(leaders):
        best = kept.setdefault(leader, number)
        if documents[number].num_chars > documents[best].num_chars:
            kept[leader] = number
    return kept


def _require_splits(spec: DedupSpec, splits: dict[str, Split]) -> None:
    counts = Counter(splits.values())
    if all(counts[split] for split in SPLITS):
        return
    raise ContractError(
        f"{len(splits)} documents are left after dedup, split as {dict(counts)}: training, validation and test need one each. "
        "Add documents, or let more of them through (see drops_by_reason of the clean stage)"
    )


def _write(
    corpus: FilteredCorpus,
    folder: Path,
    documents: list[Document],
    leaders: list[int],
    kept: dict[int, int],
    splits: dict[str, Split],
    lines: LineFilter,
) -> dict[str, Any]:
    numbers = {document.id: number for number, document in enumerate(documents)}
    examples = _Examples(leaders)
    removed_by, by_split, by_language, by_source = Counter[str](), Counter[str](), Counter[str](), Counter[str]()
    num_bytes = 0
    with TableWriter(folder / "documents", DOCUMENTS) as kept_rows, TableWriter(folder / "removed.parquet", REMOVED) as removed:
        chunks = chunks_of([document.num_chars for document in documents])
        for row in rows_in_order(corpus.path / "documents", _READ, numbers, chunks, folder / _WORK):
            number = numbers[row["id"]]
            row["text"] = lines(row["source"], row["text"])
            survivor, cluster = kept[leaders[number]], documents[leaders[number]].id
            examples.offer(number, row["text"], number == survivor, row["id"])
            if number == survivor:
                kept_rows.write(row | {"cluster": cluster, "split": splits[cluster]})
                by_split[splits[cluster]] += 1
                by_language[row["lang"]] += 1
                by_source[row["source"]] += 1
                num_bytes += len(row["text"].encode("utf-8"))
            else:
                reason = "exact" if documents[number].text_digest == documents[survivor].text_digest else "near"
                removed.write(
                    {"id": row["id"], "source": row["source"], "reason": reason, "cluster": cluster}
                    | {"kept_id": documents[survivor].id}
                )
                removed_by[reason] += 1
    (folder / "clusters.json").write_text(examples.json(), encoding="utf-8")
    (folder / "repeated_lines.json").write_text(json.dumps(lines.examples(), ensure_ascii=False, indent=1), encoding="utf-8")
    return {
        "num_documents_in": kept_rows.num_rows + removed.num_rows,
        "num_documents": kept_rows.num_rows,
        "num_bytes": num_bytes,
        "removed_by_reason": dict(sorted(removed_by.items())),
        "repeated_lines": dict(sorted(lines.taken.items())),
        "documents_by_split": {split: by_split[split] for split in SPLITS},
        "documents_by_language": dict(sorted(by_language.items())),
        "documents_by_source": dict(sorted(by_source.items())),
    }


class _Examples:
    """Collects the texts of the largest clusters, cut, for people to read."""

    def __init__(self, leaders: list[int]) -> None:
        sizes = Counter(leaders)
        largest = sorted((leader for leader, size in sizes.items() if size > 1), key=lambda leader: (-sizes[leader], leader))
        self._leaders = leaders
        self._sizes = sizes
        self._members: dict[int, list[dict[str, Any]]] = {leader: [] for leader in largest[:_EXAMPLES]}

    def offer(self, number: int, text: str, is_kept: bool, id: str) -> None:
        members = self._members.get(self._leaders[number])
        if members is not None and (is_kept or len(members) < _EXAMPLE_MEMBERS):
            members.append({"id": id, "kept": is_kept, "text": text_safe(text, _EXAMPLE_CHARS)})

    def json(self) -> str:
        shown = [{"size": self._sizes[leader], "members": members} for leader, members in self._members.items()]
        return json.dumps(shown, ensure_ascii=False, indent=1)
