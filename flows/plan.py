"""`textmill plan`: what a run would reuse or build, and which field is the reason.

In: a recipe and the store. Out: one line a stage. Invariant: nothing is built, no server is asked, nothing heavy is
imported: effects (registry, roll-out) are shown as asked again when the run gets there.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from flows.advise import advice_line
from flows.launch import require_choice
from flows.outlook import pretrain_outlook, pretrain_scale, scale_line, tuning_outlook
from flows.pipeline import AnyRecipe, chains_of, stages_of
from flows.presets import load_recipe
from flows.recipe import Recipe
from flows.runner import flat_params, require_reach
from tasks.core.artifact import Artifact, Spec
from tasks.core.errors import RecipeError
from tasks.core.run import Run, running
from tasks.core.site import Site, current_site
from tasks.core.source import code_hash
from tasks.core.stage import Stage, Stopped
from tasks.core.store import Manifest, Store, read_manifest

Action = Literal["reuse", "build", "ask"]


@dataclass(frozen=True, slots=True)
class Pending:
    """Stands for an artifact that would be built."""

    stage: str


@dataclass(frozen=True, slots=True)
class Step:
    """What would happen to one stage, and why."""

    stage: str
    action: Action
    reason: str
    address: str = ""


class Planner:
    """Takes the place of every stage and notes what it would do."""

    def __init__(self, site: Site, until: str | None) -> None:
        self.steps: list[Step] = []
        self.found: dict[str, Artifact] = {}
        self._site = site
        self._until = until
        self.manifests = [manifest for _, manifest in Store(site.store_dir).manifests()]

    def __call__(self, stage: Stage[Any], spec: Spec, inputs: tuple[Any, ...]) -> Any:
        """Notes what `stage` would do and returns its artifact or what stands for it."""
        result = self._plan(stage, spec, inputs)
        if stage.ends(self._until, spec):
            raise Stopped(stage.name)
        return result

    def _plan(self, stage: Stage[Any], spec: Spec, inputs: tuple[Any, ...]) -> Any:
        if stage.passes is not None and stage.passes(spec):
            self.steps.append(Step(stage.name, "reuse", "off"))
            return inputs[0]
        pending = [source.stage for source in inputs if isinstance(source, Pending)]
        if stage.always_runs and not pending:
            self.steps.append(Step(stage.name, "ask", "looks at the report each time"))
            return inputs[-1]
        if pending:
            return self._build(stage, f"{' and '.join(dict.fromkeys(pending))} will be built")
        found = Store(self._site.store_dir).find(stage.signature.output, stage.fingerprint(spec, inputs, self._site))
        if found is None:
            return self._build(stage, self._difference(stage, spec, inputs))
        self.steps.append(self._reuse(stage, found))
        return found

    def _build(self, stage: Stage[Any], reason: str) -> Pending:
        self.steps.append(Step(stage.name, "build", reason))
        return Pending(stage.name)

    def _reuse(self, stage: Stage[Any], found: Artifact) -> Step:
        self.found[stage.name] = found
        notes = [found.summary()]
        if read_manifest(found.path).code_hash != code_hash(stage.module):
            notes.insert(0, "made by other code of the same stage version;")
        action: Action = "ask" if stage.holds else "reuse"
        return Step(stage.name, action, " ".join(notes), found.address)

    def _difference(self, stage: Stage[Any], spec: Spec, inputs: tuple[Artifact, ...]) -> str:
        """Says which field differs from the nearest artifact of this stage."""
        wanted = stage.recipe_of(spec, inputs, self._site)
        made = [manifest for manifest in self.manifests if manifest.stage == stage.name]
        if not made:
            return "never built"
        differences = [differing_fields(manifest, wanted) for manifest in made]
        return "; ".join(min(differences, key=len)[:4])


def differing_fields(manifest: Manifest, wanted: dict[str, Any]) -> list[str]:
    """Returns one phrase for each field in which `wanted` differs from what made an artifact."""
    phrases = []
    if manifest.stage_version != wanted["stage_version"]:
        phrases.append(f"stage version {manifest.stage_version} -> {wanted['stage_version']}")
    phrases += _changes("", flat_params(manifest.spec), flat_params(wanted["spec"]))
    phrases += _changes("version of ", manifest.versions, wanted["versions"])
    old = {name: entry.digest[:12] for name, entry in manifest.inputs.items()}
    phrases += _changes("input ", old, {name: digest[:12] for name, digest in wanted["inputs"].items()})
    if "origins" in wanted:
        made = {name: entry.fingerprint[:12] for name, entry in manifest.inputs.items()}
        phrases += _changes("making of ", made, {name: number[:12] for name, number in wanted["origins"].items()})
    return phrases


def _changes(prefix: str, old: dict[str, str], new: dict[str, str]) -> list[str]:
    names = sorted(old.keys() | new.keys())
    return [
        f"{prefix}{name}: {_short(old.get(name))} -> {_short(new.get(name))}" for name in names if old.get(name) != new.get(name)
    ]


def _short(value: str | None) -> str:
    if value is None:
        return "unset"
    return value if len(value) <= 40 else value[:37] + "..."


def plan_recipe(recipe: AnyRecipe, site: Site, until: str | None = None) -> list[Step]:
    """Returns what a run of `recipe` would do, stage by stage."""
    return _planned(recipe, site, until).steps


def found_artifacts(recipe: AnyRecipe, site: Site, until: str) -> dict[str, Artifact]:
    """Returns the artifacts that a run of `recipe` would reuse, by stage, up to that of `until`."""
    return _planned(recipe, site, until).found


def require_stage(recipe: AnyRecipe, stage: str) -> None:
    """Checks that a run of `recipe` has a stage whose artifact is to be looked at.

    Raises:
        RecipeError: It has none.
    """
    if stage not in stages_of(recipe):
        raise RecipeError(f"recipe {recipe.name} has no stage {stage}: there is nothing to inspect")


def _planned(recipe: AnyRecipe, site: Site, until: str | None) -> Planner:
    recipe.check_site(site)
    planner = Planner(site, until)
    try:
        with running(Run(site, recipe.name, planner=planner)):
            chains_of(recipe)["pipeline"](recipe.resolved())
    except Stopped:
        pass
    return planner


def show_plan(preset: str, overrides: Sequence[str], until: str | None) -> None:
    """Prints the plan of a preset, what pretraining will need, and what should be known of the tuning.

    Raises:
        RecipeError: A device has too little memory for a pretraining that has to be built, cannot do the tuning, or a stage takes
            no such model.
    """
    recipe, site = load_recipe(preset, overrides), current_site()
    if until is not None:
        require_choice("--until", until, list(stages_of(recipe)))
    require_reach(chains_of(recipe)["pipeline"], recipe, until)
    planner = _planned(recipe, site, until)
    console = Console()
    _show_steps(console, recipe.name, planner.steps)
    for warning in _forewarnings(recipe, planner.found):
        console.print(f"[yellow]warning[/] {escape(warning)}", highlight=False, soft_wrap=True)
    if {"tune", "tune_labelled"} & {step.stage for step in planner.steps}:
        console.print(escape(advice_line(recipe, site, planner.found)), highlight=False, soft_wrap=True)
    if isinstance(recipe, Recipe):
        _show_outlook(console, recipe, site, planner)


def _forewarnings(recipe: AnyRecipe, found: dict[str, Artifact]) -> list[str]:
    """Returns what should be known of the tuning, whose base's rate may have been derived."""
    if isinstance(recipe, Recipe) and (scale := pretrain_scale(recipe, found)) is not None:
        return recipe.forewarnings(recipe.pretrain.peak_of(scale))
    return recipe.forewarnings()


