"""The command line: quick help, exit codes, messages that say what to do."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from pydantic import SecretStr

from flows import doctor
from flows.__main__ import _note_defect, main
from flows.pipeline import labelled
from flows.presets import load_recipe
from tasks.core import errors
from tasks.core.errors import RecipeError
from tasks.core.site import Site, current_site, settings_environment
from tasks.core.store import Store, process_identity
from tests.core.toys import CountSpec, ScaleSpec, count, scale


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(main, list(arguments))
    return result.exit_code, result.output


def test_help_loads_nothing_heavy_and_lists_every_command() -> None:
    probe = (
        "import sys; sys.argv = ['textmill', '--help']\nfrom flows.__main__ import main\ntry: main()\nexcept SystemExit: pass\n"
    )
    probe += "print('LOADED', [m for m in ('prefect', 'torch', 'pydantic', 'rich', 'numpy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert "LOADED []" in done.stdout
    for command in (
        "init",
        "run",
        "compare",
        "plan",
        "ls",
        "show",
        "inspect",
        "chat",
        "serve",
        "rollback",
        "gc",
        "join",
        "doctor",
        "ui",
    ):
        assert f"\n  {command} " in done.stdout


def test_each_error_has_its_own_exit_code() -> None:
    kinds = [
        errors.PipelineError,
        errors.RecipeError,
        errors.GateError,
        errors.ContractError,
        errors.StageError,
        errors.TransientError,
    ]
    assert [kind.exit_code for kind in kinds] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "demoo"], "did you mean 'demo'"),
        (["run", "demo", "--set", "pretrain.depht=1"], "no such key"),
        (["run", "demo", "--until", "cleen"], "--until 'cleen' is not known; there are: ingest, clean"),
        (["plan", "demo", "--until", "cleen"], "--until 'cleen' is not known"),
        (["run", "demo", "--part", "corpus", "--until", "gate"], "until 'gate' is no stage of this part"),
        (["run", "demo", "--keep-serving", "--until", "gate"], "--keep-serving needs what deploy rolls out"),
        (["run", "demo", "--keep-serving", "--part", "corpus"], "and this run ends after mix"),
        (["inspect", "sst2"], "recipe sst2 has no stage clean"),
        (["inspect", "sst2", "--show-mask"], "recipe sst2 has no stage instructions"),
        (["show", "nothing"], "no artifact 'nothing'"),
    ],
)
def test_a_wrong_request_ends_with_code_2_and_a_remedy(site: Site, arguments: list[str], message: str) -> None:
    code, output = run(*arguments)
    assert code == 2
    assert message.lower() in output.lower()
    assert "Traceback" not in output


def test_a_wrong_setting_is_named(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEXTMILL_NUM_PROCESSES", "many")
    current_site.cache_clear()
    code, output = run("plan", "demo")
    assert code == 2
    assert "num_processes: Input should be a valid integer" in output


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b'device = "cpu', "is not TOML"),
        (b'device = "\xff"', "is not TOML"),
        (b'[mlflow]\nmlflow_token = "s3cr"', "mlflow: no such setting"),
        (b"mlflow_token = [['s3cr']]", "mlflow_token: Input should be a valid string"),
        (None, "there is no such file"),
    ],
)
def test_a_slip_in_the_settings_file_names_the_file_and_no_secret(
    site: Site, tmp_path: Path, text: bytes | None, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "site.toml"
    if text is not None:
        path.write_bytes(text)
    monkeypatch.setenv("TEXTMILL_CONFIG", str(path))
    current_site.cache_clear()
    code, output = run("plan", "demo")
    assert code == 2, output
    assert str(path) in output
    assert message in output
    assert "s3cr" not in output


@pytest.mark.parametrize("has_file", [True, False])
def test_settings_reach_a_process_in_another_folder(tmp_path: Path, has_file: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    text = 'state_dir = "state"\ndata_dir = "data"\nserve_port = 81\ncompile = true\nmlflow_token = "t"\nretry_delay_s = 1.5\n'
    if has_file:
        (tmp_path / "textmill.toml").write_text(text, encoding="utf-8-sig")
    for name in ("TEXTMILL_STATE_DIR", "TEXTMILL_RETRY_DELAY_S"):
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    here = Site()
    for name, value in settings_environment(here).items():
        monkeypatch.setenv(name, value)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "textmill.toml").write_text(
        'num_nodes = 2\nrendezvous = "there:29500"\nmlflow_uri = "http://there"'
    )
    monkeypatch.chdir(tmp_path / "elsewhere")
    folders = {"state_dir": tmp_path / here.state_dir, "data_dir": tmp_path / "data" if has_file else None}
    assert Site() == here.model_copy(update=folders)
    assert (Site().mlflow_token is not None) is has_file


def test_a_defect_is_told_where_nothing_can_be_written(site: Site) -> None:
    site.root.write_text("no folder")
    told = _note_defect(ValueError("odd"))
    assert "unexpected ValueError: odd" in told
    assert told.rstrip().endswith("ValueError: odd")


def test_init_writes_a_recipe_that_loads_and_never_overwrites(site: Site, tmp_path: Path) -> None:
    data = tmp_path / "texts"
    data.mkdir()
    (data / "a.txt").write_text("some text")
    path = tmp_path / "my.toml"
    code, output = run("init", str(path), "--data", str(data))
    assert (code, "textmill plan" in output) == (0, True)
    recipe = load_recipe(str(path))
    assert (recipe.name, recipe.registry.name) == ("my", "my")
    assert [source.paths for source in recipe.ingest.sources] == [(str(data),)]
    assert path.read_text().count("#") > 5
    assert run("init", str(path), "--data", str(data))[0] == 2
    assert run("init", str(tmp_path / "b.toml"), "--data", str(tmp_path / "gone"))[0] == 2


def test_a_recipe_that_would_register_under_the_name_of_its_preset_is_not_started(site: Site, tmp_path: Path) -> None:
    from flows import runs

    path = tmp_path / "mine.toml"
    path.write_text('extends = "demo"\nname = "mine"\n', encoding="utf-8")
    code, output = run("run", str(path))
    assert (code, "registers under 'textmill-demo'" in output, "set registry.name" in output) == (2, True, True)
    with pytest.raises(RecipeError, match="registers under 'textmill-demo'"):
        runs.recipe.fn(str(path))
    assert not site.store_dir.exists()


def test_a_recipe_file_is_run_by_its_path(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from flows import runs

    ran: list[tuple[Any, ...]] = []
    monkeypatch.setattr(runs, "_as_state", lambda *given: ran.append(given))
    path = tmp_path / "mine.toml"
    path.write_text('extends = "labels-toy"\nname = "mine"\n', encoding="utf-8")
    runs.recipe.fn(str(path), ("tune.seed=3",), "summarize")
    ((chain, recipe, until),) = ran
    assert (chain, recipe.name, recipe.tune.seed, until) == (labelled, "mine", 3, "summarize")
    with pytest.raises(RecipeError, match="until 'fly' is no stage"):
        runs.recipe.fn(str(path), (), "fly")


def test_init_gives_every_file_a_name_of_its_own(site: Site, tmp_path: Path) -> None:
    stems = ("历史", "诗词", "my-诗词", "my", "a" * 50, "a" * 51)
    for stem in stems:
        assert run("init", str(tmp_path / f"{stem}.toml"), "--data", str(tmp_path))[0] == 0
    names = [load_recipe(str(tmp_path / f"{stem}.toml")).name for stem in stems]
    assert len(set(names)) == len(names)
    assert (names[0][:7], names[2][:3], names[3]) == ("corpus-", "my-", "my")


def test_init_with_instructions_names_them(site: Site, tmp_path: Path) -> None:
    instructions = tmp_path / "ask.jsonl"
    instructions.write_text("{}")
    run("init", str(tmp_path / "c.toml"), "--data", str(tmp_path), "--instructions", str(instructions))
    assert tomllib.loads((tmp_path / "c.toml").read_text())["instructions"]["train"][0]["paths"] == [str(instructions)]


@pytest.mark.parametrize("with_instructions", [True, False])
def test_what_init_leaves_commented_holds_once_the_marks_are_off(site: Site, tmp_path: Path, with_instructions: bool) -> None:
    path, data = tmp_path / "mine.toml", tmp_path / "texts.txt"
    data.write_text("some text")
    run("init", str(path), "--data", str(data), *(["--instructions", str(data)] if with_instructions else []))
    as_it_stands = load_recipe(str(path))
    assert as_it_stands.pretrain == load_recipe("demo").pretrain
    assert as_it_stands.registry.purpose == "Made from texts."
    path.write_text(re.sub(r"(?m)^# (?=\[|[a-z_]+ = )", "", path.read_text()))
    found = load_recipe(str(path))
    assert found.pretrain.model.sizes.width == 64 * 6
    assert (found.pretrain.optim.kind, found.pretrain.optim.learning_rate) == ("adamw", None)
    assert (found.pretrain.train.num_tokens, found.pretrain.train.batch_rows) == (None, None)
    assert (found.dedup.validation_share, found.dedup.test_share) == (0.02, 0.02)
    assert [one.name for one in found.instructions.heldout] == ["my-heldout"]
    assert found.evaluate.sample_prompts == found.deploy.prompts == ("What is this text about?",)


def test_init_writes_any_path_or_nothing(site: Site, tmp_path: Path) -> None:
    odd = tmp_path / 'a\\b "c" 文\t'
    odd.mkdir()
    assert run("init", str(tmp_path / "d.toml"), "--data", str(odd))[0] == 0
    assert tomllib.loads((tmp_path / "d.toml").read_text("utf-8"))["ingest"]["sources"][0]["paths"] == [str(odd)]
    (tmp_path / "\udcff").mkdir()
    before = sorted(path.name for path in tmp_path.iterdir())
    code, output = run("init", str(tmp_path / "e.toml"), "--data", str(tmp_path / "\udcff"))
    assert (code, "cannot be written" in output) == (2, True)
    assert run("init", str(tmp_path / "gone" / "f.toml"), "--data", str(odd))[0] == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_ls_and_show_tell_what_was_made_and_from_what(site: Site) -> None:
    numbers = count.build(CountSpec())
    scaled = scale.build(ScaleSpec(), numbers)
    (line,) = [line for line in run("ls")[1].splitlines() if numbers.address in line]
    assert numbers.digest[:12] in line, "no column is cut, however narrow the terminal"
    assert numbers.address not in run("ls", "scaled")[1]
    code, output = run("show", scaled.address)
    assert code == 0
    for part in (scaled.digest[:12], "total", "12", "commit", f"numbers: {numbers.address}"):
        assert part in output
    assert run("show", scaled.fingerprint[:6])[0] == 0


def test_gc_keeps_the_newest_end_results_and_what_they_were_made_from(site: Site) -> None:
    numbers = count.build(CountSpec())
    old, new = scale.build(ScaleSpec(factor=2), numbers), scale.build(ScaleSpec(factor=3), numbers)
    code, output = run("gc", "--dry-run")
    assert (code, old.path.exists()) == (0, True)
    gone = old if old.address in output else new
    assert f"would remove {gone.address}" in output
    run("gc")
    assert (numbers.path.exists(), gone.path.exists()) == (True, False)
    assert old.path.exists() != new.path.exists()


def test_gc_removes_nothing_while_a_run_works(site: Site) -> None:
    """Cells of a running comparison are results of one recipe and stage, and nothing refers to them before all are there."""
    numbers = count.build(CountSpec())
    cells = [scale.build(ScaleSpec(factor=factor), numbers) for factor in (2, 3)]
    note = site.root / "runs" / "a-flow-run.json"
    note.parent.mkdir()
    note.write_text(json.dumps(process_identity()))
    code, output = run("gc")
    assert (code, "run a-flow-run (process" in output, "again when it has ended" in output) == (2, True, True)
    assert all(cell.path.exists() for cell in cells)
    code, output = run("gc", "--dry-run")
    assert (code, "would remove" in output) == (0, True)
    note.write_text(json.dumps(process_identity() | {"start_ticks": 1.0}))  # that process is gone, its number is used anew
    assert run("gc")[0] == 0
    assert sum(cell.path.exists() for cell in cells) == 1


def test_gc_removes_nothing_while_a_run_of_another_host_may_work(site: Site) -> None:
    numbers = count.build(CountSpec())
    note = site.root / "runs" / "a-flow-run.json"
    note.parent.mkdir()
    note.write_text(json.dumps(process_identity() | {"host": "node7"}))
    code, output = run("gc", "--keep-last", "0")
    assert (code, numbers.path.exists()) == (2, True)
    assert f"on host node7; if it is gone, remove {note}" in output


def test_gc_names_what_is_no_artifact_and_removes_it_unless_a_run_goes_on_from_it(site: Site) -> None:
    numbers, store = count.build(CountSpec()), Store(site.store_dir)
    (numbers.path / "manifest.json").unlink()
    for fingerprint in ("free", "held"):
        store.partial("numbers", fingerprint).mkdir()
        (store.partial("numbers", fingerprint) / "half.txt").write_text("half")
    assert f"would remove remains of {numbers.address}" in run("gc", "--dry-run")[1]
    code, output = run("gc")
    assert (code, numbers.path.exists(), len(store.partials())) == (0, False, 2)
    assert "kept unfinished numbers/free  4 bytes" in output
    with store.lock("numbers", "held", wait=False):
        assert run("gc", "--unfinished")[0] == 0
    assert store.partials() == [store.partial("numbers", "held")]


def test_doctor_shows_no_password(site: Site) -> None:
    secret = site.model_copy(update={"mlflow_uri": "http://me:s3cr@t@host:5000", "mlflow_token": SecretStr("t0ken")})
    details = " ".join(finding.detail for finding in doctor._settings(secret))
    assert "http://***@host:5000" in details
    assert not any(part in details for part in ("s3cr", "t@host", "t0ken"))


def test_doctor_names_a_misspelt_variable(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TEXTMILL_NUM_PROCESES", "TEXTMILL_CHILD", "textmill_device"):
        monkeypatch.setenv(name, "1")
    (found,) = [finding for finding in doctor._settings(site) if finding.level == "problem"]
    assert (found.subject, found.detail) == ("TEXTMILL_NUM_PROCESES", "no such setting; did you mean TEXTMILL_NUM_PROCESSES?")


def test_plan_says_what_pretraining_needs_and_refuses_what_cannot_fit(site: Site) -> None:
    code, output = run("plan", "demo")
    assert code == 0, output
    assert "3.70 M parameters, 550,912 tokens" in output
    assert "not known before a first training here" in output
    code, output = run("plan", "demo", "--set", "pretrain.model.width=65536")
    assert code == 2
    assert "lower pretrain.model.depth" in output
