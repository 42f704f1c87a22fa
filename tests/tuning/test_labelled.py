"""Tuning on labelled text: every task and family learns, every option changes something, what cannot be learned is refused."""

import inspect
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tasks.contracts import Checkpoint, Labelled
from tasks.core.errors import ContractError, RecipeError, TransientError
from tasks.core.site import Site
from tasks.core.tables import read_rows
from tasks.modeling.folds import deal_out, mean_and_spread, value_strata
from tasks.modeling.heads import framing_tokenizer, head_facts, load_headed, load_with_new_head, save_headed, set_words_apart
from tasks.modeling.labelled_predict import predict
from tasks.modeling.labelled_rows import LabelledExample, LabelledRows, are_spaced, labelled_rows, require_known
from tasks.modeling.labels import BalancedWeights, GivenWeights, HeadFacts
from tasks.modeling.loop import Loop
from tasks.modeling.specs import AdamWSpec, TrainSpec
from tasks.tuning.head import HeadSpec
from tasks.tuning.ia3 import Ia3Spec
from tasks.tuning.labelled import TuneLabelledSpec, tune_labelled
from tasks.tuning.labelled_methods import prepare_with_head
from tasks.tuning.labelled_train import fold_parts
from tasks.tuning.layer_decay import LayerDecaySpec
from tasks.tuning.lora import LoraSpec
from tasks.tuning.some_layers import FreezeSpec
from tests.architectures import tiny_of
from tests.modeling.kit import save_tokenizer
from tests.tuning.labelled_kit import ToyBaseSpec, ToyLabelledSpec, toy_base, toy_labelled

TRAIN = TrainSpec(batch_rows=8, num_epochs=3, eval_every_steps=6, checkpoint_every_steps=6, select="best")
OPTIM = AdamWSpec(kind="adamw", learning_rate=5e-3)
SPEC = TuneLabelledSpec(train=TRAIN, optim=OPTIM, precision="fp32")
FACTS = HeadFacts(task="classification", label_names=("zh", "en"))


@pytest.fixture(scope="module")
def encoder(shared_site: Site) -> Checkpoint:
    return toy_base.build(ToyBaseSpec(), site=shared_site)


@pytest.fixture(scope="module")
def classes(shared_site: Site) -> Labelled:
    return toy_labelled.build(ToyLabelledSpec(), site=shared_site)


def changed(**fields: Any) -> TuneLabelledSpec:
    return TuneLabelledSpec.model_validate(SPEC.model_dump() | fields)


def first_losses(model: Checkpoint, count: int = 3) -> list[float]:
    lines = [json.loads(line) for line in (model.path / "extra" / "metrics.jsonl").read_text().splitlines()]
    return [line["train_loss"] for line in lines if "train_loss" in line][:count]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "task", "figure", "least"),
    [
        ("modernbert", "classification", "mcc", 0.9),
        ("bert", "regression", "pearson", 0.9),
        ("llama", "classification", "accuracy", 0.9),
        ("modernbert", "token_classification", "accuracy", 0.7),
        ("llama", "multi_label", "micro_f1", 0.3),
    ],
)
def test_a_family_learns_a_task(shared_site: Site, family: str, task: str, figure: str, least: float) -> None:
    base = toy_base.build(ToyBaseSpec(family=family), site=shared_site)
    labelled = toy_labelled.build(ToyLabelledSpec(task=task), site=shared_site)
    tuned = tune_labelled.build(changed(train=TRAIN.model_copy(update={"num_epochs": 5})), base, labelled, site=shared_site)
    assert tuned.held_out[figure] > least
    assert (tuned.method, tuned.base_digest) == ("full", base.digest)
    facts = head_facts(tuned.path / "model")
    assert (facts.task, facts.label_names) == (task, labelled.label_names)


