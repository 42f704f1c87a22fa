"""`python -m tests.hub_server FOLDER PORT`: a small stand-in for the Hugging Face hub, over HTTP.

In: `FOLDER/models/OWNER/NAME/COMMIT/` and `FOLDER/datasets/OWNER/NAME/COMMIT/`, files as they lie. Out: what `huggingface_hub`
and `datasets` ask of the hub at `HF_ENDPOINT` to list and to fetch them; its branch main is the only commit. Invariant: another
repository, commit or file is refused in the words of the hub, as is a commit whose folder has a file `.gated`.
"""

import hashlib
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

Answer = Callable[[Request, Path], Awaitable[Response]]


def routes(root: Path) -> list[Route]:
    """Returns what is asked of the hub, answered from the folders below `root`."""
    api, files = "/api/{kind}/{owner}/{name}", "{owner}/{name}/resolve/{commit}/{path:path}"
    return [
        Route(api, _of_repository(root, _about)),
        Route(f"{api}/revision/{{commit}}", _of_repository(root, _about)),
        Route(f"{api}/tree/{{commit}}", _of_repository(root, _tree)),
        Route(f"{api}/tree/{{commit}}/{{path:path}}", _of_repository(root, _tree)),
        Route(f"{api}/paths-info/{{commit}}", _of_repository(root, _paths_info), methods=["POST"]),
        Route(f"/{{kind}}/{files}", _of_repository(root, _file)),
        Route(f"/{files}", _of_repository(root, _file)),
    ]


def _of_repository(root: Path, answer: Answer) -> Callable[[Request], Awaitable[Response]]:
    async def found(request: Request) -> Response:
        asked = request.path_params
        repository = root / asked.get("kind", "models") / asked["owner"] / asked["name"]
        if not repository.is_dir():
            return _refusal(401, "RepoNotFound")  # the hub does not say which repositories are private
        is_branch = asked.get("commit", "main") == "main"
        folder = next(repository.iterdir()) if is_branch else repository / asked["commit"]
        if not folder.is_dir():
            return _refusal(404, "RevisionNotFound")
        if (folder / ".gated").exists():
            return _refusal(403, "GatedRepo")
        return await answer(request, folder)

    return found


async def _about(request: Request, folder: Path) -> Response:
    owner, name = (request.path_params[key] for key in ("owner", "name"))
    names = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file()]
    facts = {"private": False, "tags": [], "downloads": 0, "likes": 0, "siblings": [{"rfilename": name} for name in names]}
    return JSONResponse({"id": f"{owner}/{name}", "sha": folder.name} | facts)


async def _tree(request: Request, folder: Path) -> Response:
    below = folder / request.path_params.get("path", "")
    if not below.is_dir():
        return _refusal(404, "EntryNotFound")
    is_deep = request.query_params.get("recursive", "false").lower() == "true"
    return JSONResponse([_entry(path, folder) for path in sorted(below.rglob("*") if is_deep else below.iterdir())])


async def _paths_info(request: Request, folder: Path) -> Response:
    paths = [folder / str(path) for path in (await request.form()).getlist("paths")]
    return JSONResponse([_entry(path, folder) for path in paths if path.exists()])


async def _file(request: Request, folder: Path) -> Response:
    path = folder / request.path_params["path"]
    if not path.is_file():
        return _refusal(404, "EntryNotFound")
    return FileResponse(path, headers={"etag": f'"{_digest(path)}"', "x-repo-commit": request.path_params["commit"]})


def _entry(path: Path, folder: Path) -> dict[str, Any]:
    name = path.relative_to(folder).as_posix()
    if path.is_dir():
        return {"type": "directory", "path": name, "oid": "0" * 40, "size": 0}
    return {"type": "file", "path": name, "oid": _digest(path), "size": path.stat().st_size}


def _digest(path: Path) -> str:
    return hashlib.sha1(path.read_bytes()).hexdigest()


def _refusal(status: int, code: str) -> Response:
    return JSONResponse({"error": code}, status, headers={"X-Error-Code": code})


if __name__ == "__main__":
    uvicorn.run(Starlette(routes=routes(Path(sys.argv[1]))), host="127.0.0.1", port=int(sys.argv[2]))
