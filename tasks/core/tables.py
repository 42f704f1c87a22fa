"""Parquet tables written and read as streams: bounded memory, the same bytes for the same rows.

In: rows (dicts) under a fixed schema. Out: one file, or numbered files in a folder. Invariant: where a row group or a
file ends depends on the rows alone, never on time, workers or batches, so equal rows give equal bytes.
"""

import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq
    from numpy.typing import NDArray

Row = dict[str, Any]
Schema = dict[str, str]  # column to its Arrow type, `string[]` is a list; pyarrow itself is loaded when a table is used

_GROUP_ROWS = 1_000
_GROUP_BYTES = 2_000_000  # a row group is also the piece of work of one process
_FILE_BYTES = 512_000_000


class TableWriter:
    """Writes rows to `<target>` (a `.parquet` file) or to `<target>/00000.parquet`, `00001.parquet`, ... (a folder).

    It starts anew: what an earlier attempt left at the target goes.

    Attributes:
        num_rows: Rows written so far.
    """

    def __init__(self, target: Path, schema: Schema) -> None:
        self.num_rows = 0
        self._target = target
        self._schema = _arrow(schema)
        self._single = target.suffix == ".parquet"
        self._rows: list[Row] = []
        self._group_bytes = 0
        self._file_bytes = 0
        self._num_files = 0
        self._file: pq.ParquetWriter | None = None
        if target.is_dir():
            shutil.rmtree(target)
        (target.parent if self._single else target).mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is None:
            self.close()
        elif self._file is not None:
            self._file.close()

    def write(self, row: Row) -> None:
        """Adds a row; the group goes to disk when it is full."""
        self._rows.append(row)
        self.num_rows += 1
        self._group_bytes += sum(len(value) for value in row.values() if isinstance(value, str))
        if len(self._rows) >= _GROUP_ROWS or self._group_bytes >= _GROUP_BYTES:
            self._flush()

    def close(self) -> None:
        """Writes what is left; a table without rows is a file with its schema."""
        if self._rows or not self._num_files:
            self._flush()
        if self._file is not None:
            self._file.close()
            self._file = None

    def _flush(self) -> None:
        if self._file is None:
            self._file = self._open()
        import pyarrow as pa

        self._file.write_table(pa.Table.from_pylist(self._rows, schema=self._schema))
        self._file_bytes += self._group_bytes
        self._rows, self._group_bytes = [], 0
        if self._file_bytes >= _FILE_BYTES and not self._single:
            self._file.close()
            self._file, self._file_bytes = None, 0

    def _open(self) -> "pq.ParquetWriter":
        import pyarrow.parquet as pq

        path = self._target if self._single else self._target / f"{self._num_files:05d}.parquet"
        self._num_files += 1
        return pq.ParquetWriter(path, self._schema, compression="zstd", write_statistics=False)


def _arrow(schema: Schema) -> Any:
    import pyarrow as pa

    def arrow(kind: str) -> Any:
        return pa.list_(arrow(kind.removesuffix("[]"))) if kind.endswith("[]") else pa.type_for_alias(kind)

    return pa.schema([pa.field(name, arrow(kind)) for name, kind in schema.items()])


def write_table(target: Path, schema: Schema, rows: Iterable[Row]) -> int:
    """Writes all rows and returns how many there were."""
    with TableWriter(target, schema) as writer:
        for row in rows:
            writer.write(row)
    return writer.num_rows


def table_files(target: Path) -> list[Path]:
    """Returns the files of a table in order: the file itself, or those of the folder."""
    return [target] if target.suffix == ".parquet" else sorted(target.glob("*.parquet"))


def num_rows(target: Path) -> int:
    """Returns the rows of a table, counted from what was written."""
    import pyarrow.parquet as pq

    return sum(pq.read_metadata(path).num_rows for path in table_files(target))


def row_groups(target: Path) -> list[tuple[Path, int]]:
    """Returns the pieces of a table that can be worked on apart from each other: (file, row group)."""
    import pyarrow.parquet as pq

    return [(path, group) for path in table_files(target) for group in range(pq.read_metadata(path).num_row_groups)]


def group_runs(target: Path, num_bytes: int) -> Iterator[tuple[Path, list[int]]]:
    """Yields the same in larger pieces: row groups of one file in a row, until they hold `num_bytes` or the file ends."""
    import pyarrow.parquet as pq

    for path in table_files(target):
        metadata = pq.read_metadata(path)
        groups, held = [], 0
        for group in range(metadata.num_row_groups):
            groups.append(group)
            held += metadata.row_group(group).total_byte_size
            if held >= num_bytes or group == metadata.num_row_groups - 1:
                yield path, groups
                groups, held = [], 0


def read_group(path: Path, group: int, columns: Sequence[str] | None = None) -> list[Row]:
    """Returns the rows of one row group."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        rows: list[Row] = file.read_row_group(group, columns=columns).to_pylist()
    return rows


def first_rows(path: Path, group: int, columns: Sequence[str], most: int) -> list[Row]:
    """Returns the first rows of one row group, without reading all of it."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        batch = next(file.iter_batches(most, row_groups=[group], columns=list(columns)), None)
        rows: list[Row] = batch.to_pylist() if batch is not None else []
    return rows


def read_rows(target: Path, columns: Sequence[str] | None = None) -> Iterator[Row]:
    """Yields the rows of a table in order, one row group in memory at a time."""
    for path, group in row_groups(target):
        yield from read_group(path, group, columns)


# pyarrow's own ways between its columns and arrays load pandas, which takes half a second.
def numbers(table: "pa.Table", name: str) -> "NDArray[np.int64]":
    """Returns a column of int64 without nulls as an array."""
    import numpy as np

    found: NDArray[np.int64] = np.from_dlpack(table.column(name).combine_chunks())  # type: ignore[assignment]
    return found


def where_equal(table: "pa.Table", name: str, value: str) -> "NDArray[np.bool_]":
    """Returns for each row whether a column of strings without nulls holds `value`."""
    import numpy as np

    column = table.column(name).combine_chunks().dictionary_encode()
    values = np.array(column.dictionary.to_pylist(), np.str_)
    found: NDArray[np.bool_] = (values == value)[np.from_dlpack(column.indices)]
    return found


def with_numbers(table: "pa.Table", name: str, values: "NDArray[np.int64]") -> "pa.Table":
    """Returns the table with a column of int64 more."""
    return table.append_column(name, _int_column(values))


def take_rows(table: "pa.Table", places: "NDArray[np.int64]") -> "pa.Table":
    """Returns the rows at `places`, in that order."""
    return table.take(_int_column(places))


def _int_column(values: "NDArray[np.int64]") -> "pa.Array":
    import pyarrow as pa

    return pa.Array.from_buffers(pa.int64(), len(values), [None, pa.py_buffer(values)])
