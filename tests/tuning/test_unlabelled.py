"""Task text without labels: what of it is read, pretraining on it, and labels of a first model, with where they come from."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flows.labelled_recipe import LabelledRecipe
from flows.pipeline import stages_of
from flows.plan import plan_recipe
from flows.presets import load_recipe
from flows.unlabelled import TaskText
from tasks.bases import BaseSpec, FolderBase, adopt_base
from tasks.contracts import Checkpoint, CleanCorpus, Labelled
from tasks.core.errors import ContractError, RecipeError
from tasks.core.site import Site
from tasks.core.store import read_manifest
from tasks.core.tables import read_rows
from tasks.labelled import PseudoSpec, TaskTextSpec, pseudo_label, read_task_text
from tasks.labelled.pseudo import _believed
from tasks.modeling.pseudo_job import Guess
from tasks.modeling.specs import AdamWSpec, TrainSpec
from tasks.tuning.labelled import TuneLabelledSpec, tune_labelled
from tests.data.kit import write_jsonl
from tests.modeling.kit import CHINESE, ENGLISH
from tests.tuning.labelled_kit import ToyBaseSpec, ToyLabelledSpec, toy_base, toy_labelled

TRAIN = TrainSpec(batch_rows=8, num_epochs=3, eval_every_steps=6, checkpoint_every_steps=6, select="best")
TUNE = TuneLabelledSpec(train=TRAIN, optim=AdamWSpec(kind="adamw", learning_rate=5e-3), precision="fp32")


@pytest.fixture(scope="module")
def classes(shared_site: Site) -> Labelled:
    return toy_labelled.build(ToyLabelledSpec(), site=shared_site)


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Texts whose label can be told, and some that cannot be used."""
    random = np.random.default_rng(7)
    words = [ENGLISH if number % 2 else CHINESE for number in range(80)]
    rows: list[Any] = [{"text": " ".join(random.choice(some, 6)) + f" {number}"} for number, some in enumerate(words)]
    rows += [rows[0], {"text": " "}, {"other": "x"}, {"text": "long " * 100}]
    return write_jsonl(tmp_path_factory.mktemp("texts") / "texts.jsonl", rows)


def text_spec(path: Path, **settings: Any) -> TaskTextSpec:
    sets = [{"name": "wild", "licence": "MIT", "paths": [str(path)], "lang": "en"}]
    return TaskTextSpec.model_validate({"sets": sets, "max_chars": 300} | settings)


@pytest.fixture(scope="module")
def task_text(shared_site: Site, classes: Labelled, texts: Path) -> CleanCorpus:
    return read_task_text.build(text_spec(texts), classes, site=shared_site)


def rows_of(labelled: Labelled) -> list[dict[str, Any]]:
    return list(read_rows(labelled.path / "items.parquet"))


def test_what_cannot_be_used_is_counted(task_text: CleanCorpus) -> None:
    assert (task_text.num_documents, task_text.num_documents_in) == (80, 84)
    assert task_text.removed_by_reason == {"duplicate": 1, "empty_text": 1, "no_text": 1, "too_long": 1}
    assert task_text.summary().startswith("80 of 84 kept, dropped: ")
    assert task_text.documents_by_split["validation"] > 0 == task_text.documents_by_split["test"]


def test_what_judges_is_never_among_the_text(site: Site, classes: Labelled, tmp_path: Path) -> None:
    known = rows_of(classes)
    held_out = [row for row in known if row["split"] != "train"]
    path = write_jsonl(tmp_path / "all.jsonl", [{"text": row["text"].upper()} for row in known])
    text = read_task_text.build(text_spec(path), classes, site=site)
    assert text.contaminated_by_reason == {"held_out_input": len(held_out)}
    assert text.num_heldout_items == len({row["text"] for row in held_out})
    kept = {row["text"].lower() for row in read_rows(text.path / "documents")}
    assert kept.isdisjoint(row["text"].lower() for row in held_out)


def test_either_text_of_a_held_out_pair_is_left_out(shared_site: Site, tmp_path: Path) -> None:
    pairs = toy_labelled.build(ToyLabelledSpec(pairs=True), site=shared_site)
    first = next(row["text"] for row in rows_of(pairs) if row["split"] == "test")
    known, other = [{"text": first}, {"text": "About FILES"}], [{"text": "one more"}, {"text": "another"}]
    text = read_task_text.build(text_spec(write_jsonl(tmp_path / "pairs.jsonl", known + other)), pairs, site=shared_site)
    assert text.contaminated_by_reason == {"held_out_input": 2}
    assert [row["text"] for row in read_rows(text.path / "documents")] == ["one more", "another"]