def test_the_folder_loads_with_plain_transformers_and_labels_alike(
    shared_site: Site, encoder: Checkpoint, classes: Labelled
) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tuned = tune_labelled.build(SPEC, encoder, classes, site=shared_site)
    folder = tuned.path / "model"
    model, tokenizer = AutoModelForSequenceClassification.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    rows = [row for row in read_rows(classes.path / "items.parquet") if row["split"] == "validation"]
    inputs = tokenizer([row["text"] for row in rows], padding=True, return_tensors="pt")
    assert set(inputs) <= set(inspect.signature(model.forward).parameters)
    assert tokenizer.convert_ids_to_tokens(inputs["input_ids"][0])[0] == "[CLS]"
    with torch.no_grad():
        said = [model.config.id2label[int(number)] for number in model(**inputs).logits.argmax(-1)]
    right = np.mean([label == row["labels"][0] for label, row in zip(said, rows, strict=True)])
    assert right == pytest.approx(tuned.held_out["accuracy"])


@pytest.mark.parametrize(
    ("family", "method"),
    [
        ("bert", LoraSpec(kind="lora", rank=2)),
        ("llama", Ia3Spec(kind="ia3")),
        ("bert", HeadSpec(kind="head")),
        ("modernbert", FreezeSpec(kind="freeze", num_layers=1)),
        ("llama", LayerDecaySpec(kind="layer_decay")),
    ],
    ids=lambda value: getattr(value, "kind", value),
)
def test_every_method_trains_and_keeps_the_new_head(shared_site: Site, classes: Labelled, family: str, method: Any) -> None:
    base = toy_base.build(ToyBaseSpec(family=family), site=shared_site)
    tokenizer = framing_tokenizer(base.path / "model")
    fresh = load_with_new_head(base.path / "model", tokenizer, FACTS, 0, None)
    tuned = tune_labelled.build(changed(method=method.model_dump()), base, classes, site=shared_site)
    before, after = fresh.model.state_dict(), load_headed(tuned.path / "model").state_dict()
    head = [name for name in before if name.startswith(fresh.new)]
    assert head
    assert all(not torch.equal(before[name], after[name]) for name in head)
    if method.kind in ("lora", "ia3"):
        kept = (tuned.path / "adapter" / "adapter_config.json").read_text()
        assert set(fresh.new) <= set(json.loads(kept)["modules_to_save"])
    if method.kind == "head":
        assert all(torch.equal(before[name], after[name]) for name in before if name not in head)
    if method.kind == "freeze":
        still = [name for name in before if "embeddings" in name or "layers.0." in name]
        assert still
        assert all(torch.equal(before[name], after[name]) for name in still)


def test_a_head_that_is_there_goes_on(shared_site: Site, encoder: Checkpoint, classes: Labelled) -> None:
    tuned = tune_labelled.build(SPEC, encoder, classes, site=shared_site)
    again = load_with_new_head(tuned.path / "model", framing_tokenizer(tuned.path / "model"), FACTS, 0, None)
    assert again.new == ()
    prepare_with_head(HeadSpec(kind="head"), again.model, again.new, 0)
    trained = {name.split(".")[0] for name, weight in again.model.named_parameters() if weight.requires_grad}
    assert trained == {"head", "classifier"}
    assert prepare_with_head(LoraSpec(kind="lora", rank=2), again.model, again.new, 0).model is again.model
    other = FACTS.model_copy(update={"label_names": ("a", "b", "c")})
    assert load_with_new_head(tuned.path / "model", framing_tokenizer(tuned.path / "model"), other, 0, None).new == (
        "classifier",
    )


