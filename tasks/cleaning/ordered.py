"""Ordered: the rows of a table in the order of their ids, whatever order they came in, in bounded memory.

In: a table and the place of each id. Out: its rows by place. Invariant: at most one chunk of text is in memory; a larger table is
first parted into chunks on disk.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from tasks.core.tables import Row, Schema, TableWriter, read_rows

_CHUNK_CHARS = 128_000_000


def chunks_of(num_chars: Sequence[int]) -> list[int]:
    """Returns the chunk of each place, given the characters of the row there."""
    chunks, number, held = [], 0, 0
    for count in num_chars:
        if held and held + count > _CHUNK_CHARS:
            number, held = number + 1, 0
        held += count
        chunks.append(number)
    return chunks


def rows_in_order(table: Path, schema: Schema, places: Mapping[str, int], chunks: Sequence[int], work: Path) -> Iterator[Row]:
    """Yields the rows, with the columns of `schema`, in the order of the places of their ids."""

    def by_place(row: Row) -> int:
        return places[row["id"]]

    num_chunks = chunks[-1] + 1 if chunks else 0
    if num_chunks <= 1:
        yield from sorted(read_rows(table, list(schema)), key=by_place)
        return
    parts = [work / f"chunk-{number:05d}.parquet" for number in range(num_chunks)]
    with ExitStack() as stack:
        writers = [stack.enter_context(TableWriter(part, schema)) for part in parts]
        for row in read_rows(table, list(schema)):
            writers[chunks[by_place(row)]].write(row)
    for part in parts:
        yield from sorted(read_rows(part), key=by_place)
