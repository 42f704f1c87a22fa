"""What holds the house together: light specs, stage versions, house rules that a linter does not know."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests import stage_lock

ROOT = Path(__file__).resolve().parents[1]
SOURCES = [path for folder in ("flows", "tasks", "data_quality", "deploy") for path in (ROOT / folder).rglob("*.py")]
HEAVY = (
    "torch",
    "transformers",
    "peft",
    "mlflow",
    "great_expectations",
    "prefect",
    "datatrove",
    "datasets",
    "pandas",
    "matplotlib",
)


def modules_after(code: str) -> set[str]:
    """Returns the heavy modules that are loaded after `code` ran in a fresh process."""
    probe = f"{code}\nimport sys, json; print(json.dumps([m for m in {HEAVY!r} if m in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, cwd=ROOT, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_loading_a_preset_imports_nothing_heavy() -> None:
    assert modules_after("from flows.presets import load_recipe, presets\nfor p in presets(): load_recipe(p)") == set()


def test_planning_imports_nothing_heavy(tmp_path: Path) -> None:
    code = "from flows.plan import plan_recipe; from flows.presets import load_recipe; from tasks.core.site import Site\n"
    assert modules_after(f"{code}print(len(plan_recipe(load_recipe('demo'), Site(state_dir={str(tmp_path)!r}))))") == set()


def test_a_training_child_imports_no_prefect_and_a_data_worker_no_torch() -> None:
    assert "prefect" not in modules_after("import tasks.core.child, tasks.modeling.train")
    assert "torch" not in modules_after("import tasks.core.child, tasks.ingest, tasks.cleaning, tasks.tokenization")


def test_the_stage_lock_is_true() -> None:
    wrong = [name for name, entry in stage_lock.current().items() if stage_lock.locked().get(name) != entry]
    assert not wrong, (
        f"the code of {', '.join(wrong)} changed: raise `version` in @stage where the output changes too, "
        "then run `make stage-lock` and commit tasks/stages.lock.json"
    )
    assert stage_lock.locked().keys() == stage_lock.current().keys()


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_file_opens_with_its_purpose_and_no_function_is_long(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree), f"{path} has no module docstring"
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    long = [(node.name, length) for node in functions if (length := (node.end_lineno or 0) - node.lineno + 1) > 80]
    assert not long, f"{path}: {long}"


def test_nothing_is_ever_unpickled() -> None:
    """`torch.load`, `pickle.load` and the like appear nowhere in our code."""
    banned = {("torch", "load"), ("pickle", "load"), ("pickle", "loads"), ("joblib", "load"), ("dill", "load"), ("numpy", "load")}
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                assert (node.value.id, node.attr) not in banned, f"{path}:{node.lineno}"
            if isinstance(node, ast.keyword) and node.arg in ("allow_pickle", "trust_remote_code"):
                assert isinstance(node.value, ast.Constant), f"{path}:{node.lineno}"
                assert node.value.value is False, f"{path}:{node.lineno}"
