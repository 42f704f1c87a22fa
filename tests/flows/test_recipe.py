"""Recipes: presets load, mistakes are named with their path, differences lie over the parent."""

from contextlib import nullcontext
from pathlib import Path

import pytest

from flows.labelled_recipe import LabelledRecipe
from flows.outlook import pretrain_outlook
from flows.pipeline import LAST_STAGES, STAGES, Chain, corpus, labelled, model, pipeline, registers, stages_of
from flows.plan import plan_recipe
from flows.presets import load_recipe, presets, require_own_name
from flows.recipe_paths import RECIPES_DIR
from flows.runner import flat_params, require_reach
from tasks.contracts import Checkpoint, TokenizedCorpus, Tokenizer
from tasks.core.errors import RecipeError
from tasks.core.site import Site
from tasks.core.toml import read_toml


def write(folder: Path, text: str, name: str = "mine.toml") -> str:
    path = folder / name
    path.write_text('extends = "demo"\n' + text, encoding="utf-8")
    return str(path)


OUTSIDE = ("shared-corpus", "sentiment-zh", "sst2", "sts-en")  # these read a data folder of one's own
SHIPPED = [name for name in presets() if name not in OUTSIDE]


@pytest.mark.parametrize("name", SHIPPED)
def test_every_preset_loads_and_its_files_are_there(name: str) -> None:
    recipe = load_recipe(name).resolved()
    assert recipe.name == name
    sets = recipe.labelled.every_set if isinstance(recipe, LabelledRecipe) else recipe.ingest.sources
    assert all(Path(path).exists() for one in sets for path in one.paths)