@pytest.mark.parametrize(
    "fields",
    [
        {"class_weights": {"kind": "given", "weights": {"en": 3.0}}},
        {"label_smoothing": 0.2},
        {"dropout": 0.3},
        {"max_tokens": 5},
        {"seed": 1},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_an_option_changes_what_is_learned(shared_site: Site, encoder: Checkpoint, classes: Labelled, fields: Any) -> None:
    short = {"train": TRAIN.model_copy(update={"num_epochs": 0.5}).model_dump()}
    plain, other = (tune_labelled.build(changed(**short, **found), encoder, classes, site=shared_site) for found in ({}, fields))
    assert first_losses(plain) != first_losses(other)


@pytest.mark.parametrize(
    ("task", "labels", "balanced"),
    [
        ("classification", [["zh"], ["zh"], ["zh"], ["en"]], (4 / (2 * 3), 4 / (2 * 1))),
        ("multi_label", [["zh"], ["zh", "en"], ["zh"], [], []], (2 / 3, 4 / 1)),  # a label's noes by its yeses
        ("token_classification", [["zh", "zh"], ["en", "zh", "zh"], ["zh"]], (6 / (2 * 5), 6 / (2 * 1))),  # by words
    ],
)
def test_weights_are_balanced_by_what_the_train_items_hold(encoder: Checkpoint, task: Any, labels: Any, balanced: Any) -> None:
    from tasks.tuning.labelled_train import label_weights

    item = {"id": "a", "text": "the model", "text_pair": None, "value": None}
    items = [item | {"words": ["files"] * len(names), "labels": names} for names in labels]
    facts = FACTS.model_copy(update={"task": task})
    train = labelled_rows(items, framing_tokenizer(encoder.path / "model"), facts, 60, "drop", "train")

    def weights(how: Any) -> Any:
        return label_weights(type("Job", (), {"facts": facts, "class_weights": how}), train)  # type: ignore[arg-type]

    assert weights(None) is None
    assert weights(BalancedWeights(kind="balanced")) == pytest.approx(balanced)
    assert weights(GivenWeights(kind="given", weights={"en": 5.0})) == (1.0, 5.0)


def test_long_items_are_cut_or_dropped_and_counted(shared_site: Site, encoder: Checkpoint, classes: Labelled) -> None:
    cut, dropped = (
        tune_labelled.build(changed(max_tokens=12, too_long=way), encoder, classes, site=shared_site)
        for way in ("truncate", "drop")
    )
    notes = [json.loads((model.path / "extra" / "result.json").read_text())["notes"] for model in (cut, dropped)]
    assert notes[0]["too_long"] == notes[1]["too_long"] > 0
    assert [note["dropped"] for note in notes] == [0, notes[1]["too_long"]]
    assert re.match(rf"{notes[0]['too_long']} of {notes[0]['items']} labelled items .* were cut", cut.warnings[0])
    assert dropped.num_tokens < cut.num_tokens


def test_the_best_look_by_the_criterion_is_kept(shared_site: Site, encoder: Checkpoint, classes: Labelled) -> None:
    train = TRAIN.model_copy(update={"num_epochs": 6, "eval_every_steps": 3, "patience_evals": 2})
    tuned = tune_labelled.build(changed(criterion="accuracy", train=train), encoder, classes, site=shared_site)
    lines = [json.loads(line) for line in (tuned.path / "extra" / "metrics.jsonl").read_text().splitlines()]
    looks = [(line["step"], line["validation_accuracy"]) for line in lines if "validation_accuracy" in line]
    best = max(looks, key=lambda look: look[1])  # the first of equal ones
    result = json.loads((tuned.path / "extra" / "result.json").read_text())
    assert (result["selected_step"], tuned.held_out["accuracy"]) == best
    assert [step for step, _ in looks if step > best[0]] == [best[0] + 3, best[0] + 6]  # patience ended it
    assert tuned.num_steps == best[0] + 6


def test_a_head_that_learned_nothing_yet_is_never_kept(shared_site: Site, encoder: Checkpoint, classes: Labelled) -> None:
    """At a rate of nothing all looks are equal, and the first of them that counts is kept."""
    still = changed(optim={"kind": "adamw", "learning_rate": 1e-12}, criterion="accuracy")
    new = tune_labelled.build(still, encoder, classes, site=shared_site)
    on = tune_labelled.build(still, new, classes, site=shared_site)  # its head is there already
    kept = [json.loads((model.path / "extra" / "result.json").read_text())["selected_step"] for model in (new, on)]
    assert kept == [TRAIN.eval_every_steps, 0]


def test_a_training_cut_off_ends_with_the_same_bits(
    shared_site: Site, encoder: Checkpoint, classes: Labelled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = changed(dropout=0.1, seed=5)
    whole = tune_labelled.build(spec, encoder, classes, site=shared_site)
    site, step = Site(state_dir=tmp_path), Loop._step
    base = toy_base.build(ToyBaseSpec(), site=site)
    labelled = toy_labelled.build(ToyLabelledSpec(), site=site)

    def stopping(loop: Loop) -> None:
        step(loop)
        if loop.position.step == 8:
            loop.interrupt.requested = True

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "_step", stopping)
        with pytest.raises(TransientError, match="asked to stop at step 8"):
            tune_labelled.build(spec, base, labelled, site=site)
    assert tune_labelled.build(spec, base, labelled, site=site).digest == whole.digest


def lengths_rows(lengths: list[int]) -> LabelledRows:
    goals = np.zeros(1, dtype=np.float32)
    return LabelledRows([LabelledExample("i", np.ones(n, int), np.zeros(n, int), np.full(n, -100), goals) for n in lengths], 0)


def test_each_pass_takes_every_item_once_in_an_order_of_its_own_by_length() -> None:
    rows = lengths_rows([int(n) for n in np.random.default_rng(0).integers(4, 100, 70)])
    taken = np.concatenate([rows.order(3, step, 8, 70) for step in range(35)])  # four passes
    passes = [taken[start : start + 70] for start in range(0, 280, 70)]
    for number, one in enumerate(passes):
        assert sorted(one - number * 70) == list(range(70))
    assert not np.array_equal(passes[0], passes[1] - 70)
    assert np.array_equal(rows.order(3, 11, 8, 70), lengths_rows(list(rows.lengths)).order(3, 11, 8, 70))
    assert not np.array_equal(rows.order(3, 11, 8, 70), rows.order(4, 11, 8, 70))
    spread = [np.ptp(rows.lengths[rows.order(3, step, 8, 70) % 70]) for step in range(8)]
    assert np.median(spread) < 30  # of 96 by chance about 80


def test_a_pair_is_framed_as_two_parts(shared_site: Site, encoder: Checkpoint) -> None:
    tokenizer = framing_tokenizer(encoder.path / "model")
    item = {"id": "a", "text": "the model", "text_pair": "files", "words": None, "labels": ["en"], "value": None}
    rows = labelled_rows([item], tokenizer, FACTS, 60, "drop", "train")
    assert tokenizer.decode(rows.examples[0].ids) == "[CLS]the model[SEP]files[SEP]"
    first_end = list(rows.examples[0].ids).index(tokenizer.sep_token_id)
    assert list(rows.examples[0].types) == [0] * (first_end + 1) + [1] * (len(rows.examples[0].ids) - first_end - 1)


def test_a_word_is_labelled_at_its_first_token(shared_site: Site, encoder: Checkpoint) -> None:
    tokenizer = framing_tokenizer(encoder.path / "model")
    facts = HeadFacts(task="token_classification", label_names=("no", "yes"))
    item = {"id": "a", "text": None, "text_pair": None, "words": ["xyz", "files"], "labels": ["yes", "no"], "value": None}
    example = labelled_rows([item], tokenizer, facts, 60, "drop", "train").examples[0]
    assert [target for target in example.targets if target != -100] == [1, 0]
    assert list(example.targets[:3]) == [-100, 1, -100]  # [CLS], x, y


def test_words_of_a_class_that_takes_no_such_setting_stay_as_they_are(tmp_path: Path) -> None:
    from transformers import AutoTokenizer, Qwen2Tokenizer

    model = json.loads(save_tokenizer(tmp_path).backend_tokenizer.to_str())["model"]
    Qwen2Tokenizer(vocab=model["vocab"], merges=[tuple(pair) for pair in model["merges"]]).save_pretrained(tmp_path)
    before, words = AutoTokenizer.from_pretrained(tmp_path), ["the", "a1b2", "don't"]
    tokenizer = framing_tokenizer(tmp_path)
    set_words_apart(tokenizer)
    after, asked = (one(words, is_split_into_words=True, add_special_tokens=False)["input_ids"] for one in (tokenizer, before))
    assert after == asked


@pytest.mark.parametrize("kind", ["bytes", "pieces", "roberta"])
def test_words_of_a_list_are_the_tokens_of_running_text_wherever_they_are_loaded(kind: str, tmp_path: Path) -> None:
    from tokenizers import Regex, pre_tokenizers
    from transformers import AutoTokenizer, RobertaTokenizer

    tokenizer = save_tokenizer(tmp_path)
    if kind == "pieces":
        pieces = pre_tokenizers.Split(Regex(r" ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+"), "isolated")
        of_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pieces, of_bytes])
        tokenizer.save_pretrained(tmp_path)
    if kind == "roberta":
        model = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
        merges = [tuple(pair) for pair in model["merges"]]
        RobertaTokenizer(vocab=model["vocab"], merges=merges).save_pretrained(tmp_path)
    for _ in range(2):  # a labelled model is tuned again
        tokenizer = framing_tokenizer(tmp_path)
        set_words_apart(tokenizer)
        tokenizer.save_pretrained(tmp_path)
    loaded, words = AutoTokenizer.from_pretrained(tmp_path), ["the", "files", "a1b2", "text"]
    split, running = loaded(words, is_split_into_words=True)["input_ids"], loaded(" the files a1b2 text")["input_ids"]
    assert loaded.convert_ids_to_tokens(split) == loaded.convert_ids_to_tokens(running)[-len(split) :]


