"""Recipes of kind labelled: how they load, what they refuse, and the whole chain on what ships."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from flows.labelled_recipe import LabelledRecipe
from flows.pipeline import LAST_STAGES, STAGES, chains_of, labelled, stages_of
from flows.plan import Planner, plan_recipe
from flows.presets import load_chat_recipe, load_recipe
from flows.runner import require_reach
from tasks.core.artifact import Spec
from tasks.core.errors import RecipeError
from tasks.core.run import Run, running
from tasks.core.site import Site
from tasks.core.stage import Stage
from tests.chain import ChainRun, textmill

ADOPTED = ("sst2", "sts-en")


def write(folder: Path, text: str) -> str:
    path = folder / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_a_base_of_ones_own_is_made_by_the_very_recipe_it_names() -> None:
    recipe = load_recipe("labels-toy")
    assert isinstance(recipe, LabelledRecipe)
    assert recipe.base.recipe == load_recipe("ci")
    assert recipe.resolved().base.recipe == load_recipe("ci").resolved()
    assert recipe.labelled.train[0].paths[0].startswith("package:")


def test_a_child_changes_the_recipe_of_its_base(tmp_path: Path) -> None:
    path = write(tmp_path, 'extends = "labels-toy"\nname = "mine"\n[base.recipe.pretrain.train]\nnum_tokens = 7\n')
    recipe = load_recipe(path, ["base.recipe.pretrain.seed=3", "tune.seed=4", "tune.method.kind=lora"])
    found = recipe.base.recipe.pretrain
    assert (found.train.num_tokens, found.seed, recipe.tune.seed) == (7, 3, 4)
    assert found.model == load_recipe("ci").pretrain.model
    assert recipe.tune.method.rank == 16


def test_the_recipe_of_a_base_extends_a_file_beside_the_one_that_says_so(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text('extends = "ci"\nname = "own"\n', encoding="utf-8")
    parent = tmp_path / "parent"
    parent.mkdir()
    (parent / "own.toml").write_text('extends = "ci"\nname = "other"\n', encoding="utf-8")
    path = write(tmp_path, 'extends = "labels-toy"\n[base.recipe]\nextends = "own.toml"\n')
    assert load_recipe(path).base.recipe.name == "own"
    (parent / "mine.toml").write_text(f'extends = "{path}"\nname = "mine"\n', encoding="utf-8")
    assert load_recipe(str(parent / "mine.toml")).base.recipe.name == "own"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("tune.optin=1", r"tune\.optin: no such key; did you mean 'optim'\?"),
        ("kind=labeled", "kind 'labeled' is no kind of recipe; leave it out, or set labelled"),
        (
            "base.recipe.pretrain={objective={kind='span_corruption'},model={family='t5',residual_init='same'}}",
            "'span_corruption' takes no head for labels",
        ),
        ("base={kind='adopted',spec={source={kind='none'}}}", "name a folder, a package or a model of the hub"),
        ("tune.method.kind=prefix", "'prefix'.*does not match any of the expected tags"),
    ],
)
def test_a_mistake_is_named_with_its_path(change: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load_recipe("labels-toy", [change])


def test_an_adopted_base_needs_a_rate_where_the_tuning_is_reached() -> None:
    recipe = load_recipe("sst2", ["tune.optim.learning_rate=off"])
    require_reach(labelled, recipe, "base")
    with pytest.raises(RecipeError, match=r"set tune\.optim\.learning_rate"):
        require_reach(labelled, recipe, None)
    require_reach(labelled, load_recipe("sst2", ["tune.optim.learning_rate=off", "tune.method.kind=lora"]), None)
    require_reach(labelled, load_recipe("labels-toy", ["tune.optim.learning_rate=off"]), None)


def test_masked_models_flow_on_into_labelled_tuning() -> None:
    masked = load_recipe("demo-masked")
    with pytest.raises(RecipeError, match="a recipe of kind labelled tunes it on labelled text"):
        masked.require_reach("deploy", STAGES)
    assert load_recipe("sentiment-zh").base.recipe == masked


def test_a_recipe_of_labels_is_no_recipe_of_a_chat_model() -> None:
    with pytest.raises(RecipeError, match="'sst2' is a recipe of kind labelled"):
        load_chat_recipe("sst2")


@pytest.mark.parametrize("preset", ["labels-toy", *ADOPTED])
def test_the_plan_has_every_stage_in_order(preset: str, site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    recipe = load_recipe(preset)
    if preset in ADOPTED:
        recipe = recipe.model_copy(update={"labelled": load_recipe("labels-toy").labelled})  # its files ship
    steps = [step.stage for step in plan_recipe(recipe, site)]
    assert list(dict.fromkeys(steps)) == list(stages_of(recipe))
    assert steps[-1] == LAST_STAGES[labelled]
    assert [step.stage for step in plan_recipe(recipe, site, until="tune_labelled")][-1] == "tune_labelled"
    assert list(chains_of(recipe)) == ["pipeline"]


class SpecPlanner(Planner):
    """Notes what each stage is asked."""

    def __init__(self, site: Site) -> None:
        super().__init__(site, None)
        self.specs: list[tuple[str, Spec]] = []

    def __call__(self, stage: Stage[Any], spec: Spec, inputs: tuple[Any, ...]) -> Any:
        self.specs.append((stage.name, spec))
        return super().__call__(stage, spec, inputs)


@pytest.mark.parametrize(("preset", "compared", "num_scored"), [("labels-toy", "evaluate_labels", 3), ("ci", "evaluate", 3)])
def test_every_interval_is_as_sure_as_the_recipe_asks(site: Site, preset: str, compared: str, num_scored: int) -> None:
    recipe = load_recipe(preset, ["evaluate.bootstrap.confidence=0.6"])
    planner = SpecPlanner(site)
    with running(Run(site, recipe.name, planner=planner)):
        chains_of(recipe)["pipeline"](recipe.resolved())
    asked = {name: spec.bootstrap.confidence for name, spec in planner.specs if hasattr(spec, "bootstrap")}
    assert asked == {"summarize": 0.6, compared: 0.6}
    scored = [spec.settings.bootstrap.confidence for _, spec in planner.specs if hasattr(spec, "settings")]
    assert scored == [0.6] * num_scored


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_whole_chain_on_what_ships(chain: ChainRun, tmp_path: Path) -> None:
    """On a copy of the state of the shared run, whose model is the base; a second run changes nothing."""
    state = tmp_path / ".textmill"
    shutil.copytree(chain.state, state, copy_function=lambda one, other: _link_or_copy(Path(one), Path(other)))
    run = textmill(state, "run", "labels-toy")
    assert run.code == 0, run.output
    results = dict(run.results)
    assert (results["pretrain"], results["tune_labelled"], results["deploy_labelled"]) == ("reused", "built", "built")
    assert "textmill-labels-toy version 1 answers" in run.output
    report = run.manifests("evaluate_labels")[-1].facts
    assert report["metrics"]["tuned/macro_f1"]["mean"] > 0.9
    again = textmill(state, "run", "labels-toy")
    assert again.code == 0, again.output
    assert {result for name, result in again.results if name != "require_verdict"} == {"reused"}
    asked = textmill(state, "chat", "textmill-labels-toy", "--prompt", "ls 命令用来显示目标列表")
    assert '"label": "command"' in asked.output, asked.output
    assert textmill(state, "run", "labels-toy", "--part", "corpus").code == 2


def _link_or_copy(source: Path, target: Path) -> None:
    """Artifacts never change and may be links; what services write must not be shared."""
    if "store" in source.parts:
        os.link(source, target)
    else:
        shutil.copy2(source, target)
