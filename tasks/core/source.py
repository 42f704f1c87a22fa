"""The hash of a stage's code: its module and every module of ours it imports, `tasks.core` apart.

In: a module name. Out: a sha256 that does not change with comments, docstrings or layout. Invariant: code is not part of
a fingerprint; the hash only reminds whoever changes a stage to bump its version.
"""

import ast
import hashlib
import importlib.util
import re
from functools import lru_cache
from pathlib import Path

_OURS = ("tasks", "data_quality", "deploy")
_APART = "tasks.core"
_IN_CHILD = re.compile(r"[a-z_]+(\.\w+)+:\w+")  # what `run_child` is told to run


def code_hash(module: str) -> str:
    """Returns the hash of `module` and of our modules it reaches."""
    seen: set[str] = set()
    _collect(module, seen)
    text = "".join(f"{name}:{_module(name)[0]}\n" for name in sorted(seen))
    return hashlib.sha256(text.encode()).hexdigest()


def _collect(name: str, seen: set[str]) -> None:
    if name in seen or not _is_ours(name) or _path(name) is None:
        return
    seen.add(name)
    for imported in _module(name)[1]:
        _collect(imported, seen)


def _is_ours(name: str) -> bool:
    return name.split(".")[0] in _OURS and not (name + ".").startswith(_APART + ".")


@lru_cache
def _path(name: str) -> Path | None:
    try:
        spec = importlib.util.find_spec(name)
    except ModuleNotFoundError:
        return None
    return Path(spec.origin) if spec and spec.origin else None


@lru_cache
def _module(name: str) -> tuple[str, tuple[str, ...]]:
    """Returns the hash of one module and the names it imports."""
    path = _path(name)
    assert path is not None
    return _read(path.read_text(encoding="utf-8"))


def _read(code: str) -> tuple[str, tuple[str, ...]]:
    tree = ast.parse(code)
    imports: set[str] = set()
    for node in ast.walk(tree):
        imports.update(_imports(node))
        _drop_docstring(node)
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest(), tuple(sorted(imports))


def _imports(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module:
        return [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and _IN_CHILD.fullmatch(node.value):
        return [node.value.split(":")[0]]
    return []


def _drop_docstring(node: ast.AST) -> None:
    if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        return
    match node.body:
        case [ast.Expr(ast.Constant(str())), *rest]:
            node.body = rest or [ast.Pass()]
