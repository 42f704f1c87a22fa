"""Files on a remote store (s3, gs, az, hf, http and what else fsspec knows), found and read as streams.

In: a URL, folder or glob. Out: names, stamps, binary streams. Invariants: a file is pinned by what the store says of its
content (checksum or entity tag), else by size and time of change, and one that can be pinned by neither is refused; trouble
with the store is a `TransientError`, never damage of a file.
"""

import io
from collections.abc import Callable
from glob import has_magic
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, NamedTuple, TypeVar

from tasks.core.errors import RecipeError, TransientError
from tasks.core.hub import is_offline

T = TypeVar("T")

_CONTENT_KEYS = ("sha256", "ETag", "etag", "md5Hash", "crc32c", "blob_id", "checksum", "md5")
_TIME_KEYS = ("mtime", "LastModified", "last_modified", "updated", "modified", "created")
_PAGES = ("http://", "https://")
_BUFFER_BYTES = 1 << 20


class RemoteFile(NamedTuple):
    """A file as the store lists it: name below the folder or glob, address, what its content is, size in bytes."""

    name: str
    url: str
    stamp: str
    num_bytes: int


def is_remote(pattern: str) -> bool:
    """Whether a path is a URL of a store; `file://` is local."""
    return "://" in pattern and not pattern.startswith("file://")


def list_remote(pattern: str) -> list[RemoteFile]:
    """Returns the files a URL, folder or glob stands for; hidden ones in a folder are passed over.

    Raises:
        RecipeError: The store's library is missing, access is denied, a file cannot be pinned, or the hub must not be asked.
        TransientError: The store does not answer.
    """
    system, path = _system(pattern)
    base, found = _answered(pattern, lambda: _find(system, path))
    files = []
    for full, facts in found.items():
        name = PurePosixPath(full).relative_to(base).as_posix()
        if facts.get("type") != "directory" and not any(part.startswith(".") for part in PurePosixPath(name).parts):
            url = system.unstrip_protocol(full)
            files.append(RemoteFile(name, url, _stamp(url, facts), int(facts.get("size") or 0)))
    return files


def open_remote(url: str) -> BinaryIO:
    """Opens a remote file for reading and seeking.

    Raises:
        TransientError: The store does not answer, now or while the file is read.
    """
    system, path = _system(url)
    return io.BufferedReader(_Stream(url, _answered(url, lambda: system.open(path, "rb"))), _BUFFER_BYTES)


def _system(url: str) -> tuple[Any, str]:
    from fsspec.core import url_to_fs

    if url.startswith("hf://") and is_offline():  # asked all the same, it would say that there is no such file
        raise RecipeError(f"HF_HUB_OFFLINE is set, and {url} lies on the hub: copy it to a local folder")
    try:
        system, path = url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise RecipeError(f"{url} cannot be read: {error}") from error
    return system, str(path)


def _find(system: Any, path: str) -> tuple[str, dict[str, Any]]:
    """Returns the folder that names start from, and the files with what the store says of them."""
    system.invalidate_cache()  # a listing of some minutes ago would hide a change
    if has_magic(path):
        parts = PurePosixPath(path).parts
        fixed = next(number for number, part in enumerate(parts) if has_magic(part))
        return str(PurePosixPath(*parts[:fixed])), system.glob(path, detail=True)
    is_folder = path.endswith("/") if path.startswith(_PAGES) else system.isdir(path)  # a page with links is no folder
    if is_folder:
        return path, system.find(path, detail=True)
    return str(PurePosixPath(path).parent), {path: system.info(path)} if system.exists(path) else {}


def _stamp(url: str, facts: dict[str, Any]) -> str:
    facts = facts | (facts.get("lfs") or {})
    for key in _CONTENT_KEYS:
        if facts.get(key):
            return f"{key.lower()}:{facts[key]}"
    time = next((facts[key] for key in _TIME_KEYS if facts.get(key)), None)
    if time is None or facts.get("size") is None:
        raise RecipeError(
            f"{url} cannot be pinned: its store gives neither a checksum nor size and time; copy it to a local folder"
        )
    return f"size+time:{facts['size']}@{time}"


def _answered(url: str, ask: Callable[[], T]) -> T:
    try:
        return ask()
    except Exception as error:  # each store raises what its own library raises; of them all OSErrors are the fewest
        if isinstance(error, PermissionError) or "Credentials" in type(error).__name__:
            raise RecipeError(f"access to {url} is denied: {error}") from error
        raise TransientError(f"{url} could not be read: {type(error).__name__}: {error}") from error


class _Stream(io.RawIOBase):
    """A remote file whose troubles are passing ones."""

    def __init__(self, url: str, file: Any) -> None:
        self._url = url
        self._file = file

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = _answered(self._url, lambda: self._file.read(len(buffer)))
        buffer[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        return int(self._file.tell())

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


def local_path(pattern: str) -> Path:
    """Returns the path of a pattern that is not remote."""
    return Path(pattern.removeprefix("file://"))