def test_ci_is_demo_but_for_size_and_token_budget() -> None:
    demo, ci = (flat_params(load_recipe(name).model_dump(mode="json")) for name in ("demo", "ci"))
    differing = {name for name in demo.keys() | ci.keys() if demo.get(name) != ci.get(name)}
    budget = (
        "name",
        "registry.name",
        "pretrain.model.",
        "pretrain.train.",
        "tune.train.",
        "tokenizer.",
        "evaluate.num_",
        "evaluate.max_",
    )
    assert "pretrain.train.num_tokens" in differing
    assert not {name for name in differing if not name.startswith(budget)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[pretrain.model]\ndepht = 3", r"pretrain\.model\.depht: no such key; did you mean 'depth'\?"),
        ("[pretrain.model]\ndepth = 'deep'", r"pretrain\.model\.depth: Input should be a valid integer.*\(got 'deep'\)"),
        ("[pretrain.model]\ndepth = 0", r"pretrain\.model\.depth: Input should be greater than or equal to 1 \(got 0\)"),
        ("[tune.method]\nkind = 'lorra'", r"tune\.method: Input tag 'lorra'.*does not match any of the expected tags: .*'lora'"),
        ("prertain = 1", r"prertain: no such key; did you mean 'pretrain'\?"),
        ("[pretrain.model\n", "is not TOML"),
    ],
)
def test_a_mistake_is_named_with_its_path(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load_recipe(write(tmp_path, text))


def test_the_run_adds_the_special_tokens_of_its_objective() -> None:
    assert load_recipe("demo").resolved().tokenizer == load_recipe("demo").tokenizer
    masked = load_recipe("demo-masked").resolved().tokenizer.source
    assert masked.extra_special == {"mask": "[MASK]", "cls": "[CLS]", "sep": "[SEP]"}
    assert len(load_recipe("demo-t5").resolved().tokenizer.source.extra_special) == 100
    adopted = load_recipe("demo-masked", ["tokenizer.source={kind='adopt', path='/abs'}"]).resolved()
    assert adopted.tokenizer.source.kind == "adopt"  # its vocabulary stays as it is


def test_an_objective_that_does_not_fit_the_model_names_those_that_do() -> None:
    with pytest.raises(
        RecipeError, match=r"pretrain: .*'masked' does not train a qwen3: set model.family to one of bert, modernb"
    ):
        load_recipe("demo", ["pretrain.objective={kind='masked'}"])


@pytest.mark.parametrize("preset", ["demo-masked", "demo-masked-nsp"])
def test_a_run_beyond_what_takes_the_model_is_refused_before_any_work(preset: str) -> None:
    recipe = load_recipe(preset)
    for chain, until in ((corpus, None), (pipeline, "pretrain"), (model, "encode")):
        require_reach(chain, recipe, until)
    for chain, until in ((pipeline, None), (model, None), (pipeline, "tune"), (pipeline, "deploy")):
        with pytest.raises(RecipeError, match=r"take models that write text. Add `--until pretrain`"):
            require_reach(chain, recipe, until)


@pytest.mark.parametrize(("chain", "until"), [(pipeline, "cleen"), (corpus, "gate"), (model, "deploy")])
def test_a_stage_that_a_run_does_not_come_to_is_refused_before_any_work(chain: Chain, until: str) -> None:
    with pytest.raises(RecipeError, match=rf"until '{until}' is no stage of this part of demo; there are: ingest, clean"):
        require_reach(chain, load_recipe("demo"), until)
    with pytest.raises(RecipeError, match=rf"until '{until}' is no stage .* there are: labelled"):
        require_reach(labelled, load_recipe("labels-toy"), until)


FULL_BY_THE_BASE = ["tune.method={kind='full'}", "tune.optim.learning_rate=off"]
CONTINUED = [
    "pretrain.start.kind=continued",
    "pretrain.train.num_tokens=100000",
    "pretrain.train.batch_rows=8",
    "pretrain.optim.learning_rate=1e-4",
]


def test_a_base_that_others_made_needs_a_rate_where_the_tuning_is_reached() -> None:
    require_reach(pipeline, load_recipe("smollm-lora", FULL_BY_THE_BASE), "baseline")
    with pytest.raises(RecipeError, match=r"set tune\.optim\.learning_rate"):
        require_reach(pipeline, load_recipe("smollm-lora", FULL_BY_THE_BASE), "tune")
    require_reach(pipeline, load_recipe("smollm-lora", ["tune.optim.learning_rate=off"]), None)
    require_reach(pipeline, load_recipe("demo", FULL_BY_THE_BASE), None)


@pytest.mark.parametrize(("optimizer", "is_refused"), [("adamw", False), ("muon", True)])
def test_of_a_base_that_muon_trained_on_no_rate_is_known(optimizer: str, is_refused: bool) -> None:
    recipe = load_recipe("smollm-lora", [*CONTINUED, f"pretrain.optim.kind={optimizer}", *FULL_BY_THE_BASE])
    refusal = pytest.raises(RecipeError, match=r"set tune\.optim\.learning_rate") if is_refused else nullcontext()
    with refusal:
        require_reach(pipeline, recipe, None)


@pytest.mark.parametrize("open_number", ["optim={kind='adamw'}", "train.num_tokens=off"])
def test_of_new_weights_a_peak_will_be_known(open_number: str) -> None:
    recipe = load_recipe("labels-toy", [f"base.recipe.pretrain.{open_number}", *FULL_BY_THE_BASE])
    require_reach(labelled, recipe, None)


def test_models_that_write_text_flow_through_the_whole_chain() -> None:
    for preset in ("demo", "demo-fim", "demo-t5", "demo-bart"):
        require_reach(pipeline, load_recipe(preset), None)
    assert {LAST_STAGES[chain] for chain in (corpus, model, pipeline)} <= set(STAGES)


@pytest.mark.parametrize("asked", ["tune.replay.share=0.2", "tune.ewc.strength=1.0"])
def test_an_encoder_decoder_reads_no_text_on_and_on(asked: str) -> None:
    recipe = load_recipe("demo-t5", [asked])
    require_reach(pipeline, recipe, "pretrain")
    with pytest.raises(RecipeError, match=rf"reads a question and writes an answer; {asked[:8]}.* needs a model that reads on"):
        require_reach(pipeline, recipe, None)


def test_what_serves_an_encoder_decoder_is_said_before_it_runs() -> None:
    assert "MLflow's scoring server answers, no OpenAI API" in load_recipe("demo-t5").forewarnings()[-1]
    assert not [warning for warning in load_recipe("demo").forewarnings() if "MLflow" in warning]


_TEXT = ["unlabelled.kind=text", "unlabelled.text.sets=[{name='more',paths=['more.jsonl'],licence='MIT'}]"]


@pytest.mark.parametrize(
    ("preset", "part", "more"),
    [("dpo-demo", "preference.learn", ["preference.learn.method.kind=full"]), ("sst2", "unlabelled.further", _TEXT)],
)
def test_every_training_forewarns_of_its_own_optimiser(preset: str, part: str, more: list[str]) -> None:
    recipe = load_recipe(preset, [f"{part}.optim={{kind='muon',learning_rate=1e-5}}", *more])
    assert [text for text in recipe.forewarnings() if text.startswith(f"{part}.optim.matrix_learning_rate 0.01")]


def test_an_unknown_preset_lists_what_there_is() -> None:
    with pytest.raises(RecipeError, match=r"no recipe 'demoo': neither a shipped preset \(.*demo.*\) nor .* mean 'demo'\?"):
        load_recipe("demoo")


def test_a_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="nor a TOML file"):
        load_recipe(str(tmp_path / "not_there.toml"))