def test_the_split_is_by_share_and_seed(shared_site: Site, classes: Labelled, texts: Path, task_text: CleanCorpus) -> None:
    def held_out(text: CleanCorpus) -> set[str]:
        return {row["id"] for row in read_rows(text.path / "documents") if row["split"] == "validation"}

    more = read_task_text.build(text_spec(texts, validation_share=0.4), classes, site=shared_site)
    other = read_task_text.build(text_spec(texts, validation_share=0.4, seed=1), classes, site=shared_site)
    assert held_out(task_text) < held_out(more) != held_out(other)
    assert all(20 < len(held_out(text)) < 45 for text in (more, other))


def test_without_text_it_says_so(site: Site, classes: Labelled, tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="0 texts are left of the task text"):
        read_task_text.build(text_spec(write_jsonl(tmp_path / "none.jsonl", [{"text": ""}])), classes, site=site)


def given(site: Site, family: str) -> Checkpoint:
    made = toy_base.build(ToyBaseSpec(family=family), site=site)
    source = FolderBase(kind="folder", path=str(made.path / "model"), licence="MIT")
    return adopt_base.build(BaseSpec(source=source), site=site)


def part(path: Path, **settings: Any) -> TaskText:
    further = {
        "start": {"kind": "continued"},
        "model": {"context_tokens": 64},
        "optim": {"kind": "adamw", "learning_rate": 5e-3},
        "train": {"batch_rows": 4, "num_epochs": 3, "eval_every_steps": 5, "checkpoint_every_steps": 5},
        "precision": "fp32",
    }
    tree = {"kind": "text", "text": text_spec(path).model_dump(), "further": further | settings.pop("further", {})}
    return TaskText.model_validate(tree | settings)