def test_words_are_spaced_where_they_are_spaced_in_text(shared_site: Site, encoder: Checkpoint) -> None:
    assert are_spaced([{"words": ["files", "文件", "text"]}])
    assert not are_spaced([{"words": ["文件", "text"]}, {"words": ["目录"]}])
    english = toy_labelled.build(ToyLabelledSpec(task="token_classification", one_class=True), site=shared_site)
    short = TRAIN.model_copy(update={"num_epochs": 0.5}).model_dump()
    tuned = tune_labelled.build(changed(train=short), encoder, english, site=shared_site)
    tokenizer = framing_tokenizer(tuned.path / "model")
    assert tokenizer.decode(tokenizer(["the", "files"], is_split_into_words=True)["input_ids"]) == "[CLS] the files[SEP]"


def test_a_word_without_a_token_shifts_no_label(encoder: Checkpoint, tmp_path: Path) -> None:
    tokenizer = framing_tokenizer(encoder.path / "model")
    facts = HeadFacts(task="token_classification", label_names=("no", "yes"))
    model = load_with_new_head(encoder.path / "model", tokenizer, facts, 3, None).model
    save_headed(model, tokenizer, 64, tmp_path)

    def said(*words: str) -> Any:
        item = {"id": "a", "text": None, "text_pair": None, "words": words, "labels": ["no"] * len(words), "value": None}
        return predict(tmp_path, [item], "cpu")[0][0]

    words = ["files", "and", "the", "model", "reads", *["text"] * 80]
    plain, holed = said(*words), said(*words[:2], "", *words[2:])
    assert {"no", "yes"} == set(plain.labels[:5])
    assert plain.labels[-1] is None
    assert holed.labels == (*plain.labels[:2], None, *plain.labels[2:])
    assert holed.scores == (*plain.scores[:2], 0.0, *plain.scores[2:])
    assert holed.loss == plain.loss


