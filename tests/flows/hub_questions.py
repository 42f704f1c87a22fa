"""`python -m tests.flows.hub_questions COMMIT FILE QUESTION...`: what the hub of `test_hub` does not have, asked for.

In: the hub's commit, beginnings of questions. Out: a JSON file with class and words of each error, by question. Invariant: a
process of its own, since the hub's libraries read where it is once.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tasks.core.hub import HubModel, HubRows, hub_model, hub_rows
from tasks.core.inputs import find_files
from tasks.core.site import Site


def _model(name: str, revision: str) -> Callable[[], Any]:
    return lambda: hub_model(HubModel(name=name, revision=revision), [".json"], "source.kind to folder")


def _rows(dataset: str, revision: str, split: str = "train") -> Callable[[], Any]:
    return lambda: list(hub_rows(HubRows(dataset=dataset, revision=revision, split=split), print))


def _error(ask: Callable[[], Any]) -> tuple[str, str]:
    try:
        return "none", str(ask())
    except Exception as error:
        return type(error).__name__, str(error)


if __name__ == "__main__":
    commit, another = sys.argv[1], "d" * 40
    questions: dict[str, Callable[[], Any]] = {
        "model: another name": _model("some/other", commit),
        "model: another commit": _model("some/tiny", another),
        "model: gated": _model("some/gated", commit),
        "commit: model": lambda: HubModel(name="some/tiny").pinned(Site()),
        "commit: model of a branch": lambda: HubModel(name="some/tiny", revision="main").pinned(Site()),
        "commit: rows": lambda: HubRows(dataset="some/texts").pinned(Site()),
        "rows: another name": _rows("some/other", commit),
        "rows: another commit": _rows("some/texts", another),
        "rows: another split": _rows("some/texts", commit, "dev"),
        "files: another name": lambda: find_files(["hf://datasets/some/other/x"]),
    }
    found = {question: _error(ask) for question, ask in questions.items() if question.startswith(tuple(sys.argv[3:]))}
    Path(sys.argv[2]).write_text(json.dumps(found), encoding="utf-8")
