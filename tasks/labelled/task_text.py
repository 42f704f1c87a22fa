"""Task text: text of the kind that is to be labelled, without labels, to pretrain on further and to be labelled by a first model.

In: sets of rows, and the `Labelled` whose held-out inputs must stay unseen. Out: `CleanCorpus`, a document a text. Invariants:
each row seen is a document or is counted under a reason; no validation or test input, alone or as part of a pair, is among them.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Annotated, Any, ClassVar

from pydantic import Field

from tasks.contracts import SPLITS, CleanCorpus, Labelled
from tasks.core.errors import ContractError
from tasks.core.rows import OfSets, Refused, RowSet, read_set
from tasks.core.splits import split_groups
from tasks.core.stage import DISK, StageContext, stage
from tasks.core.tables import Row, read_rows, write_table
from tasks.labelled.forms import input_key, text_of

_DOCUMENTS = dict.fromkeys(("id", "source", "licence", "lang", "text", "cluster", "split"), "string")


class TextSet(RowSet):
    """Rows with a text, whatever else they hold."""

    text_column: Annotated[str, Field(min_length=1, description="Column of the text.")] = "text"
    lang: Annotated[str, Field(pattern=r"^[a-z]{2,3}$", description="Language of the texts, for figures by language.")] = "und"


class TaskTextSpec(OfSets):
    """Unlabelled text of the task."""

    parts: ClassVar[tuple[str, ...]] = ("sets",)

    sets: Annotated[tuple[TextSet, ...], Field(min_length=1, description="Sets of unlabelled text.")]
    validation_share: Annotated[float, Field(gt=0, le=0.5, description="Share that further pretraining looks at.")] = 0.05
    max_chars: Annotated[int, Field(ge=1, description="Longest text in characters; longer ones are left out and counted.")] = (
        20_000
    )
    seed: Annotated[int, Field(ge=0, description="Seed of the split.")] = 0


@stage(version=2, name="task_text", retry=DISK, packages=("pyarrow",))
def read_task_text(spec: TaskTextSpec, labelled: Labelled, *, ctx: StageContext) -> CleanCorpus:
    """Reads the sets, and leaves out what is held out, repeated or unusable.

    Raises:
        ContractError: Fewer than two texts are left.
    """
    reader = _Reader(spec, _held_out(labelled))
    found, dropped = list(reader.texts()), reader.dropped
    spec.require_unchanged(ctx.site)
    if len(found) < 2:
        raise ContractError(
            f"{len(found)} texts are left of the task text ({dict(dropped)}); name more sets, or mend text_column"
        )
    splits = split_groups(Counter(row["cluster"] for row in found), [("validation", spec.validation_share)], "train", spec.seed)
    rows = [row | {"split": splits[row["cluster"]]} for row in found]
    (ctx.dir / "documents").mkdir(exist_ok=True)
    write_table(ctx.dir / "documents" / "00000.parquet", _DOCUMENTS, rows)
    num_held_out = dropped.pop("held_out", 0)
    by_split = Counter(row["split"] for row in rows)
    return ctx.commit(
        CleanCorpus,
        num_documents_in=reader.num_seen,
        num_documents=len(rows),
        num_bytes=sum(len(row["text"].encode("utf-8")) for row in rows),
        removed_by_reason=dict(dropped),
        contaminated_by_reason={"held_out_input": num_held_out} if num_held_out else {},
        num_heldout_items=len(reader.held_out),
        documents_by_split={split: by_split[split] for split in SPLITS},
        documents_by_language=dict(Counter(row["lang"] for row in rows)),
        documents_by_source=dict(Counter(row["source"] for row in rows)),
    )


def _held_out(labelled: Labelled) -> set[str]:
    """Returns the texts of the validation and test items, as they are compared."""
    rows = read_rows(labelled.path / "items.parquet", ("split", "text", "text_pair"))
    texts = (text for row in rows if row["split"] != "train" for text in (row["text"], row["text_pair"]))
    return {input_key(text, None) for text in texts if text is not None}


class _Reader:
    """Reads texts, and counts what it leaves out and why."""

    def __init__(self, spec: TaskTextSpec, held_out: set[str]) -> None:
        self.num_seen = 0
        self.dropped: Counter[str] = Counter()
        self.held_out = held_out
        self._spec = spec
        self._known: set[str] = set()

    def texts(self) -> Iterator[Row]:
        """Yields the texts of the sets that are kept."""
        for one in self._spec.sets:
            for number, row in enumerate(read_set(one, [one.text_column]), 1):
                self.num_seen += 1
                try:
                    yield self._document(row, number, one)
                except Refused as reason:
                    self.dropped[str(reason)] += 1

    def _document(self, row: Any, number: int, one: TextSet) -> Row:
        text = text_of(row, one.text_column)
        key = input_key(text, None)
        if len(text) > self._spec.max_chars:
            raise Refused("too_long")
        if key in self.held_out:
            raise Refused("held_out")
        if key in self._known:
            raise Refused("duplicate")
        self._known.add(key)
        about = {"id": f"{one.name}/{number}", "source": one.name, "licence": one.licence, "lang": one.lang}
        return about | {"text": text, "cluster": key[:16]}
