"""The store: each artifact a folder whose manifest is written last.

In: a kind, a fingerprint, a folder of files. Out: committed, read-only artifacts at `<kind>/<fingerprint[:12]>/`.
Invariants: nothing without a manifest counts; a commit is fsync, manifest, rename; an artifact is never written to again;
one writer at a time holds the lock, which the kernel frees when its holder dies.
"""

import errno
import fcntl
import json
import os
import re
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from tasks.core.artifact import EXTRA_DIR, MANIFEST_NAME, Artifact
from tasks.core.errors import ContractError, TransientError
from tasks.core.fingerprint import file_digest, tree_digest

A = TypeVar("A", bound=Artifact)

_PARTIAL = ".partial"
_LOCK = ".lock"
_DRAFT = f".{MANIFEST_NAME}."  # how the name of a manifest begins that a kill left half written


class FileEntry(BaseModel):
    """Size and digest of one file of an artifact."""

    model_config = ConfigDict(frozen=True)

    num_bytes: int
    sha256: str


class InputEntry(BaseModel):
    """An artifact that another one was made from."""

    model_config = ConfigDict(frozen=True)

    kind: str
    fingerprint: str
    digest: str

    @property
    def address(self) -> str:
        """Short name in the store."""
        return f"{self.kind}/{self.fingerprint[:12]}"


class Manifest(BaseModel):
    """What is known of an artifact; the last file written into its folder."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    schema_version: int
    fingerprint: str
    digest: str
    stage: str
    stage_version: int
    label: str
    spec: dict[str, Any]
    inputs: dict[str, InputEntry]
    versions: dict[str, str]
    code_hash: str
    facts: dict[str, Any]
    files: dict[str, FileEntry]
    provenance: dict[str, Any]

    @property
    def address(self) -> str:
        """Short name in the store."""
        return f"{self.kind}/{self.fingerprint[:12]}"


@dataclass(frozen=True, slots=True)
class Store:
    """Artifacts under one root folder."""

    root: Path

    def folder(self, kind: str, fingerprint: str) -> Path:
        """Returns where an artifact lies once committed."""
        return self.root / kind / fingerprint[:12]

    def partial(self, kind: str, fingerprint: str) -> Path:
        """Returns the working folder; the same on each attempt, so that work resumes."""
        return self.root / kind / (fingerprint[:12] + _PARTIAL)

    def find(self, kind: type[A], fingerprint: str) -> A | None:
        """Returns the committed artifact, or None where there is none.

        Raises:
            ContractError: Its manifest cannot be read, or a file has gone or changed size.
        """
        folder = self.folder(kind.kind(), fingerprint)
        return self.load(kind, folder) if (folder / MANIFEST_NAME).exists() else None

    def load(self, kind: type[A], folder: Path) -> A:
        """Reads the artifact in `folder` and checks that all its files are there.

        Raises:
            ContractError: The folder holds another kind or version, or it is damaged.
        """
        manifest = read_manifest(folder)
        if (manifest.kind, manifest.schema_version) != (kind.kind(), kind.schema_version):
            raise ContractError(
                f"{folder} holds {manifest.kind} version {manifest.schema_version}, not {kind.kind()} version "
                f"{kind.schema_version}; pass the right artifact, or remove the folder and run again"
            )
        _check_sizes(folder, manifest)
        try:
            return kind(uri=str(folder.absolute()), fingerprint=manifest.fingerprint, digest=manifest.digest, **manifest.facts)
        except ValidationError as error:
            raise ContractError(f"{folder / MANIFEST_NAME}: facts are not those of {manifest.kind}: {error}") from error

    def commit(self, manifest: Manifest, partial: Path) -> Path:
        """Makes `partial` an artifact: fsync, manifest, rename.

        Raises:
            ContractError: The artifact exists already; what is committed is never written to again.
        """
        folder = self.folder(manifest.kind, manifest.fingerprint)
        if (folder / MANIFEST_NAME).exists():
            raise ContractError(f"{manifest.address} is committed already; it is never written to again")
        if folder.exists():
            shutil.rmtree(folder)  # what a removal left that was cut short
        for draft in partial.glob(f"{_DRAFT}*"):
            draft.unlink()
        for name in manifest.files:
            _fsync(partial / name)
        write_durably(partial / MANIFEST_NAME, manifest.model_dump_json(indent=1))
        partial.rename(folder)
        _fsync(folder.parent)
        return folder

    def retire(self, folder: Path) -> None:
        """Removes an artifact so that it never looks whole while it goes: the manifest first."""
        (folder / MANIFEST_NAME).unlink(missing_ok=True)
        shutil.rmtree(folder)

    def manifests(self) -> Iterator[tuple[Path, Manifest]]:
        """Yields every committed artifact's folder and manifest; damaged ones are passed over."""
        for path in sorted(self.root.glob(f"*/*/{MANIFEST_NAME}")):
            if path.parent.name.endswith(_PARTIAL):
                continue
            try:
                yield path.parent, read_manifest(path.parent)
            except ContractError:
                continue

    def partials(self) -> list[Path]:
        """Returns the working folders of unfinished artifacts."""
        return sorted(self.root.glob(f"*/*{_PARTIAL}"))

    def remains(self) -> list[Path]:
        """Returns what is left of artifacts whose removal was cut short."""
        folders = (path for path in sorted(self.root.glob("*/*")) if path.is_dir() and not path.name.endswith(_PARTIAL))
        return [folder for folder in folders if not (folder / MANIFEST_NAME).exists()]

    def discard(self, folder: Path) -> None:
        """Removes a folder that is no artifact; if it has become one, or has gone, nothing.

        Raises:
            TransientError: A process works in it.
        """
        with self.lock(folder.parent.name, folder.name.removesuffix(_PARTIAL), wait=False):
            if folder.exists() and not (folder / MANIFEST_NAME).exists():
                shutil.rmtree(folder)

    @contextmanager
    def lock(self, kind: str, fingerprint: str, *, wait: bool, notify: Any = None) -> Iterator[int]:
        """Holds the artifact's lock and yields its file descriptor, which children inherit to keep it held.

        Raises:
            TransientError: Another process holds it and `wait` is false.
        """
        path = self.root / kind / (fingerprint[:12] + _LOCK)
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
        owner = path.with_suffix(".owner")
        try:
            _acquire(descriptor, owner, wait, notify)
            owner.write_text(json.dumps(process_identity()))
            yield descriptor
            owner.unlink(missing_ok=True)
        finally:
            os.close(descriptor)

    def verify(self, artifact: Artifact) -> None:
        """Hashes every file of an artifact.

        Raises:
            ContractError: A byte differs from what was committed.
        """
        manifest = read_manifest(artifact.path)
        for name, entry in manifest.files.items():
            found = file_digest(artifact.path / name)
            if found != entry.sha256:
                raise ContractError(
                    f"{artifact.path / name} is damaged: sha256 {found[:12]}, committed as {entry.sha256[:12]}. "
                    f"Remove {artifact.path} and run again: it will be rebuilt."
                )