@pytest.mark.parametrize(
    ("preset", "message"),
    [("x" * 300, "no recipe 'x"), ("base = 'smollm'", "base: Input should be a valid"), ("", "cannot be read")],
)
def test_no_slip_of_a_user_is_a_defect(tmp_path: Path, preset: str, message: str) -> None:
    path = tmp_path / "mine.toml"
    if "=" in preset:
        write(tmp_path, preset)
    elif not preset:
        path.mkdir()
    with pytest.raises(RecipeError, match=message):
        read_toml(path) if path.is_dir() else load_recipe(str(path) if path.exists() else preset)


def test_a_recipe_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('extends = "demo"\nname = "marked"', encoding="utf-8-sig")
    assert load_recipe(str(tmp_path / "mine.toml")).name == "marked"


def test_a_recipe_that_extends_itself_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text('extends = "b.toml"')
    (tmp_path / "b.toml").write_text('extends = "a.toml"')
    with pytest.raises(RecipeError, match="extends itself"):
        load_recipe(str(tmp_path / "a.toml"))


def test_differences_lie_over_the_parent_and_overrides_over_both(tmp_path: Path) -> None:
    path = write(tmp_path, "[pretrain.model]\ndepth = 3\n")
    recipe = load_recipe(path, ["pretrain.seed=7", "pretrain.optim.clip_norm=off", "name=other"])
    assert (recipe.pretrain.model.depth, recipe.pretrain.seed, recipe.name) == (3, 7, "other")
    assert recipe.pretrain.optim.clip_norm is None
    assert recipe.ingest == load_recipe("demo").ingest


def test_a_new_kind_starts_from_its_own_defaults(tmp_path: Path) -> None:
    write(tmp_path, "[tune.method]\nkind = 'lora'\nrank = 3\n", "parent.toml")
    child = tmp_path / "child.toml"
    child.write_text('extends = "parent.toml"\n[tune.method]\nkind = "full"\n')
    assert load_recipe(str(child)).tune.method.kind == "full"
    child.write_text('extends = "parent.toml"\n[tune.method]\nkind = "lora"\nalpha = 9\n')
    assert (load_recipe(str(child)).tune.method.rank, load_recipe(str(child)).tune.method.alpha) == (3, 9)


def test_a_change_leaves_the_fields_beside_it(tmp_path: Path) -> None:
    demo, recipe = load_recipe("demo"), load_recipe("demo", ["tokenizer.source.vocab_size=700", "tune.train.batch_rows=3"])
    assert recipe.tokenizer.source.kind == demo.tokenizer.source.kind
    assert recipe.tune.train == demo.tune.train.model_copy(update={"batch_rows": 3})


@pytest.mark.parametrize(
    ("texts", "overrides", "is_refused"),
    [
        (['extends = "demo"'], [], True),
        (['extends = "demo"\n[registry]\nname = "own"'], [], False),
        (['extends = "demo"'], ["registry.name=own"], False),
        (['extends = "demo"'], ["registry={name='own'}"], False),
        (['extends = "demo"'], ["registry.purpose=p"], True),
        (['extends = "demo"', 'extends = "0.toml"'], [], True),
        (['extends = "demo"\n[registry]\nname = "own"', 'extends = "0.toml"'], [], False),
    ],
)
def test_a_recipe_of_ones_own_makes_no_version_of_the_preset_s_model(
    tmp_path: Path, texts: list[str], overrides: list[str], is_refused: bool
) -> None:
    for number, text in enumerate(texts):
        (tmp_path / f"{number}.toml").write_text(text, encoding="utf-8")
    path = str(tmp_path / f"{len(texts) - 1}.toml")
    recipe = load_recipe(path, overrides)
    with pytest.raises(RecipeError, match="registers under 'textmill-demo'") if is_refused else nullcontext():
        require_own_name(path, overrides, recipe)
    require_own_name("demo", overrides, load_recipe("demo", overrides))


