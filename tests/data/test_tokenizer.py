"""Tokenizer: lossless, deterministic, special tokens apart from text, chat template, adoption."""

import json
import shutil

import pytest
from transformers import AutoTokenizer

from tasks.core.errors import ContractError, RecipeError
from tasks.core.store import Store
from tasks.tokenization import TokenizerSpec, make_tokenizer
from tasks.tokenization.training import load_plain, unknown_shares
from tests.data.kit import chinese, clean_of, english, no_base


def trained(**settings):
    return TokenizerSpec.model_validate({"source": {"kind": "train", "vocab_size": 600} | settings})


def adopted(**settings):
    return TokenizerSpec.model_validate({"source": {"kind": "adopt"} | settings})


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    from tasks.core.site import Site

    folder = tmp_path_factory.mktemp("corpus")
    texts = [(english if number % 2 else chinese)(number) for number in range(80)]
    rows = [{"id": f"d{number:03d}", "text": text} for number, text in enumerate(texts)]
    return clean_of(Site(state_dir=folder / "state", data_workers=1), folder, rows, validation_share=0.1, test_share=0.1)


@pytest.fixture(scope="module")
def tokenizer(corpus, tmp_path_factory):
    from tasks.core.site import Site

    return make_tokenizer.build(
        trained(),
        corpus,
        no_base(Site(state_dir=tmp_path_factory.mktemp("tokenizer"), data_workers=1)),
        site=Site(state_dir=tmp_path_factory.mktemp("tokenizer"), data_workers=1),
    )


TEXTS = [
    "Hello, world! It's 12345 o'clock.",
    "天地玄黄，宇宙洪荒。",
    "mixed 中文 and English\n\n\tcode = {1: 'x'}\r\n",
    "emoji \U0001f600 and rare \U00020000 \u0e01\u0e33",
    " leading and trailing ",
    "<|im_end|> in a text is text <|endoftext|>",
    "\x00\x01",
    "",
]


@pytest.mark.parametrize("text", TEXTS)
def test_any_text_comes_back(tokenizer, text):
    model = load_plain(tokenizer.path)
    assert model.decode(model.encode(text, add_special_tokens=False).ids, skip_special_tokens=False) == text


@pytest.mark.parametrize("text", TEXTS)
def test_special_tokens_are_never_made_from_text(tokenizer, text):
    model = load_plain(tokenizer.path)
    assert min(model.encode(text, add_special_tokens=False).ids, default=4) >= 4


def test_the_facts(tokenizer):
    assert tokenizer.vocab_size == 600
    assert tokenizer.special_tokens == {
        "end_of_text": "<|endoftext|>",
        "pad": "<|pad|>",
        "turn_start": "<|im_start|>",
        "turn_end": "<|im_end|>",
    }
    assert tokenizer.has_chat_template
    assert set(tokenizer.bytes_per_token) == {"zh", "en"}
    assert min(tokenizer.bytes_per_token.values()) > 1.5


def test_transformers_loads_it(tokenizer):
    loaded = AutoTokenizer.from_pretrained(tokenizer.path)
    assert len(loaded) == tokenizer.vocab_size
    assert (loaded.eos_token, loaded.pad_token, loaded.bos_token) == ("<|endoftext|>", "<|pad|>", None)
    assert loaded.convert_tokens_to_ids(["<|endoftext|>", "<|pad|>", "<|im_start|>", "<|im_end|>"]) == [0, 1, 2, 3]
    assert loaded("天地 one").input_ids == load_plain(tokenizer.path).encode("天地 one", add_special_tokens=False).ids


EXTRA = {"mask": "[MASK]", "cls": "[CLS]", "sentinel_0": "<extra_id_0>", "fim_prefix": "<|fim_prefix|>"}


def test_an_objective_s_tokens_follow_the_four_and_are_never_made_from_text(corpus, tokenizer, tmp_path):
    from tasks.core.site import Site

    found = make_tokenizer.build(
        trained(extra_special=EXTRA), corpus, no_base(Site(state_dir=tmp_path)), site=Site(state_dir=tmp_path)
    )
    assert found.special_tokens == tokenizer.special_tokens | EXTRA
    assert found.vocab_size == 600
    loaded = AutoTokenizer.from_pretrained(found.path)
    assert loaded.convert_tokens_to_ids(list(EXTRA.values())) == [4, 5, 6, 7]
    assert (loaded.mask_token, loaded.cls_token) == ("[MASK]", "[CLS]")
    assert set(EXTRA.values()) <= set(loaded.all_special_tokens)
    text = "a [MASK] of <extra_id_0> text"
    ids = load_plain(found.path).encode(text, add_special_tokens=False).ids
    assert min(ids) >= 8
    assert load_plain(found.path).decode(ids, skip_special_tokens=False) == text
    again = make_tokenizer.build(
        adopted(path=str(found.path)), corpus, no_base(Site(state_dir=tmp_path)), site=Site(state_dir=tmp_path)
    )
    assert again.special_tokens == found.special_tokens