def test_every_dropout_is_set_whatever_its_name(tmp_path: Path) -> None:
    tiny_of("t5", "AutoModelForSeq2SeqLM", pad_token_id=0).save_pretrained(tmp_path)
    tokenizer = type("Tokenizer", (), {"pad_token_id": 0})
    model = load_with_new_head(tmp_path, tokenizer, FACTS, 0, 0.25).model
    assert {module.p for module in model.modules() if isinstance(module, torch.nn.Dropout)} == {0.25}


@pytest.mark.parametrize(
    ("labelled", "message"),
    [
        (ToyLabelledSpec(one_class=True), "are all of one class \\(en\\).*add items of another class"),
        (ToyLabelledSpec(unlabelled=True), "1 items of .* have no label, e.g. \\['i3'\\]; label them"),
        (ToyLabelledSpec(size=6), "has no validation items"),
    ],
)
def test_what_cannot_be_learned_is_refused(shared_site: Site, encoder: Checkpoint, labelled: Any, message: str) -> None:
    with pytest.raises(ContractError, match=message):
        tune_labelled.build(SPEC, encoder, toy_labelled.build(labelled, site=shared_site), site=shared_site)


@pytest.mark.parametrize(
    ("fields", "task", "message"),
    [
        ({"criterion": "pearson"}, "classification", "no figure of classification; choose loss, accuracy, macro_f1, mcc"),
        ({"label_smoothing": 0.1}, "regression", "a regression has no classes"),
        ({"class_weights": {"kind": "given", "weights": {"de": 1.0}}}, "classification", "names de, but the labels are zh, en"),
    ],
)
def test_an_option_that_does_not_fit_is_refused(
    shared_site: Site, encoder: Checkpoint, fields: Any, task: str, message: str
) -> None:
    with pytest.raises(RecipeError, match=message):
        tune_labelled.build(changed(**fields), encoder, toy_labelled.build(ToyLabelledSpec(task=task), site=shared_site))


