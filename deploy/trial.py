"""A trial before a version goes live: serve its own files, and ask it what the registered model was asked.

In: a registered version and prompts. Out: its answers. Invariants: the served text is the registered model's, character for
character, and served labels are those that were scored; no alias is touched here, so whatever fails, what was live stays live.
"""

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from deploy import scoring
from deploy.serve import ask, served
from tasks.core.errors import GateError
from tasks.core.site import Site
from tasks.core.text import one_line
from tasks.core.tracking import RegisteredVersion, registered_answers, served_folder
from tasks.modeling.architecture import says_labels


@dataclass(frozen=True, slots=True)
class Trial:
    """What a version answered when it was tried.

    Attributes:
        num_checks: Things that were right: the server's health, and each answer.
        prompts: What it was asked, where the version itself says what.
    """

    answers: tuple[str, ...]
    engine: str
    num_checks: int
    prompts: tuple[str, ...] = ()


def try_out(
    site: Site,
    version: RegisteredVersion,
    prompts: Sequence[str],
    max_new_tokens: int,
    progress: Callable[[float, float], None] | None = None,
) -> Trial:
    """Serves a version from its own files and compares its greedy answers with the registered model's.

    Raises:
        GateError: An answer differs.
        TransientError: The server did not get healthy.
    """
    folder = served_folder(site, version)
    if says_labels(folder):
        return try_labels(site, version, folder, progress)
    with ThreadPoolExecutor(1) as pool:  # the registered model loads while the server starts
        expected = pool.submit(registered_answers, site, version, list(prompts), max_new_tokens)
        with served(folder, site, progress=progress) as server:
            answers = tuple(ask(server, [{"role": "user", "content": prompt}], max_new_tokens) for prompt in prompts)
        compare(version, prompts, answers, expected.result())
    return Trial(answers, server.engine, 1 + len(prompts))


def try_labels(
    site: Site, version: RegisteredVersion, folder: Path, progress: Callable[[float, float], None] | None = None
) -> Trial:
    """Serves a labelled version from its own files and asks it the questions it carries.

    Raises:
        GateError: It says something else than when it was scored.
        TransientError: The server did not get healthy.
    """
    questions = scoring.trial_questions(folder)
    with served(folder, site, progress=progress) as server:
        answers = scoring.label_at(server.url, [question["record"] for question in questions])
    for question, answer in zip(questions, answers, strict=True):
        if not scoring.agrees(answer, question["expected"]):
            raise GateError(
                f"{version} is not rolled out, what was live stays live: asked {_shown(question['record'])}, it says "
                f"{_shown(answer)} when served and said {_shown(question['expected'])} when it was scored. Compare the versions "
                "of transformers and torch with those in its requirements.txt"
            )
    prompts, said = (tuple(map(_shown, records)) for records in ([one["record"] for one in questions], answers))
    return Trial(said, server.engine, 1 + len(questions), prompts)


def _shown(value: object) -> str:
    return one_line(json.dumps(value, ensure_ascii=False), 300)


def compare(version: RegisteredVersion, prompts: Sequence[str], served_answers: Sequence[str], expected: Sequence[str]) -> None:
    """Checks that served answers are the registered model's.

    White space at the ends does not count: the engine removes it for models of the Qwen family.

    Raises:
        GateError: One differs.
    """
    for prompt, answer, wanted in zip(prompts, served_answers, expected, strict=True):
        if answer.strip() != wanted.strip():
            raise GateError(
                f"{version} is not rolled out, what was live stays live: asked {one_line(prompt, 60)!r}, it answers "
                f"{one_line(answer, 120)!r} when served and {one_line(wanted, 120)!r} when loaded from the registry. Compare the "
                "engine's version and the model's generation_config.json with those it was registered with."
            )
