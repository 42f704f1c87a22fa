"""Words and sentences are those of datatrove's own tokenizers, so its filters decide alike."""

import json
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.cleaning.english_rules import EnglishRules, rules_file
from tasks.cleaning.words import word_tokenizer
from tests.conftest import ROOT
from tests.english_rules import spacy_rules

TEXTS = [
    'Hello.  World. "Quoted." he said... What?! OK',
    "a.m. in the U.S.A., e.g. it's don't cannot; see http://a.b/c?d=e and a-b_c (x).",
    "",
    " \n x",
    'end.  " We go on.',
    "IS_ALPHA test",
    "(8), ;-)x :)) (10a.m.), 'Cause US$5 5US$ 10km. 9°C. l'd’s “O.K.” ..x.. --a--b-- a/b:c=d%5E @x #y $$$",
    "a(:) colon(:) (o.O)x :-)) 9a.m.-5p.m. x--y 16-to-8 p4-pre A.M.,",
    "www.x.org, (http://a.b.c/d?e=f). x@y.z; file.tar.gz 3.14-2 1,000.50$ v1.2-rc3+x été… A$1 C$",
]
MARKS = st.text(st.sampled_from("aZ8.,:;!?()[]{}<>'\"-–—/\\@#$%&*_=+~^|°€é中。sSkmM…’”"), min_size=1, max_size=9)


@pytest.fixture(scope="module")
def theirs():
    from datatrove.utils.word_tokenizers import load_word_tokenizer

    return load_word_tokenizer("eng")


@pytest.fixture(scope="module")
def pages(request):
    folder = request.getfixturevalue("shared_data")
    return [
        json.loads(line)["text"] for line in (folder / "corpus" / "c4_demo.jsonl").read_text(encoding="utf-8").splitlines()[:60]
    ]


@pytest.mark.parametrize("text", TEXTS)
def test_english_words_of_hard_texts(theirs, text):
    assert word_tokenizer("en").word_tokenize(text) == theirs.word_tokenize(text)


@settings(max_examples=300, deadline=None)
@given(MARKS)
def test_english_words_of_any_marks(theirs, run):
    assert word_tokenizer("en").split(run) == theirs.word_tokenize(run)


@pytest.mark.parametrize(
    ("run", "words"),
    [
        ("!", ["!"] * 200_000),
        ("(", ["("] * 200_000),
        ("\u3002", ["\u3002"] * 200_000),
        ("..!", ["..", "!"] * 200_000),
        (".", ["." * 200_000]),
    ],
)
def test_a_long_run_of_marks_is_not_copied_for_each(run, words):
    assert word_tokenizer("en").split(run * 200_000) == words


def test_a_run_of_colons_is_looked_at_once():
    assert not EnglishRules(rules_file()).is_address("a." + "x:" * 200_000)


@pytest.mark.parametrize(
    "run", ["..", "x.." * 3, "..x....y...", "(..don't..)", "...)...", "US$..US$5..", "+1..+..+", "a.m...", "......"]
)
def test_english_words_of_dots(theirs, run):
    assert word_tokenizer("en").split(run) == theirs.word_tokenize(run)


def test_english_words_of_web_pages(theirs, pages):
    assert [word_tokenizer("en").word_tokenize(page) for page in pages] == [theirs.word_tokenize(page) for page in pages]


def test_english_sentences_of_web_pages(theirs, pages):
    lines = [line.strip() for page in pages[:25] for line in page.splitlines() if line.strip()] + [
        text for text in TEXTS if text.strip()
    ]
    ours, expected = ([len(one.span_tokenize(line)) for line in lines] for one in (word_tokenizer("en"), theirs))
    assert ours == expected


def test_chinese_words():
    words = word_tokenizer("zh").word_tokenize("我们在使用 Debian 系统。\n春眠不觉晓，处处闻啼鸟。")
    assert words == ["我们", "在", "使用", "Debian", "系统", "。", "春眠", "不觉", "晓", "，", "处处", "闻啼鸟", "。"]


def test_spans_cover_the_text():
    text = "One. Two! Three"
    assert [text[start:end] for start, end in word_tokenizer("en").span_tokenize(text)] == ["One. ", "Two! ", "Three"]
    assert word_tokenizer("en").sent_tokenize(text) == ["One.", "Two!", "Three"]


def test_jieba_reads_no_cache_that_others_could_write(tmp_path, monkeypatch):
    import marshal

    from tasks.cleaning import words

    monkeypatch.setattr(marshal, "load", lambda file: pytest.fail("a cache was read"))
    words.word_tokenizer.cache_clear()
    assert words.word_tokenizer("zh").word_tokenize("系统") == ["系统"]


def test_the_rules_are_those_of_the_spacy_that_is_installed():
    assert rules_file() == spacy_rules()


def test_spacy_is_not_imported():
    code = "from tasks.cleaning.words import word_tokenizer; word_tokenizer('en').split('a. :)'); import sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "tasks.cleaning.english_words" in done.stdout.split()
    assert "spacy" not in done.stdout.split()