def _acquire(descriptor: int, owner: Path, wait: bool, notify: Any) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return
    except BlockingIOError:
        who = owner.read_text() if owner.exists() else "another process"
    if not wait:
        raise TransientError(f"{owner.with_suffix('')} is being built by {who}; run again when it has ended")
    if notify is not None:
        notify(f"waiting for {owner.with_suffix('').name}, which is being built by {who}")
    fcntl.flock(descriptor, fcntl.LOCK_EX)


def read_manifest(folder: Path) -> Manifest:
    """Reads the manifest of a folder.

    Raises:
        ContractError: There is none, or it is not a manifest.
    """
    path = folder / MANIFEST_NAME
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise ContractError(f"{folder} is no artifact: it has no {MANIFEST_NAME}; see `textmill ls`") from None
    except ValidationError as error:
        raise ContractError(f"{path} is damaged: {error.errors()[0]['msg']}. Remove {folder} and run again.") from None


def list_files(folder: Path) -> dict[str, FileEntry]:
    """Hashes the files under `folder`, by relative name."""
    files = (path for path in folder.rglob("*") if path.is_file())
    paths = sorted(path for path in files if path.name != MANIFEST_NAME and not path.name.startswith(_DRAFT))
    return {
        path.relative_to(folder).as_posix(): FileEntry(num_bytes=path.stat().st_size, sha256=file_digest(path)) for path in paths
    }


def content_digest(kind: str, schema_version: int, files: dict[str, FileEntry]) -> str:
    """Returns the digest of what the bytes are: kind, version and every file that is not under `extra/`."""
    content = ((name, entry.sha256) for name, entry in files.items() if not name.startswith(f"{EXTRA_DIR}/"))
    return tree_digest([("kind", f"{kind}@{schema_version}"), *content])


def _check_sizes(folder: Path, manifest: Manifest) -> None:
    for name, entry in manifest.files.items():
        path = folder / name
        found = path.stat().st_size if path.exists() else None
        if found != entry.num_bytes:
            raise ContractError(
                f"{path} has {found} bytes, {entry.num_bytes} were committed. Remove {folder} and run again: it will be rebuilt."
            )


def write_durably(path: Path, text: str) -> None:
    """Writes a small file so that after a crash it is there whole or not at all."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with beside.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    _fsync(path.parent)


def no_space(error: BaseException, where: Path) -> ContractError | None:
    """Returns what to say of an error that means that there is no space left to write; None of any other."""
    number = _error_number(error)
    if number not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return None
    return ContractError(
        f"no space left to write {getattr(error, 'filename', None) or where} ({os.strerror(number)}). Free some space "
        "(`textmill gc --dry-run` lists what can go) and run again: finished work is intact and it resumes."
    )


def _error_number(error: BaseException) -> int | None:
    if isinstance(error, OSError):
        return error.errno
    told = re.search(r"\(os error (\d+)\)", str(error))  # libraries in Rust, such as safetensors, say it in words alone
    return int(told[1]) if told else None


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def process_identity() -> dict[str, Any]:
    """Returns what tells this process from every other: host, boot, pid and when it started."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    return {
        "host": socket.gethostname(),
        "boot_id": boot.read_text().strip() if boot.exists() else "",
        "pid": os.getpid(),
        "start_ticks": _process_start(os.getpid()),
    }


def process_alive(identity: dict[str, Any]) -> bool | None:
    """Says whether the process still runs; None where it is another host's and cannot be known."""
    here = process_identity()
    if identity.get("host") != here["host"]:
        return None
    if identity.get("boot_id") != here["boot_id"]:
        return False
    start = _process_start(int(identity["pid"]))
    known = identity.get("start_ticks")  # records of before have a time instead, which a stepped clock moves: their pid decides
    return start is not None and known in (None, start)


def _process_start(pid: int) -> float | None:
    """Returns when a process started, in ticks since boot where `/proc` says it, else by the clock; None where it has ended."""
    try:
        line = Path("/proc", str(pid), "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None if Path("/proc/self/stat").exists() else _process_start_by_clock(pid)
    state, *rest = line.rpartition(")")[2].split()  # the command's name before it may hold spaces and brackets
    return None if state in "ZXx" else float(rest[18])


def _process_start_by_clock(pid: int) -> float | None:
    import psutil

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else float(process.create_time())
    except psutil.Error:
        return None