def test_the_chat_template(tokenizer):
    loaded = AutoTokenizer.from_pretrained(tokenizer.path)
    messages = [{"role": "user", "content": "Q?"}, {"role": "assistant", "content": "A."}]
    text = loaded.apply_chat_template(messages, tokenize=False)
    assert text == "<|im_start|>user\nQ?<|im_end|>\n<|im_start|>assistant\nA.<|im_end|>\n"
    prompt = loaded.apply_chat_template(messages[:1], tokenize=False, add_generation_prompt=True)
    assert text.startswith(prompt)
    assert prompt.endswith("<|im_start|>assistant\n")


def pieces_of(model):
    return [text for text, _ in model.pre_tokenizer.pre_tokenize_str("a12345 天地玄黄abc,it's")]


def test_digits_come_in_threes_and_han_runs_may_be_tokens(tokenizer):
    pieces = pieces_of(load_plain(tokenizer.path))
    assert pieces[:4] == ["a", "123", "45", "Ġ"]
    assert pieces[5:] == ["abc", ",", "it", "'s"]


def test_text_may_be_split_as_llama_3_does(corpus, tmp_path):
    from tasks.core.site import Site

    site = Site(state_dir=tmp_path, data_workers=1)
    found = make_tokenizer.build(trained(split="llama3"), corpus, no_base(site), site=site)
    pieces = pieces_of(load_plain(found.path))
    assert pieces[:3] == ["a", "123", "45"]
    assert pieces[4:] == [",it", "'s"], "the space, the Han run and abc are one"


def test_the_same_corpus_gives_the_same_bytes_with_any_threads(corpus, tokenizer, tmp_path, monkeypatch):
    from tasks.core.site import Site

    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "true")
    again = make_tokenizer.build(trained(), corpus, no_base(Site(state_dir=tmp_path)), site=Site(state_dir=tmp_path))
    assert again.digest == tokenizer.digest
    assert again.uri != tokenizer.uri


def test_only_the_training_split_is_seen(site, tmp_path):
    """A word that stands only in held-out documents is no token."""
    from tests.data.kit import documents

    marker = "zyxwvutsrq"
    rows = [{"id": f"d{number:03d}", "text": english(number)} for number in range(60)]
    splits = {row["id"]: row["split"] for row in documents(clean_of(site, tmp_path, rows, validation_share=0.2, test_share=0.2))}
    for row in rows:
        if splits[f"test/{row['id']}"] != "train":
            row["text"] += f" {marker}" * 5
    marked = clean_of(site, tmp_path / "marked", rows, validation_share=0.2, test_share=0.2)
    model = load_plain(make_tokenizer.build(trained(), marked, no_base(site), site=site).path)
    assert f"\u0120{marker}" not in model.get_vocab()
    assert len(model.encode(f" {marker}", add_special_tokens=False).ids) > 4


def test_a_small_corpus_may_give_a_smaller_vocabulary(corpus, tmp_path):
    from tasks.core.site import Site

    found = make_tokenizer.build(
        trained(vocab_size=50_000), corpus, no_base(Site(state_dir=tmp_path)), site=Site(state_dir=tmp_path)
    )
    assert 600 < found.vocab_size < 50_000


def test_a_pair_that_is_rarer_than_asked_is_not_merged(corpus, site):
    sizes = [
        make_tokenizer.build(trained(vocab_size=50_000, min_frequency=least), corpus, no_base(site), site=site).vocab_size
        for least in (2, 30, 1_000_000)
    ]
    assert sizes[0] > sizes[1] > sizes[2] == 256 + 4, "bytes and special tokens"


def test_an_own_tokenizer_can_be_adopted(corpus, tokenizer, site):
    found = make_tokenizer.build(adopted(path=str(tokenizer.path)), corpus, no_base(site), site=site)
    assert found.special_tokens == tokenizer.special_tokens
    assert found.vocab_size == tokenizer.vocab_size
    assert found.has_chat_template
    text = "天地 one two."
    assert load_plain(found.path).encode(text).ids == load_plain(tokenizer.path).encode(text).ids
    assert str(tokenizer.path) not in (found.path / "tokenizer_config.json").read_text(encoding="utf-8")


def test_the_largest_id_counts_where_a_vocabulary_has_holes(corpus, tokenizer, site, tmp_path):
    shutil.copytree(tokenizer.path, tmp_path / "holes")
    facts = json.loads((tmp_path / "holes" / "tokenizer.json").read_text(encoding="utf-8"))
    last = max(facts["model"]["vocab"], key=facts["model"]["vocab"].get)
    facts["model"]["vocab"][last] = 69_999
    (tmp_path / "holes" / "tokenizer.json").write_text(json.dumps(facts), encoding="utf-8")
    found = make_tokenizer.build(adopted(path=str(tmp_path / "holes")), corpus, no_base(site), site=site)
    assert found.vocab_size == 70_000


