"""Decontaminate: documents that hold held-out evaluation items are dropped or marked, each with its evidence.

In: `CleanCorpus` and `Conversations` (their test split), further reference files. Out: `CleanCorpus` with
`contamination.parquet` (a row for each document and item found in it). Invariants: in = kept + removed + contaminated, counted
from the rows written; a reference that is empty, or of which nothing can be found, is an error; the number of workers changes no
byte.
"""

import json
import shutil
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import Field

from tasks.cleaning.deduplication import DOCUMENTS
from tasks.cleaning.references import ReferenceSet, read_references
from tasks.contracts import SPLITS, CleanCorpus, Conversations
from tasks.core.artifact import Spec
from tasks.core.errors import ContractError
from tasks.core.overlap import OverlapRules, Reference, ReferenceItem
from tasks.core.site import Site
from tasks.core.stage import DISK, StageContext, stage
from tasks.core.tables import Row, TableWriter, read_group, read_rows, row_groups, write_table
from tasks.core.workers import run_jobs, workers_for

CONTAMINATION = dict.fromkeys(("id", "source", "split", "item", "reason", "excerpt"), "string") | {"num_ngrams": "int64"}
MARKED = DOCUMENTS | {"contamination": "string"}

_WORK = "work"
_ITEMS = "items.jsonl"
_SHOWN = 50
_UNREACHABLE = (
    "they are shorter than a run and have no answer that is long enough, or all they say is template; lower words_per_ngram, "
    "chars_per_ngram or min_answer_units, or raise max_items_per_ngram, under decontaminate.overlap"
)


class DecontaminateSpec(Spec):
    """How held-out evaluation items are kept out of the corpus."""

    action: Annotated[
        Literal["drop", "mark"],
        Field(description="A document that holds an item is dropped, or kept and marked in a column of its own."),
    ]
    overlap: Annotated[OverlapRules, Field(description="What counts as holding an item.")] = OverlapRules()
    references: Annotated[
        tuple[ReferenceSet, ...], Field(description="Texts to keep out beside the held-out conversations, e.g. benchmarks.")
    ] = ()

    def pinned(self, site: Site) -> Self:
        """Fills in what the files' bytes are."""
        return self.model_copy(update={"references": tuple(one.pinned(site) for one in self.references)})

    def identity(self) -> dict[str, Any]:
        """Returns contents and settings; never where files lie."""
        return self.model_dump(mode="json") | {"references": [one.identity() for one in self.references]}


class _Piece(NamedTuple):
    """One row group to search; its results carry its number."""

    number: int
    path: Path
    group: int
    work: Path
    rules: OverlapRules

    @property
    def found(self) -> Path:
        return self.work / f"{self.number:06d}.parquet"


@stage(version=4, retry=DISK, packages=("numpy", "pyarrow"))
def decontaminate(
    spec: DecontaminateSpec, corpus: CleanCorpus, conversations: Conversations, *, ctx: StageContext
) -> CleanCorpus:
    """Looks for every held-out item in every document.

    Raises:
        ContractError: No held-out item, or none of a reference set, can be found, or a split has no document left.
    """
    work = ctx.dir / _WORK
    work.mkdir(exist_ok=True)
    items = read_references(conversations, spec.references, ctx.site)
    reference = Reference(items, spec.overlap)
    _require_reachable(reference, items, {one.name for one in spec.references}, ctx)
    (work / _ITEMS).write_text("".join(json.dumps(asdict(item)) + "\n" for item in items), encoding="utf-8")
    groups = row_groups(corpus.path / "documents")
    pieces = [_Piece(number, path, group, work, spec.overlap) for number, (path, group) in enumerate(groups)]
    waiting = [piece for piece in pieces if not piece.found.exists()]
    for done in run_jobs(search_piece, waiting, workers_for(corpus.num_bytes, ctx.site.data_workers)):
        ctx.progress(len(pieces) - len(waiting) + done, len(pieces), "pieces")
    found = [row for piece in pieces for row in read_rows(piece.found)]
    facts = _write(spec, corpus, found, ctx.dir)
    _report(reference, items, found, ctx)
    shutil.rmtree(work)
    return ctx.commit(CleanCorpus, **facts, num_heldout_items=len(items) - len(reference.unreachable))


def _require_reachable(
    reference: Reference, items: Sequence[ReferenceItem], required: Collection[str], ctx: StageContext
) -> None:
    """Refuses a reference set of which nothing can be found, since it would look like a clean corpus.

    Held-out conversations may be as short as they like, as long as anything at all is looked for.
    """
    if len(reference.unreachable) == len(items):
        raise ContractError(f"none of {len(items)} held-out items can be found; {_UNREACHABLE}")
    reachable = {item.source for number, item in enumerate(items) if number not in reference.unreachable}
    for source, count in Counter(item.source for item in items if item.source not in reachable).items():
        found = f"none of the {count} items of {source} can be found; {_UNREACHABLE}"
        if source in required:
            raise ContractError(found)
        ctx.log.warning(found)