@pytest.mark.parametrize("value", [0.1, float("nan")])
def test_values_that_are_all_alike_are_refused_whatever_their_spread_rounds_to(classes: Labelled, value: float) -> None:
    from tasks.tuning.labelled import _value_facts

    rows = [{"id": f"i{number}", "value": value} for number in range(3)]
    with pytest.raises(ContractError, match=f"all train values of .* are {value:g}: there is nothing to learn"):
        _value_facts(classes, rows, rows)


def test_a_budget_in_tokens_and_methods_without_a_plain_form_are_no_recipe() -> None:
    with pytest.raises(ValueError, match=r"set train\.num_epochs"):
        TuneLabelledSpec(train=TrainSpec(num_tokens=10))
    with pytest.raises(ValueError, match=r"'prefix'.*does not match any of the expected tags"):
        changed(method={"kind": "prefix"})


def test_a_tokenizer_that_does_not_know_the_text_is_refused(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    fast = Tokenizer(models.WordLevel({"[UNK]": 0, "[PAD]": 1, "</s>": 2, "a": 3}, unk_token="[UNK]"))
    fast.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=fast, unk_token="[UNK]", pad_token="[PAD]", eos_token="</s>").save_pretrained(
        tmp_path
    )
    tokenizer = framing_tokenizer(tmp_path)

    def rows(text: str) -> LabelledRows:
        item = {"id": "a", "text": text, "text_pair": None, "labels": ["en"]}
        return labelled_rows([item], tokenizer, FACTS, 60, "drop", "train")

    require_known(rows("a " * 30 + "b"), tokenizer, 0.05)
    with pytest.raises(ContractError, match=r"67% of the training tokens are unknown .*\[UNK\].* Take a base"):
        require_known(rows("b b"), tokenizer, 0.05)