@pytest.mark.parametrize(("family", "objective"), [("modernbert", "masked"), ("llama", "causal")])
def test_a_base_is_pretrained_on_the_text_before_it_is_tuned(
    shared_site: Site, classes: Labelled, texts: Path, family: str, objective: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEXTMILL_STATE_DIR", str(shared_site.state_dir))
    base = given(shared_site, family)
    prepared = in_site(shared_site, lambda: part(texts, further={"objective": {"kind": objective}}).prepare(TUNE, base, classes))
    assert prepared.labelled == classes
    assert (prepared.base.method, prepared.base.base_digest) == ("pretrain", base.digest)
    result = json.loads((prepared.base.path / "extra" / "result.json").read_text())
    assert result["validation_loss"] < result["first_validation_loss"] - 0.1
    tuned = tune_labelled.build(TUNE, prepared.base, prepared.labelled, site=shared_site)
    assert tuned.base_digest == prepared.base.digest


def test_the_tuning_s_rate_is_by_the_first_training_of_its_base(
    base: Checkpoint, shared_site: Site, classes: Labelled, texts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The further pretraining is at a lower rate."""
    monkeypatch.setenv("TEXTMILL_STATE_DIR", str(shared_site.state_dir))
    further = {"objective": {"kind": "causal"}, "optim": {"kind": "adamw", "learning_rate": 1e-4}, "train": {"num_epochs": 0.2}}
    trained_on = in_site(shared_site, lambda: part(texts, further=further).prepare(TUNE, base, classes)).base
    assert read_manifest(trained_on.path).stage == "pretrain_further"
    short = TRAIN.model_copy(update={"num_epochs": 0.2})
    spec = TUNE.model_copy(update={"optim": AdamWSpec(kind="adamw"), "train": short})
    tuned = tune_labelled.build(spec, trained_on, classes, site=shared_site)
    assert tuned.figures["learning_rate"] == pytest.approx(0.15 * 1e-2)


def in_site(site: Site, build: Any) -> Any:
    from tasks.core.site import current_site

    current_site.cache_clear()
    try:
        return build()
    finally:
        current_site.cache_clear()


def test_an_objective_that_does_not_fit_the_base_is_named(
    shared_site: Site, classes: Labelled, texts: Path, monkeypatch: Any
) -> None:
    monkeypatch.setenv("TEXTMILL_STATE_DIR", str(shared_site.state_dir))
    base = given(shared_site, "llama")
    with pytest.raises(RecipeError, match=r"'masked' does not train a llama.*set another unlabelled\.further\.objective\.kind"):
        in_site(shared_site, lambda: part(texts, further={"objective": {"kind": "masked"}}).prepare(TUNE, base, classes))


@pytest.fixture(scope="module")
def first(shared_site: Site, classes: Labelled) -> Checkpoint:
    return tune_labelled.build(TUNE, toy_base.build(ToyBaseSpec(), site=shared_site), classes, site=shared_site)


def test_sure_labels_become_training_items_that_say_whose_they_are(
    shared_site: Site, classes: Labelled, first: Checkpoint, task_text: CleanCorpus
) -> None:
    spec = PseudoSpec(min_confidence=0.9)
    made = pseudo_label.build(spec, classes, first, task_text, site=shared_site)
    before, after = rows_of(classes), rows_of(made)
    assert [row["id"] for row in after[: len(before)]] == [row["id"] for row in before]
    new = after[len(before) :]
    assert len(new) == made.made_by["pseudo_labels"] > 20
    assert len(new) + sum(made.not_made.values()) == task_text.num_documents
    assert {(row["split"], row["source"], row["maker"], row["origin"]) for row in new} == {("train", "wild", first.digest, None)}
    assert all(0.9 <= row["confidence"] <= 1 for row in new)
    right = [row["labels"] == ["en" if row["text"].split()[0] in ENGLISH else "zh"] for row in new]
    assert np.mean(right) > 0.95
    others = {split: count for split, count in made.items_by_split.items() if split != "train"}
    assert others == {split: count for split, count in classes.items_by_split.items() if split != "train"}
    tuned = tune_labelled.build(TUNE, toy_base.build(ToyBaseSpec(), site=shared_site), made, site=shared_site)
    assert tuned.num_steps > first.num_steps
    assert tuned.warnings == (f"of {48 + len(new)} training items some were made by machine: {len(new)} by pseudo_labels",)
    assert first.warnings == ()


def test_where_no_label_is_believed_it_says_so(
    shared_site: Site, classes: Labelled, first: Checkpoint, task_text: CleanCorpus
) -> None:
    """No label may have a ten-thousandth of 80 items."""
    with pytest.raises(ContractError, match=r"labels none of 80 texts.*lower min_confidence, raise max_label_share"):
        pseudo_label.build(PseudoSpec(max_label_share=1e-4), classes, first, task_text, site=shared_site)


def guesses() -> list[tuple[dict[str, Any], Guess]]:
    said = [("a", 0.99), ("a", 0.98), ("b", 0.97), ("a", 0.96), ("b", 0.6)]
    rows = [{"id": f"t{number}", "source": "s", "text": f"x{number}", "cluster": "c"} for number in range(len(said))]
    return [(row, Guess(labels=(label,), confidence=sure)) for row, (label, sure) in zip(rows, said, strict=True)]


@pytest.mark.parametrize(
    ("settings", "taken", "reasons"),
    [
        ({}, ["t0", "t1", "t2", "t3"], ["not sure enough"]),
        ({"min_confidence": 0.97}, ["t0", "t1", "t2"], ["not sure enough"] * 2),
        ({"max_items": 2}, ["t0", "t1"], ["more than max_items"] * 2 + ["not sure enough"]),
        ({"max_label_share": 0.5}, ["t0", "t2"], ["more than max_label_share"] * 2 + ["not sure enough"]),
        ({"max_label_share": 0.7}, ["t0", "t1", "t2"], ["more than max_label_share", "not sure enough"]),
        ({"max_items": 3, "max_label_share": 0.7}, ["t0", "t1", "t2"], ["more than max_items", "not sure enough"]),
        ({"min_confidence": 0.975, "max_label_share": 0.9}, [], ["more than max_label_share"] * 2 + ["not sure enough"] * 3),
    ],
)
def test_each_bound_is_kept(settings: dict[str, Any], taken: list[str], reasons: list[str]) -> None:
    found = list(_believed(PseudoSpec(**settings), guesses(), "digest"))
    assert [row["id"] for row in found if isinstance(row, dict)] == taken
    assert [str(row) for row in found if not isinstance(row, dict)] == reasons


@pytest.mark.timeout(20)
def test_a_share_that_too_few_labels_can_have_costs_no_search() -> None:
    rows = [{"id": f"t{number}", "source": "s", "text": f"x{number}", "cluster": "c"} for number in range(50_000)]
    sure = [(row, Guess(labels=(str(number % 2),), confidence=0.99)) for number, row in enumerate(rows)]
    assert {str(one) for one in _believed(PseudoSpec(max_label_share=0.4999), sure, "digest")} == {"more than max_label_share"}


def test_of_many_labels_each_has_its_share() -> None:
    said = [("a",), ("a", "b"), ("a", "c"), (), ("b",), ("c",), ()]
    rows = [{"id": f"t{number}", "source": "s", "text": f"x{number}", "cluster": "c"} for number in range(len(said))]
    sure = [(row, Guess(labels=labels, confidence=0.99)) for row, labels in zip(rows, said, strict=True)]
    found = list(_believed(PseudoSpec(max_label_share=0.4), sure, "digest"))
    taken = [row["labels"] for row in found if isinstance(row, dict)]
    assert taken == [["a"], ["a", "b"], [], ["b"], ["c"], []]


@pytest.mark.parametrize(
    ("kit", "message"),
    [
        (ToyLabelledSpec(task="regression"), "regression has none; set it off"),
        (ToyLabelledSpec(pairs=True), "these items are pairs; set it off"),
    ],
)
def test_what_cannot_be_guessed_is_named(
    shared_site: Site, first: Checkpoint, task_text: CleanCorpus, kit: ToyLabelledSpec, message: str
) -> None:
    labelled = toy_labelled.build(kit, site=shared_site)
    with pytest.raises(RecipeError, match=message):
        pseudo_label.build(PseudoSpec(), labelled, first, task_text, site=shared_site)


def test_many_labels_are_as_sure_as_the_least_sure_of_them() -> None:
    from tasks.modeling.labelled_predict import Prediction
    from tasks.modeling.pseudo_label import _guess

    assert _guess(Prediction(("a",), (0.9, 0.2), None, None), is_many=True).confidence == pytest.approx(0.8)
    assert _guess(Prediction(("a",), (0.9, 0.1), None, None), is_many=False).confidence == pytest.approx(0.9)


def recipe_with(path: Path, **settings: Any) -> LabelledRecipe:
    recipe = load_recipe("labels-toy")
    assert isinstance(recipe, LabelledRecipe)
    return recipe.model_copy(update={"unlabelled": part(path, further={"model": {"context_tokens": 64}}, **settings)})


def test_the_plan_has_the_stages_in_order(site: Site, texts: Path) -> None:
    recipe = recipe_with(texts, pseudo={"min_confidence": 0.9})
    names = list(dict.fromkeys(step.stage for step in plan_recipe(recipe, site)))
    assert names == list(stages_of(recipe))
    wanted = ["task_text", "pretrain_further", "tune_first", "pseudo_labels", "augment", "tune_labelled"]
    assert [name for name in names if name in wanted] == wanted
    plain = load_recipe("labels-toy")
    assert not set(wanted[:4]) & set(stages_of(plain))


def test_what_is_not_set_of_the_further_pretraining_stays(texts: Path) -> None:
    tree = {"kind": "text", "text": text_spec(texts).model_dump()}
    plain, changed = (TaskText.model_validate(tree | more).further for more in ({}, {"further": {"train": {"num_epochs": 7}}}))
    assert plain is not None
    assert changed is not None
    assert changed.train.num_epochs == 7
    assert changed.model_copy(update={"train": plain.train}) == plain
    by_tokens = TaskText.model_validate(tree | {"further": {"train": {"num_tokens": 9_000}}}).further
    assert by_tokens is not None
    assert (by_tokens.train.num_tokens, by_tokens.train.num_epochs) == (9_000, None)


def test_a_part_that_does_nothing_is_refused(texts: Path) -> None:
    with pytest.raises(ValueError, match="both off"):
        TaskText.model_validate({"kind": "text", "text": text_spec(texts).model_dump(), "further": None})
    with pytest.raises(ValueError, match=r"start\.kind is scratch; further pretraining is continued"):
        part(texts, further={"start": {"kind": "scratch"}, "objective": {"kind": "causal"}})