def search_piece(piece: _Piece) -> None:
    """Searches one row group and writes a row for each document and item found in it; the table says that it is done."""
    items, reference = _loaded(piece.work / _ITEMS, piece.rules)
    rows = read_group(piece.path, piece.group, ["id", "source", "split", "text"])
    beside = piece.found.with_name(f"part-{piece.found.name}")
    write_table(beside, CONTAMINATION, _matches(items, reference, rows))
    beside.replace(piece.found)


@lru_cache(maxsize=1)
def _loaded(path: Path, rules: OverlapRules) -> tuple[list[ReferenceItem], Reference]:
    """Reads the items once a process."""
    with path.open(encoding="utf-8") as file:
        items = [ReferenceItem(row["id"], row["source"], tuple(row["texts"]), row["answer"]) for row in map(json.loads, file)]
    return items, Reference(items, rules)


def _matches(items: Sequence[ReferenceItem], reference: Reference, rows: Sequence[Row]) -> Iterator[Row]:
    for match in reference.matches([row["text"] for row in rows]):
        row = {name: rows[match.text][name] for name in ("id", "source", "split")}
        yield (
            row
            | {"item": items[match.item].id, "reason": match.reason, "excerpt": match.excerpt}
            | {"num_ngrams": match.num_ngrams}
        )


def reasons_of(found: Sequence[Row]) -> dict[str, str]:
    """Returns why each document is contaminated: an answer word for word counts before n-grams."""
    reasons: dict[str, str] = {}
    for row in found:
        if reasons.get(row["id"]) != "answer":
            reasons[row["id"]] = row["reason"]
    return reasons


def _write(spec: DecontaminateSpec, corpus: CleanCorpus, found: Sequence[Row], folder: Path) -> dict[str, Any]:
    """Writes the documents that stay and the evidence, and counts what is written."""
    reasons = reasons_of(found)
    dropped, marked = Counter[str](), Counter[str]()
    by_split, by_language, by_source = Counter[str](), Counter[str](), Counter[str]()
    num_bytes = 0
    with TableWriter(folder / "documents", MARKED if spec.action == "mark" else DOCUMENTS) as kept:
        for row in read_rows(corpus.path / "documents", list(DOCUMENTS)):
            reason = reasons.get(row["id"])
            if reason is not None and spec.action == "drop":
                dropped[reason] += 1
                continue
            if reason is not None:
                marked[reason] += 1
            kept.write(row | {"contamination": reason} if spec.action == "mark" else row)
            by_split[row["split"]] += 1
            by_language[row["lang"]] += 1
            by_source[row["source"]] += 1
            num_bytes += len(row["text"].encode("utf-8"))
    _require_splits(by_split, dropped)
    write_table(folder / "contamination.parquet", CONTAMINATION, found)
    for name in ("removed.parquet", "clusters.json", "repeated_lines.json"):
        shutil.copyfile(corpus.path / name, folder / name)
    return {
        "num_documents_in": corpus.num_documents_in,
        "num_documents": kept.num_rows,
        "num_bytes": num_bytes,
        "removed_by_reason": corpus.removed_by_reason,
        "repeated_lines": corpus.repeated_lines,
        "contaminated_by_reason": dict(sorted((dropped + Counter(corpus.contaminated_by_reason)).items())),
        "marked_by_reason": dict(sorted(marked.items())),
        "documents_by_split": {split: by_split[split] for split in SPLITS},
        "documents_by_language": dict(sorted(by_language.items())),
        "documents_by_source": dict(sorted(by_source.items())),
    }


def _require_splits(by_split: Counter[str], dropped: Counter[str]) -> None:
    if empty := [split for split in SPLITS if not by_split[split]]:
        raise ContractError(
            f"decontamination drops {dropped.total()} documents and leaves none for {' and '.join(empty)}; look at the excerpts "
            'of a run with decontaminate.action = "mark", then raise the lengths under decontaminate.overlap or mend the data'
        )


def _report(reference: Reference, items: Sequence[ReferenceItem], found: Sequence[Row], ctx: StageContext) -> None:
    """Writes the first findings where people look, and says what could not be looked for."""
    rows = [{"name": f"{row['id']} holds {row['item']} ({row['reason']})", "seen": row["excerpt"]} for row in found[:_SHOWN]]
    (ctx.dir / "results.json").write_text(json.dumps(rows, ensure_ascii=False, indent=1), encoding="utf-8")
    ctx.log.info(
        "%d held-out items, %d n-grams looked for; %d items are too short to be found, %d are nothing but template (%d n-grams)",
        len(items),
        reference.num_ngrams,
        reference.num_too_short,
        len(reference.unreachable) - reference.num_too_short,
        reference.num_template_ngrams,
    )
