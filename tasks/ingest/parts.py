"""Parts: one large file cut into stretches that several processes read.

In: a file. Out: the file, or parts of it in their order, each with its size. Invariants: parts are cut by the file alone, between
row groups of parquet and at line ends of uncompressed lines; together they are the file, and a line keeps its number.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import BinaryIO

from tasks.core.inputs import InputFile, open_binary
from tasks.ingest.sources import FilesSource

_CHUNK_BYTES = 1 << 20
_LINES = {"jsonl", "ndjson", "lines"}


def parts(source: FilesSource, file: InputFile, num_bytes: int) -> Iterator[tuple[InputFile, int]]:
    """Yields the file, or parts of at least `num_bytes` of one that is larger, with their sizes in bytes."""
    size = file.now()[0]
    kind = file.format if source.format == "auto" else source.format
    if size > num_bytes and kind == "parquet":
        yield from _runs_of_groups(file, num_bytes)
    elif size > num_bytes and kind in _LINES and file.compression is None and file.url is None:
        yield from _spans(file, size, num_bytes)
    else:
        yield file, size


def _runs_of_groups(file: InputFile, num_bytes: int) -> Iterator[tuple[InputFile, int]]:
    sizes = _group_sizes(file)
    if len(sizes) < 2:
        yield file, file.now()[0]
        return
    first, held = 0, 0
    for group, group_bytes in enumerate(sizes):
        held += group_bytes
        if held >= num_bytes or group == len(sizes) - 1:
            yield replace(file, groups=(first, group + 1)), held
            first, held = group + 1, 0


def _group_sizes(file: InputFile) -> list[int]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with open_binary(file) as stream:
            facts = pq.read_metadata(stream)
    except (OSError, pa.ArrowException):  # its reader says what is wrong with it
        return []
    groups = [facts.row_group(group) for group in range(facts.num_row_groups)]
    return [sum(group.column(column).total_compressed_size for column in range(group.num_columns)) for group in groups]


def _spans(file: InputFile, size: int, num_bytes: int) -> list[tuple[InputFile, int]]:
    """Returns stretches of whole lines; the numbers of their first lines need one pass over the file."""
    found: list[tuple[InputFile, int]] = []
    first = lines_before = 0
    try:
        with open_binary(file) as stream:
            while first < size:
                end = _line_end(stream, min(first + num_bytes, size))
                found.append((replace(file, span=(first, end), lines_before=lines_before), end - first))
                lines_before += _num_lines(stream, first, end)
                first = end
    except OSError:  # its reader says what is wrong with it
        return [(file, size)]
    return found


def _line_end(stream: BinaryIO, place: int) -> int:
    """Returns where the line ends that holds the byte before `place`."""
    stream.seek(place - 1)
    while (part := stream.readline(_CHUNK_BYTES)) and not part.endswith(b"\n"):
        pass
    return stream.tell()


def _num_lines(stream: BinaryIO, first: int, end: int) -> int:
    stream.seek(first)
    return sum(stream.read(min(_CHUNK_BYTES, end - place)).count(b"\n") for place in range(first, end, _CHUNK_BYTES))
