"""`textmill run`: a recipe, from the terminal, to its summary.

In: a preset and overrides. Out: the run's summary, sample answers, and where to look further. Invariant: what the run
raised leaves with its type, so that the exit code says what happened.
"""

import json
import time
from collections.abc import Iterator, Sequence
from importlib.metadata import version

from rich.console import Console
from rich.markup import escape

from flows.display import TerminalObserver, summary_table
from flows.labelled_recipe import LabelledRecipe
from flows.pipeline import LAST_STAGES, AnyRecipe, chains_of, registers, stages_of
from flows.presets import load_recipe, require_own_name
from flows.runner import require_reach
from flows.servers import prefect_api, wait_for_prefect
from tasks.contracts import Deployment, ModelVersion
from tasks.core.artifact import Artifact
from tasks.core.errors import RecipeError
from tasks.core.run import watching
from tasks.core.signals import ended_by_sigterm
from tasks.core.site import Site, current_site


def launch(preset: str, overrides: Sequence[str], until: str | None, part: str, keep_serving: bool) -> None:
    """Runs a recipe as a Prefect flow in this process and shows how it goes.

    Raises:
        PipelineError: What the run raised.
    """
    start = time.monotonic()
    recipe = load_recipe(preset, overrides)
    require_choice("--part", part, list(chains_of(recipe)))
    if until is not None:
        require_choice("--until", until, list(stages_of(recipe)))
    require_reach(chains_of(recipe)[part], recipe, until)
    last = until or LAST_STAGES[chains_of(recipe)[part]]
    if registers(recipe, last):
        require_own_name(preset, overrides, recipe)
    if keep_serving:
        _require_roll_out(recipe, last)
    site = current_site()
    console = Console()
    console.print(
        f"[bold]textmill {version('textmill')}[/]  recipe [bold]{recipe.name}[/], state in {site.root}", highlight=False
    )
    observer = TerminalObserver(console)
    try:
        with ended_by_sigterm(), prefect_api(site) as api_url, observer, watching(observer):
            _run_flow(part, recipe, until, api_url)
    finally:
        if observer.records:
            console.print(summary_table(recipe.name, observer.records))
    _show_outcome(console, site, observer, recipe, keep_serving)
    console.print(f"[bold green]done[/] in {time.monotonic() - start:.1f} s", highlight=False)


def _require_roll_out(recipe: AnyRecipe, last: str) -> None:
    wanted = LAST_STAGES[chains_of(recipe)["pipeline"]]
    if last != wanted:
        raise RecipeError(f"--keep-serving needs what {wanted} rolls out, and this run ends after {last}; leave one of them out")


def require_choice(option: str, value: str, choices: list[str]) -> None:
    """Checks a value against what there is.

    Raises:
        RecipeError: It is not among `choices`.
    """
    if value not in choices:
        raise RecipeError(f"{option} {value!r} is not known; there are: {', '.join(choices)}")


def _run_flow(part: str, recipe: AnyRecipe, until: str | None, api_url: str) -> None:
    from flows import runs  # imports Prefect, while the server starts

    wait_for_prefect(api_url)
    getattr(runs, "labelled" if isinstance(recipe, LabelledRecipe) else part)(recipe, until)


def _show_outcome(console: Console, site: Site, observer: TerminalObserver, recipe: AnyRecipe, keep_serving: bool) -> None:
    artifacts = [record.artifact for record in observer.records if record.artifact is not None]
    for deployment in (artifact for artifact in artifacts if isinstance(artifact, Deployment)):
        _show_answers(console, deployment)
        if keep_serving:
            from deploy.rollout import start_detached

            console.print(f"serving at [bold]{start_detached(site, deployment.name)}[/]", highlight=False)
    for line in _further(artifacts, recipe):
        console.print(line, highlight=False, soft_wrap=True)


def _further(artifacts: Sequence[Artifact], recipe: AnyRecipe) -> Iterator[str]:
    """Yields commands that have something to show after this run."""
    if artifacts:
        yield f"look further:  textmill show {artifacts[-1].address}   textmill ls   textmill ui"
    if any(isinstance(artifact, ModelVersion) for artifact in artifacts):
        yield f"try the model: textmill chat {recipe.registry.name}   textmill serve {recipe.registry.name}"


def _show_answers(console: Console, deployment: Deployment) -> None:
    console.print(f"[bold]{deployment.name} version {deployment.version} answers[/] (greedy)", highlight=False)
    for item in json.loads((deployment.path / "answers.json").read_text(encoding="utf-8"))[:3]:
        console.print(f"  [cyan]Q[/] {escape(item['prompt'])}\n  [green]A[/] {escape(item['answer'])}", highlight=False)
