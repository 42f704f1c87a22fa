"""`textmill compare`: grids, what they refuse, and the whole of it on what ships."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from flows.__main__ import main
from flows.compare import choose_criterion, load_comparison, parse_axis
from flows.gc import require_no_run
from flows.pipeline import AnyRecipe
from flows.presets import load_recipe
from tasks.core.errors import RecipeError
from tasks.core.site import Site
from tests.chain import ChainRun, textmill
from tests.flows.test_labelled import _link_or_copy


@pytest.mark.parametrize(
    ("text", "field", "values"),
    [
        ("tune.seed=0,1", "tune.seed", ["0", "1"]),
        ("a.b = x , y", "a.b", ["x", "y"]),
        ("tune.method={kind='lora',rank=8},{kind='full'}", "tune.method", ["{kind='lora',rank=8}", "{kind='full'}"]),
        ("a=[1,2],[3]", "a", ["[1,2]", "[3]"]),
        ("a='x,y',\"z\"", "a", ["'x,y'", '"z"']),
    ],
)
def test_values_stand_between_commas_outside_of_brackets_and_quotes(text: str, field: str, values: list[str]) -> None:
    assert parse_axis(text) == (field, values)


def test_every_combination_is_a_recipe_and_seeds_are_not_chosen_among(site: Site) -> None:
    grid = ["tune.optim.learning_rate=1e-4,3e-4", "tune.method.kind=full,head,lora", "tune.seed=0,1"]
    found = load_comparison("labels-toy", ["tune.max_tokens=32"], grid, None, site)
    assert len(found.cells) == 2 * 3 * 2
    last = found.cells[-1].recipe.tune
    assert (last.optim.learning_rate, last.method.kind, last.seed, last.max_tokens) == (3e-4, "lora", 1, 32)
    assert found.spec.cells[-1].settings == {"tune.optim.learning_rate": "3e-4", "tune.method.kind": "lora"}
    assert found.spec.cells[-1].seeds == {"tune.seed": "1"}
    assert found.spec.criterion == "macro_f1"


def test_a_grid_of_kinds_keeps_what_is_set_in_the_part(site: Site) -> None:
    found = load_comparison("demo", [], ["tune.method.rank=4,8", "tune.method.kind=lora"], None, site)
    assert [cell.recipe.tune.method.rank for cell in found.cells] == [4, 8]
    with pytest.raises(RecipeError, match=r"--grid tune\.method\.kind=full: .*\n.*tune\.method\.full\.rank: no such key"):
        load_comparison("demo", ["tune.method.rank=4"], ["tune.method.kind=lora,full"], None, site)


def some_sets(part: str, *rest: str) -> str:
    """Returns a grid of one set or another of that part, by what follows its name."""
    paths = "paths=['package:corpus/chinese_poetry.jsonl.gz']"
    return f"{part}=" + ",".join(f"[{{name='a',licence='x',{paths},{one}}}]" for one in rest)


@pytest.mark.parametrize(
    ("preset", "grid"),
    [
        ("demo", some_sets("instructions.train", "weight=1", "weight=3")),
        ("demo", "instructions.shuffle_answers=true,false"),
        ("demo", "instructions.seed=0,1"),
        ("labels-toy", "labelled.seed=0,1"),
        ("dpo-demo", "preference.pairs.seed=0,1"),
    ],
)
def test_what_is_learned_may_vary_where_the_validation_items_do_not(site: Site, preset: str, grid: str) -> None:
    assert len(load_comparison(preset, [], [grid], None, site).cells) == 2


def test_labelled_training_sets_may_vary_where_none_of_their_items_select(site: Site) -> None:
    grid = some_sets("labelled.train", "label_column='format'", "label_column='author'")
    with pytest.raises(RecipeError, match="--grid varies labelled, and so the validation items that choose"):
        load_comparison("labels-toy", [], [grid], None, site)
    selecting = some_sets("labelled.validation", "label_column='format'").replace("'a'", "'b'")
    assert len(load_comparison("labels-toy", [selecting], [grid], None, site).cells) == 2


def test_what_chooses_is_the_gate_s_figure_or_the_loss() -> None:
    labels = load_recipe("labels-toy")
    assert choose_criterion(load_recipe("demo"), None) == "loss"
    assert choose_criterion(load_recipe("labels-toy", ["gate.metric=accuracy"]), None) == "accuracy"
    assert choose_criterion(labels, "mcc") == "mcc"
    assert choose_criterion(labels, "f1") == "f1"
    assert choose_criterion(load_recipe("labels-toy", ["gate.metric=f1"]), None) == "f1"
    assert choose_criterion(load_recipe("sst2"), None) == "accuracy", "what GLUE reports"
    of_values = load_recipe("sts-en", ["gate.metric=spearman"])
    assert choose_criterion(of_values, None) == "pearson", "spearman is a figure of the test items alone"
    with pytest.raises(RecipeError, match=r"'pearson' is no figure on the validation items.*loss, accuracy, macro_f1, mcc"):
        choose_criterion(labels, "pearson")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["labels-toy", "--grid", "tune.optin.learning_rate=1,2"], "tune.optin: no such key; did you mean 'optim'"),
        (["demo", "--grid", "tune.method.kind=full,lorra"], "tune.method: Input tag 'lorra'"),
        (["demo", "--grid", "tune.method.kind=lora,full", "--grid", "tune.method.rank=4"], "tune.method.full.rank: no such key"),
        (["demo", "--grid", "tune.seed"], "is not of the form a.b=value,value"),
        (["demo", "--grid", "tune.seed=1,"], "is not of the form a.b=value,value"),
        (["demo", "--grid", "tune.seed=1", "--grid", "tune.seed=2"], "names tune.seed twice"),
        (["demo", "--grid", "tune.seed=1,1"], "asks for the same training twice: tune.seed=1 and tune.seed=1"),
        (["demo", "--grid", "deploy.max_new_tokens=8,16"], "leave out what changes nothing of it"),
        (["demo", "--grid", "gate.forgetting=0.1,0.2"], "asks for the same training twice"),
        (["demo", "--grid", "name=a,b"], "asks for the same training twice"),
        (["labels-toy", "--grid", "registry.trial_items=8,16"], "asks for the same training twice"),
        (["labels-toy", "--grid", "evaluate.bootstrap.seed=0,1"], "asks for the same training twice"),
        (
            ["labels-toy", "--grid", "labelled.max_chars=40,4000"],
            "--grid varies labelled, and so the validation items that choose",
        ),
        (["labels-toy", "--grid", "labelled.validation_share=0.05,0.3"], "--grid varies labelled"),
        (["demo", "--grid", "instructions.max_chars=100,4000"], "--grid varies instructions, and so the validation items"),
        (["demo", "--grid", "instructions.validation_share=0.05,0.2"], "--grid varies instructions"),
        (["dpo-demo", "--grid", "preference.pairs.max_chars=100,4000"], "--grid varies preference.pairs"),
        (["demo", "--grid", "tune.seed=1", "--by", "accuracy"], "there are: loss"),
        (["sst2", "--grid", "tune.optim.learning_rate=off,1e-4"], "set tune.optim.learning_rate"),
        (["demo", "--grid", "tune.method.kind=qlora,full"], "qlora"),
        (["demo", "--grid", "tokenizer.source.vocab_size=2048,4096"], "--grid varies the tokenizer"),
        (["demo", "--grid", "dedup.test_share=0.05,0.1"], "--grid varies the tokenizer through dedup"),
        (["dpo-demo", "--grid", "preference.learn.loss.beta=0.1,0.5"], "leave it out, or choose --by preference_accuracy"),
        (["dpo-demo", "--grid", "preference.kind=none,pairs", "--by", "preference_accuracy"], "there are: loss"),
        (["gone", "--grid", "tune.seed=1"], "no recipe 'gone'"),
    ],
)
def test_a_grid_that_cannot_be_run_ends_with_code_2_before_anything_is_built(
    site: Site, arguments: list[str], message: str
) -> None:
    result = CliRunner().invoke(main, ["compare", *arguments])
    assert result.exit_code == 2, result.output
    assert message in result.output
    assert "Traceback" not in result.output
    assert not site.store_dir.exists()


def test_the_run_of_a_comparison_has_its_grid_as_parameters(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    from flows import runs

    told: list[tuple[str, dict[str, Any]]] = []
    monkeypatch.setattr(runs, "compare_cell", lambda label, recipe: None)
    monkeypatch.setattr(runs, "run_stages", lambda name, asked, build: told.append((name, asked)))
    runs.compare.fn("labels-toy", ("tune.seed=0,1",), (), None)
    ((name, asked),) = told
    assert (name, asked["criterion"]) == ("labels-toy", "macro_f1")
    assert [cell["seeds"] for cell in asked["cells"]] == [{"tune.seed": "0"}, {"tune.seed": "1"}]


def test_gc_removes_nothing_between_the_cells_of_a_comparison(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    from flows import runs

    def ended(label: str, recipe: AnyRecipe) -> None:
        with pytest.raises(RecipeError, match=r"run the-comparison .*works on"):
            require_no_run(site)

    monkeypatch.setattr(runs.flow_run, "get_id", lambda: "the-comparison")
    monkeypatch.setattr(runs, "compare_cell", ended)
    monkeypatch.setattr(runs, "run_stages", lambda *_: ended("", None))
    runs.compare.fn("labels-toy", ("tune.seed=0,1",), (), None)
    require_no_run(site)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_methods_and_seeds_are_compared_and_the_same_command_goes_on(chain: ChainRun, tmp_path: Path) -> None:
    """On a copy of the state of the shared run, whose model is the base; one cell is there before."""
    state = tmp_path / ".textmill"
    shutil.copytree(chain.state, state, copy_function=lambda one, other: _link_or_copy(Path(one), Path(other)))
    short = ["--set", "tune.train.num_epochs=0.3"]
    first = textmill(state, "run", "labels-toy", *short, "--set", "tune.method.kind=head", "--until", "summarize")
    assert first.code == 0, first.output
    command = ["compare", "labels-toy", *short, "--grid", "tune.method.kind=head,lora", "--grid", "tune.seed=0,1"]
    run = textmill(state, *command)
    assert run.code == 0, run.output
    built = [name for name, _ in run.results]
    assert (built.count("tune_labelled"), built.count("summarize"), built.count("compare_tunings")) == (3, 3, 1)
    for part in ("4 runs, chosen by macro_f1", "lora", "the first on test items", "report.html"):
        assert part in run.output, part
    again = textmill(state, *command)
    assert (again.code, again.results) == (0, []), again.output
    facts = run.manifests("compare_tunings")[-1].facts
    assert facts["num_runs"] == 4
    assert set(facts["chosen"]) == {"tune.method.kind"}