def test_a_foreign_tokenizer_can_be_adopted(corpus, shared_data, site):
    path = shared_data / "tokenizer" / "minimind_6400" / "tokenizer.json"
    found = make_tokenizer.build(adopted(path=str(path)), corpus, no_base(site), site=site)
    assert found.vocab_size == 6_400
    assert found.special_tokens["end_of_text"] in load_plain(found.path).get_vocab()
    assert AutoTokenizer.from_pretrained(found.path).pad_token == found.special_tokens["pad"]


def test_an_adopted_tokenizer_is_pinned_by_its_bytes(corpus, tokenizer, site, tmp_path):
    folder = tmp_path / "copy"
    folder.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (folder / name).write_bytes((tokenizer.path / name).read_bytes())
    here, there = adopted(path=str(folder)), adopted(path=str(tokenizer.path))
    assert str(folder) not in json.dumps(here.pinned(site).identity())
    prints = {make_tokenizer.fingerprint(spec, (corpus, no_base(site)), site) for spec in (here, there)}
    assert len(prints) == 1
    (folder / "chat_template.jinja").write_text("other")
    assert make_tokenizer.fingerprint(here, (corpus, no_base(site)), site) not in prints


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "needs a path or a name, and not both"),
        ({"path": "a", "name": "b"}, "needs a path or a name, and not both"),
        ({"name": "owner/model", "revision": "main"}, r"revision is 'main', which may move.*owner/model/commits"),
        ({"path": "/nowhere/at/all"}, "matches no file"),
    ],
)
def test_a_wrong_adoption_is_the_users_error(corpus, site, settings, message):
    with pytest.raises(RecipeError, match=message):
        make_tokenizer.build(adopted(**settings), corpus, no_base(site), site=site)


def test_a_broken_tokenizer_file_is_refused(corpus, site, tmp_path):
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ContractError, match="could not be loaded"):
        make_tokenizer.build(adopted(path=str(tmp_path / "tokenizer.json")), corpus, no_base(site), site=site)


def test_a_damaged_tokenizer_is_refused_downstream(corpus, tokenizer, site):
    data = (tokenizer.path / "tokenizer.json").read_bytes()
    try:
        (tokenizer.path / "tokenizer.json").write_bytes(data[:-1] + b" ")
        with pytest.raises(ContractError, match="is damaged"):
            Store(site.store_dir).verify(tokenizer)
    finally:
        (tokenizer.path / "tokenizer.json").write_bytes(data)


def test_a_unigram_tokenizer_names_what_it_does_not_know_by_an_id(site, tmp_path):
    from tokenizers import Tokenizer, models

    known = [("<unk>", 0.0), *((letter, -1.0) for letter in "abcdefghijklmnopqrstuvwxyz ,.ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")]
    rows = [{"id": f"{number:03d}", "text": (english if number % 2 else chinese)(number)} for number in range(80)]
    corpus = clean_of(site, tmp_path, rows, validation_share=0.2)
    Tokenizer(models.Unigram(known, 0, False)).save(str(tmp_path / "tokenizer.json"))
    shares = unknown_shares(tmp_path, corpus)
    assert shares["zh"] > 0.4 > 0.01 > shares["en"]


def test_a_tokenizer_that_does_not_know_the_text_is_refused(site, tmp_path):
    """A word list of English on Chinese text; the measure is of the validation split, by language."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    model = Tokenizer(models.WordLevel(unk_token="[UNK]"))
    model.pre_tokenizer = pre_tokenizers.Whitespace()
    rows = [{"id": f"e{number:03d}", "text": english(number)} for number in range(40)]
    model.train_from_iterator((row["text"] for row in rows), trainers.WordLevelTrainer(special_tokens=["[UNK]", "</s>"]))
    PreTrainedTokenizerFast(tokenizer_object=model, unk_token="[UNK]", eos_token="</s>").save_pretrained(tmp_path / "words")
    adopt = adopted(path=str(tmp_path / "words"))
    corpus = clean_of(site, tmp_path / "en", rows, validation_share=0.2)
    assert make_tokenizer.build(adopt, corpus, no_base(site), site=site).bytes_per_token.keys() == {"en"}
    mixed = rows + [{"id": f"z{number:03d}", "text": chinese(number)} for number in range(40)]
    corpus = clean_of(site, tmp_path / "both", mixed, validation_share=0.2)
    with pytest.raises(ContractError, match=r"\d\d\.\d% of the tokens of 'zh' text are unknown .* 5\.0% are allowed"):
        make_tokenizer.build(adopt, corpus, no_base(site), site=site)
    allowed = adopt.model_copy(update={"max_unknown_share": 1.0})
    assert make_tokenizer.build(allowed, corpus, no_base(site), site=site).bytes_per_token.keys() == {"en", "zh"}
