"""Files that a recipe names: found, pinned by content and read line by line in bounded memory.

In: paths, folders, globs and URLs as a recipe gives them. Out: files with a stable relative name, one digest for all of
them, decompressed bytes. Invariants: a path that matches nothing is the user's error; names never depend on where the files
lie; a line longer than the bound is never held in memory.
"""

import glob
import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from tasks.core.errors import ContractError, RecipeError
from tasks.core.fingerprint import file_digest, tree_digest
from tasks.core.remote import is_remote, list_remote, local_path, open_remote
from tasks.core.site import Site
from tasks.core.store import write_durably

_COMPRESSIONS = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2"}
_CHUNK_BYTES = 1 << 20
_SETTLED_S = 2.0  # a file younger than this may still change without its time stamp showing it
_CACHE_ENTRIES = 100_000


@dataclass(frozen=True, slots=True)
class InputFile:
    """A file to read.

    Attributes:
        name: Stable name, relative to the folder or glob given.
        path: Where it lies; of a remote file only its suffixes count.
        url: Address of a remote file.
        stamp: What its store says of a remote file's content.
        groups: Row groups of a parquet file to read, first and one past the last; none: all.
        span: Bytes of an uncompressed local file to read, first and one past the last; none: all.
        lines_before: Lines of the file before its span.
    """

    name: str
    path: Path
    url: str | None = None
    stamp: str | None = None
    num_remote_bytes: int = 0
    groups: tuple[int, int] | None = None
    span: tuple[int, int] | None = None
    lines_before: int = 0

    @property
    def format(self) -> str:
        """Suffix without a compression suffix and in lower case, e.g. `jsonl` for `a.jsonl.gz`."""
        suffixes = [suffix.lower() for suffix in self.path.suffixes]
        if suffixes and suffixes[-1] in _COMPRESSIONS:
            suffixes.pop()
        return suffixes[-1].lstrip(".") if suffixes else ""

    @property
    def compression(self) -> str | None:
        """Name of the compression, none where the file is not compressed."""
        return _COMPRESSIONS.get(self.path.suffix.lower())

    def now(self) -> tuple[int, str]:
        """Returns size in bytes and what else tells this state of the file from another one; cheap."""
        if self.url is not None:
            return self.num_remote_bytes, str(self.stamp)
        try:
            status = self.path.stat()
        except OSError:
            return 0, "unreadable"
        return status.st_size, str(status.st_mtime_ns)


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a file: its number from 1, and its bytes, none where it is longer than the bound."""

    number: int
    data: bytes | None


def find_files(patterns: Sequence[str]) -> list[InputFile]:
    """Returns the files that paths, folders and globs stand for, sorted by name.

    Hidden files and folders inside a named folder are passed over; linked folders inside it are followed (not by `**`).

    Raises:
        RecipeError: A pattern matches nothing, a folder cannot be read, or two files would have the same name.
    """
    found: dict[str, InputFile] = {}
    for pattern in patterns:
        files = _matches(pattern)
        if not files:
            raise RecipeError(f"{pattern} matches no file; mend the path, folder or glob in the recipe")
        for file in files:
            other = found.setdefault(file.name, file)
            if (other.path, other.url) != (file.path, file.url):
                raise RecipeError(
                    f"{other.url or other.path} and {file.url or file.path} would both be called {file.name}; "
                    "name their common folder instead, or put them into two sources"
                )
    return [found[name] for name in sorted(found)]


def _matches(pattern: str) -> list[InputFile]:
    if is_remote(pattern):
        found = list_remote(pattern)
        return [InputFile(file.name, Path(file.name), file.url, file.stamp, file.num_bytes) for file in found]
    path = local_path(pattern)
    if path.is_dir():
        return [InputFile(file.relative_to(path).as_posix(), file) for file in _walk(path)]
    if path.is_file() or path.is_symlink():
        return [InputFile(path.name, path)]
    base = _fixed_part(path)
    files = (file for file in base.glob(path.relative_to(base).as_posix()) if file.is_file())
    return [InputFile(file.relative_to(base).as_posix(), file) for file in files]


def _fixed_part(pattern: Path) -> Path:
    """Returns the folders of a glob before its first wildcard."""
    for depth, part in enumerate(pattern.parts):
        if glob.has_magic(part):
            return Path(*pattern.parts[:depth])
    return pattern.parent


def _walk(folder: Path) -> Iterator[Path]:
    """Yields the files of a folder and of those linked in it, each folder once: under its own name where it lies inside."""
    base, seen = folder.resolve(), set()
    for root, folders, names in os.walk(folder, onerror=_refuse, followlinks=True):
        place, own = Path(root).resolve(), base / Path(root).relative_to(folder)
        comes_anyway = place != own and place.is_relative_to(base) and not any(map(_is_hidden, place.relative_to(base).parts))
        if place in seen or comes_anyway:
            folders.clear()
            continue
        seen.add(place)
        folders[:] = sorted(name for name in folders if not _is_hidden(name))
        yield from (Path(root, name) for name in sorted(names) if not _is_hidden(name))


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == "lost+found"  # a file system's own


def _refuse(error: OSError) -> None:
    raise RecipeError(f"folder {error.filename} cannot be read ({error.strerror}); let it be read, or name others in the recipe")


def pin(files: Sequence[InputFile], site: Site) -> str:
    """Returns one digest of the names and contents of files; a file that cannot be read enters as unreadable."""
    cache = _DigestCache(site.root / "cache" / "digests.json")
    pairs = [(file.name, file.stamp or cache.digest(file.path)) for file in files]
    cache.save()
    return tree_digest(pairs)


def check_unchanged(what: str, pinned: str | None, files: Sequence[InputFile], site: Site) -> None:
    """Refuses to commit what was read from files that changed meanwhile.

    Raises:
        ContractError: The files are no longer those whose digest is in the fingerprint.
    """
    if pinned is not None and pin(files, site) != pinned:
        raise ContractError(f"the files of {what} changed while they were read; run again when they are at rest")


class _DigestCache:
    """Digests of files by path, size and time of change; a lost or damaged cache only costs time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._changed = False
        try:
            self._known: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            self._known = {}

    def digest(self, path: Path) -> str:
        try:
            status = path.stat()
            stamp = [status.st_size, status.st_mtime_ns]
            key = str(path.absolute())
            if self._known.get(key, [])[:2] == stamp:
                return str(self._known[key][2])
            value = file_digest(path)
        except OSError as error:
            return f"unreadable: {type(error).__name__}"
        if time.time() - status.st_mtime > _SETTLED_S:
            self._known[key] = [*stamp, value]
            self._changed = True
        return value

    def save(self) -> None:
        if self._changed:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            newest = dict(list(self._known.items())[-_CACHE_ENTRIES:])
            write_durably(self._path, json.dumps(newest))