def _show_outlook(console: Console, recipe: Recipe, site: Site, planner: Planner) -> None:
    to_build = {step.stage for step in planner.steps if step.action == "build"}
    if "tune" in to_build and (line := tuning_outlook(recipe, site, planner.found)) is not None:
        console.print(line, highlight=False, soft_wrap=True)
    if "pretrain" not in to_build or recipe.pretrain.start.kind == "as_given":
        return
    console.print(scale_line(recipe.pretrain, pretrain_scale(recipe, planner.found)), highlight=False, soft_wrap=True)
    if (outlook := pretrain_outlook(recipe, site, planner.found, planner.manifests)) is not None:
        for line in outlook.lines():
            console.print(line, highlight=False, soft_wrap=True)
        outlook.require_room()


def _show_steps(console: Console, name: str, steps: Sequence[Step]) -> None:
    colours = {"reuse": "cyan", "build": "green", "ask": "yellow"}
    table = Table(title=f"plan of {name}", title_justify="left")
    for column in ("stage", "action", "why", "artifact"):
        table.add_column(column, overflow="fold", no_wrap=column == "artifact")
    for step in steps:
        table.add_row(step.stage, f"[{colours[step.action]}]{step.action}[/]", escape(step.reason), step.address)
    console.print(table)
    counts = {action: sum(step.action == action for step in steps) for action in colours}
    console.print(f"{counts['build']} to build, {counts['reuse']} to reuse, {counts['ask']} asked again", highlight=False)