@pytest.mark.parametrize(
    ("preset", "last", "makes"), [("demo", "gate", False), ("demo", "deploy", True), ("sst2", "labelled", False)]
)
def test_a_run_that_registers_is_known_before(preset: str, last: str, makes: bool) -> None:
    assert registers(load_recipe(preset), last) is makes
    assert registers(load_recipe("labels-toy"), LAST_STAGES[labelled])


def test_a_bad_override_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"--set 'pretrain' is not of the form a\.b=value"):
        load_recipe("demo", ["pretrain"])


def test_paths_start_from_the_recipe_and_package_data_from_the_package(tmp_path: Path) -> None:
    text = "[[ingest.sources]]\nkind='files'\nname='mine'\nlicence='MIT'\npaths=['texts/*.txt', 'package:corpus/x.gz', '/abs']\n"
    recipe = load_recipe(write(tmp_path, text))
    assert recipe.ingest.sources[0].paths == (str(tmp_path / "texts/*.txt"), "package:corpus/x.gz", "/abs")
    assert recipe.resolved().ingest.sources[0].paths[1] == str(RECIPES_DIR / "data" / "corpus" / "x.gz")


GIVEN = "base.source={kind='hub', name='owner/model', revision='" + "a" * 40 + "', licence='MIT'}"


def test_a_base_is_used_everywhere_or_nowhere() -> None:
    whole = [GIVEN, "tokenizer.source={kind='base'}", "pretrain.start={kind='as_given'}"]
    assert load_recipe("demo", whole).base.source.name == "owner/model"
    with pytest.raises(RecipeError, match=r"recipe: .*base.source.kind is hub, but pretrain.start.kind is scratch"):
        load_recipe("demo", whole[:2])
    with pytest.raises(RecipeError, match=r"base.source.kind is none, but pretrain.start.kind is as_given"):
        load_recipe("demo", whole[1:])
    with pytest.raises(RecipeError, match=r"but tokenizer.source.kind is train: a base reads with its own tokenizer"):
        load_recipe("demo", [whole[0], whole[2]])


@pytest.mark.parametrize(
    ("preset", "change", "named"),
    [
        ("demo", "instructions.train=[{name='c', licence='MIT', hub={dataset='some/chats'}}]", "dataset some/chats"),
        ("demo", "ingest.sources=[{kind='hub', name='w', licence='MIT', dataset='some/web'}]", "dataset some/web"),
        ("labels-toy", "base={kind='adopted', spec={source={kind='hub', name='some/model', licence='MIT'}}}", "model some/model"),
        ("demo", "tokenizer.source={kind='adopt', name='some/model'}", "model some/model"),
    ],
)
def test_what_may_move_on_the_hub_is_said_before_any_work(preset: str, change: str, named: str) -> None:
    with pytest.raises(
        RecipeError, match=rf"{named} of the hub: revision is None, which may move under a run; .*{named[-3:]}/commits"
    ):
        load_recipe(preset, [change]).check_site(Site())


PAIRS = "preference={kind='pairs', pairs={kind='paired', train=[{name='p', licence='MIT', paths=['%s']}]}}"


_FURTHER = [*_TEXT, "tune.train.batch_rows=3"]


@pytest.mark.parametrize(
    ("preset", "more", "field"),
    [
        ("demo", [], "pretrain"),
        ("demo", ["pretrain.train.batch_rows=9"], "tune"),
        ("smollm-lora", [], "tune"),  # nothing is pretrained, in batches of 8 rows
        ("dpo-demo", ["pretrain.train.batch_rows=9", "tune.train.batch_rows=3"], "preference.learn"),
        ("labels-toy", [], "tune"),
        ("labels-toy", _FURTHER, "unlabelled.further"),
        ("labels-toy", ["tune.train.batch_rows=3"], "base.recipe.pretrain"),
    ],
)
def test_a_batch_that_processes_cannot_share_is_said_before_any_work(preset: str, more: list[str], field: str) -> None:
    recipe, way = load_recipe(preset, more), {"rendezvous": "there:29400", "num_nodes": 3}
    for site in (Site(num_processes=3), Site(num_processes=1, **way)):
        with pytest.raises(RecipeError, match=rf"^{field}\.train\.batch_rows \d+ cannot be divided among 3 processes"):
            recipe.check_site(site)
    recipe.check_site(Site())