def open_binary(file: InputFile) -> BinaryIO:
    """Opens the bytes of a file as they are stored.

    Raises:
        OSError: The file cannot be read.
        TransientError: The store of a remote file does not answer.
    """
    return file.path.open("rb") if file.url is None else open_remote(file.url)


def read_chunks(file: InputFile) -> Iterator[bytes]:
    """Yields the decompressed bytes of a file in chunks.

    Raises:
        OSError: The file cannot be read, or its compressed stream is damaged or cut off.
        TransientError: The store of a remote file does not answer.
    """
    import pyarrow as pa

    with pa.OSFile(os.fsencode(file.path), "rb") if file.url is None else pa.PythonFile(open_remote(file.url), "r") as raw:
        stream = pa.CompressedInputStream(raw, file.compression) if file.compression else raw
        first, end = file.span or (0, None)
        if first:
            stream.seek(first)
        while chunk := stream.read(_CHUNK_BYTES if end is None else min(_CHUNK_BYTES, end - stream.tell())):
            yield chunk


class ChunkStream:
    """Chunks of bytes as a file that can only be read on; for libraries that ask for one."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._left = b""

    def read(self, size: int = _CHUNK_BYTES) -> bytes:
        """Returns up to `size` bytes, none at the end."""
        if not self._left:
            self._left = next(self._chunks, b"")
        data, self._left = self._left[:size], self._left[size:]
        return data


def read_head(file: InputFile, num_bytes: int) -> bytes:
    """Returns the first decompressed bytes of a file.

    Raises:
        OSError: The file cannot be read, or its compressed stream is damaged.
    """
    return next(read_chunks(file), b"")[:num_bytes]


def read_whole(file: InputFile, max_bytes: int) -> bytes | None:
    """Returns all bytes of a file, or None where there are more than `max_bytes`."""
    parts: list[bytes] = []
    for chunk in read_chunks(file):
        parts.append(chunk)
        if sum(map(len, parts)) > max_bytes:
            return None
    return b"".join(parts)


def read_lines(file: InputFile, max_bytes: int) -> Iterator[Line]:
    """Yields the lines of a file; one longer than `max_bytes` comes without its bytes."""
    number, length = file.lines_before + 1, 0
    parts: list[bytes] = []
    for chunk in read_chunks(file):
        *ends, rest = chunk.split(b"\n")
        for end in ends:
            yield Line(number, b"".join([*parts, end]) if length + len(end) <= max_bytes else None)
            number, parts, length = number + 1, [], 0
        length += len(rest)
        parts = [*parts, rest] if length <= max_bytes else []
    if length:
        yield Line(number, b"".join(parts) if length <= max_bytes else None)