def test_folds_hold_labels_alike_and_groups_whole() -> None:
    random = np.random.default_rng(0)
    groups = [str(group) for group in random.integers(0, 60, 300)]
    labels = [("a",) if random.random() < 0.2 else ("b",) for _ in groups]
    folds = deal_out(groups, labels, 5, seed=1)
    assert all(len({fold for fold, own in zip(folds, groups, strict=True) if own == group}) == 1 for group in set(groups))
    dealt = [(int(fold), own) for fold, (own,) in zip(folds, labels, strict=True)]
    counts = np.array([[dealt.count((number, name)) for name in "ab"] for number in range(5)])
    assert np.ptp(counts.sum(axis=1)) <= 8
    assert np.ptp(counts[:, 0]) <= 4
    assert list(folds) == list(deal_out(groups, labels, 5, seed=1))
    assert list(folds) != list(deal_out(groups, labels, 5, seed=2))
    with pytest.raises(RecipeError, match="num_folds is 3, but the training items are 2 groups; set 2 or less"):
        deal_out(["x", "y"], [("a",), ("b",)], 3, seed=0)


def test_copies_go_with_their_original_and_judge_nothing() -> None:
    read = [{"id": f"i{n}", "group": f"g{n}", "labels": ["ab"[n % 2]], "value": None, "made_by": None} for n in range(12)]
    copies = [row | {"id": f"{row['id']}#1", "made_by": "synonyms"} for row in read]
    pseudo = [{"id": "p", "group": "p", "labels": ["a"], "value": None, "made_by": "pseudo_labels"}]
    parts = fold_parts([*read, *copies, *pseudo], "classification", 3, seed=0)
    assert sorted(row["id"] for _, held in parts for row in held) == sorted(row["id"] for row in read)
    for rest, held in parts:
        assert {row["group"] for row in rest}.isdisjoint(row["group"] for row in held)
        assert len(rest) == 2 * (12 - len(held))
        assert "p" not in {row["id"] for row in rest}


def test_values_are_dealt_out_by_their_quantile() -> None:
    assert value_strata([0.0, 1, 2, 3, 4, 5, 6, 7, 8, 9], 2) == [("0",)] * 5 + [("1",)] * 5


def test_mean_and_spread_by_hand() -> None:
    found = mean_and_spread([{"accuracy": 0.8}, {"accuracy": 0.9}])
    assert found == pytest.approx({"folds/accuracy": 0.85, "folds/accuracy_spread": np.sqrt(2) * 0.05})


def test_folds_are_judged_and_change_nothing_of_the_model(shared_site: Site, encoder: Checkpoint, classes: Labelled) -> None:
    plain, folded = (tune_labelled.build(changed(num_folds=k), encoder, classes, site=shared_site) for k in (None, 3))
    assert folded.digest == plain.digest
    assert 0.8 < folded.figures["folds/accuracy"] <= 1
    assert folded.figures["folds/loss_spread"] > 0
    kept = sorted(path.name for path in (folded.path / "extra" / "folds" / "2").iterdir())
    assert kept == ["figures.json", "metrics.jsonl"]
    assert "folds/accuracy" not in plain.figures


def test_a_fold_that_is_done_is_not_trained_again(tmp_path: Path, encoder: Checkpoint, classes: Labelled) -> None:
    from tasks.modeling.parallel import joined
    from tasks.tuning.labelled_train import fold_figures

    for number, accuracy in enumerate((0.5, 0.7)):
        (tmp_path / "folds" / str(number)).mkdir(parents=True)
        (tmp_path / "folds" / str(number) / "figures.json").write_text(json.dumps({"accuracy": accuracy}))
    items = {"train": [{"group": str(n), "labels": ["en"], "made_by": None} for n in range(4)], "validation": []}
    job = type("Job", (), {"num_folds": 2, "facts": FACTS, "seed": 0, "execution": type("E", (), {"extra": tmp_path})})
    with joined("cpu") as world:
        assert fold_figures(job, items, world)["folds/accuracy"] == pytest.approx(0.6)  # type: ignore[arg-type]