def test_learning_from_preferences_is_a_part_of_the_chain_where_it_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "pairs.json").write_text("[]")
    site, plain = Site(state_dir=tmp_path), load_recipe("demo")
    recipe = load_recipe("demo", [PAIRS % (tmp_path / "pairs.json")])
    assert stages_of(plain) == STAGES
    asked = stages_of(recipe)
    assert asked[asked.index("tune") : asked.index("score_model")] == ("tune", "preferences", "prefer")
    for each in (plain, recipe):
        assert list(dict.fromkeys(step.stage for step in plan_recipe(each, site))) == list(stages_of(each))
    assert load_recipe("dpo-demo").preference.learn.loss.beta == 0.1
    with pytest.raises(RecipeError, match=r"preference.pairs: .*preference.pairs.kind is unpaired: dpo learns from paired"):
        load_recipe("demo", [(PAIRS % "p").replace("'paired'", "'unpaired'")])


def test_plan_counts_a_continued_training_by_its_base(tmp_path: Path) -> None:
    from tests.bases.kit import save_folder
    from tests.registry.kit import commit, partial

    site = Site(state_dir=tmp_path)
    save_folder(partial(site, Checkpoint, "base") / "model")
    base = commit(site, Checkpoint, "base", {}, method="adopted", tokenizer_digest="", num_parameters=0, precision="fp32")
    given = [GIVEN, "tokenizer.source={kind='base'}", "pretrain.start={kind='continued'}", "pretrain.model.context_tokens=64"]
    recipe, vocabulary = load_recipe("demo", given), Tokenizer.model_construct(vocab_size=320)
    assert pretrain_outlook(recipe, site, {"tokenizer": vocabulary}, []) is None  # its size shows when it is there
    outlook = pretrain_outlook(recipe, site, {"tokenizer": vocabulary, "base": base}, [])
    hidden, feed_forward = 32, 64
    layer = 2 * hidden * hidden + 2 * hidden * 16 + 3 * hidden * feed_forward + 2 * hidden
    assert outlook.num_parameters == 320 * hidden + 2 * layer + hidden
    assert outlook.num_tokens == -(-550_000 // (8 * 64)) * 8 * 64
    replay = "pretrain.start.replay={corpus='tokenized-corpus/0123456789ab',share=0.25}"
    recipe = load_recipe("demo", [*given, replay, "pretrain.train.num_tokens=off", "pretrain.train.num_epochs=1.0"])
    tokens = TokenizedCorpus.model_construct(tokens_by_split={"train": 6_144})
    outlook = pretrain_outlook(recipe, site, {"tokenizer": vocabulary, "base": base, "encode": tokens}, [])
    assert outlook.num_tokens == 8_192, "those that are replayed are read too"


def test_plan_counts_sharded_weights_by_device() -> None:
    recipe = load_recipe("demo")
    whole, part = (
        pretrain_outlook(recipe, Site(num_processes=8, sharding=way), {}, []).memory.states for way in ("ddp", "fsdp2")
    )
    assert part == whole // 8


def test_overrides_of_a_part_hold_in_any_order() -> None:
    wanted = load_recipe("demo", ["tune.method.kind=lora", "tune.method.rank=4"])
    assert wanted.tune.method.rank == 4
    assert load_recipe("demo", ["tune.method.rank=4", "tune.method.kind=lora"]) == wanted
    assert load_recipe("demo", ["tune.method.rank=4", "tune.method={kind='lora'}"]) == wanted
    nested = ["tune.optim.schedule.kind=warmup_stable_decay", "tune.optim.kind=muon", "tune.optim.learning_rate=0.01"]
    assert load_recipe("demo", nested) == load_recipe("demo", nested[::-1])
    assert load_recipe("demo", ["tune.method.rank=4", "tune.method.kind=lora", "tune.method.rank=8"]).tune.method.rank == 8
    with pytest.raises(RecipeError, match=r"tune\.method\.full\.rank: no such key"):
        load_recipe("demo", ["tune.method.rank=4", "tune.method.kind=full"])


@pytest.mark.parametrize(
    ("preset", "until", "last"),
    [
        ("ci", "score_model", ["score_model", "score_model"]),
        ("ci", "tune", ["fisher", "tune"]),
        ("labels-toy", "score_majority", ["tune_labelled", "score_majority"]),
        ("labels-toy", "score_labels", ["score_majority", "score_labels"]),
    ],
)
def test_a_run_until_scoring_scores_what_was_tuned(preset: str, until: str, last: list[str], site: Site) -> None:
    assert [step.stage for step in plan_recipe(load_recipe(preset), site, until)][-2:] == last
