"""Our blocks decide as datatrove's own filters, and the numbers they decide by are those of its strings."""

import json
import random
from collections import Counter

import pytest
from datatrove.data import Document
from datatrove.pipeline.filters import C4QualityFilter, FineWebQualityFilter, GopherQualityFilter, GopherRepetitionFilter
from datatrove.pipeline.filters.base_filter import get_filter_result
from datatrove.pipeline.filters.gopher_repetition_filter import find_all_duplicate, find_top_duplicate, get_n_grams

from tasks.cleaning.blocks import C4Block, FineWebBlock, QualityBlock, RepetitionBlock
from tasks.cleaning.split import Split, repeated_run_chars, top_run_chars
from tasks.cleaning.words import word_tokenizer
from tests.data.kit import PROSE, chinese, english

PAIRS = [
    (GopherRepetitionFilter, RepetitionBlock),
    (GopherQualityFilter, QualityBlock),
    (C4QualityFilter, C4Block),
    (FineWebQualityFilter, FineWebBlock),
]
HARD = [
    "",
    "\n",
    " \n x",
    "one",
    "buy now " * 40,
    "Buy now and save money today.\n" * 6,
    "# # # # . . . .\n" + PROSE,
    "- item\n" * 12 + PROSE,
    "and so on...\n" * 3 + PROSE + "\nthen…",
    "1 2 3 4 " * 20 + PROSE,
    PROSE + "\nUse JavaScript here, please do.\nOur privacy policy is here for you.\nSee [1] and [edit] for more.",
    PROSE + "\nLorem ipsum dolor sit amet.",
    PROSE + "\nThis line of prose has a { in it.",
    PROSE + "\n" + "x" * 1_200 + " is a long word.",
    "Home\nProducts\nAbout us\nContact\nNews and events of this year",
    "First. Second. Third. Fourth. And fifth, too.",
    (PROSE + "\n\n") * 3,
]


def ask(block, text):
    document = Document(text=text, id="")
    try:
        keep, reason = get_filter_result(block.filter(document))
    except ZeroDivisionError:
        return "ZeroDivisionError"
    return (document.text, None) if keep else reason


def pages(shared_data):
    lines = (shared_data / "corpus" / "c4_demo.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["text"] for line in lines]


@pytest.fixture(scope="module")
def texts(shared_data):
    """Texts for each rule, web pages, and pages with lines repeated, which the rules of repetition drop."""
    found = pages(shared_data)[:120]
    choose = random.Random(1)
    repeated = ["\n".join(choose.choices(text.split(". "), k=30)) for text in found[:60]]
    return HARD + [english(number) for number in range(20)] + found + repeated


@pytest.mark.parametrize(("theirs", "ours"), PAIRS)
def test_given_the_same_words_a_block_says_what_datatrove_says(texts, theirs, ours):
    words = word_tokenizer("en")
    expected = [ask(theirs(language=words), text) for text in texts]
    assert [ask(ours(language=words), text) for text in texts] == expected
    reasons = Counter(one if isinstance(one, str) else "kept" for one in expected)
    assert len(reasons) > 3, reasons


@pytest.mark.parametrize(("theirs", "ours"), PAIRS)
def test_with_words_of_its_own_a_block_says_what_datatrove_says_with_spacy(shared_data, theirs, ours):
    one, other = theirs(), ours()
    for text in pages(shared_data)[150:190]:
        assert ask(other, text) == ask(one, text)


@pytest.mark.parametrize(
    "settings",
    [
        {"filter_no_terminal_punct": False},
        {"min_num_sentences": -1},
        {"min_words_per_line": -1},
        {"max_word_length": 5},
        {"max_word_length": -1},
        {"filter_lorem_ipsum": False},
        {"filter_javascript": False},
        {"filter_curly_bracket": False},
        {"filter_policy": False},
        {"remove_citations": False},
        {"split_paragraph": False},
    ],
)
def test_every_setting_of_c4_is_datatroves(settings):
    words = word_tokenizer("en")
    for text in HARD:
        assert ask(C4Block(language=words, **settings), text) == ask(C4QualityFilter(language=words, **settings), text)


def test_chinese_runs_are_judged_alike():
    words = word_tokenizer("zh")
    for text in [chinese(number) for number in range(5)] + [chinese(1) * 4, "这个产品非常好用，" * 30]:
        assert ask(RepetitionBlock(language=words), text) == ask(GopherRepetitionFilter(language=words), text)


def test_runs_are_counted_by_hand():
    words = ["a", "b", "c", "a", "b", "d", "a", "b", "c"]
    assert top_run_chars(Split(words), 2, 0) == 3 * len("a b")
    assert top_run_chars(Split(words), 3, 0) == 2 * len("a b c")
    assert top_run_chars(Split(words), 2, 9) == 0  # not more than what is asked for
    assert repeated_run_chars(Split(words), 2, 0) == len("ab") + len("ab")
    assert repeated_run_chars(Split(words), 3, 0) == len("abc")
    assert repeated_run_chars(Split(words), 10, 0) == 0
    assert repeated_run_chars(Split(words), 3, 3) == 0  # the one later copy has no more than that


def test_runs_are_those_of_datatrove_in_texts_made_by_chance():
    choose = random.Random(7)
    for number in range(150):
        words = choose.choices(["a", "b", "ab", "ba", "c", "é", "我", "𠀀"][: 2 + number % 7], k=choose.randrange(1, 120))
        for n in (2, 3, 5, 7):
            assert repeated_run_chars(Split(words), n, 0) == find_all_duplicate(words, n)
            if len(words) >= n:
                assert top_run_chars(Split(words), n, 0) == find_top_duplicate(get_n_grams(words, n))


def test_runs_are_looked_at_from_a_number_of_words_on():
    text = "buy now " * 40
    assert ask(RepetitionBlock(min_words_for_runs=80), text) == "top_2_gram"
    assert ask(RepetitionBlock(min_words_for_runs=81), text) == (text, None)


def test_blocks_run_in_a_pipeline_of_datatrove(tmp_path):
    from datatrove.executor import LocalPipelineExecutor

    kept = []

    def collect(data, rank=0, world_size=1):
        for document in data:
            kept.append(document.text)
            yield document

    blocks = [ours() for _, ours in PAIRS]
    documents = [Document(text=text, id=str(number)) for number, text in enumerate([PROSE, PROSE + "A { here.", "buy now " * 40])]
    stats = LocalPipelineExecutor(pipeline=[documents, *blocks, collect], logging_dir=str(tmp_path)).run()
    assert kept == [PROSE.strip()]
    dropped = Counter(name for one in stats.stats for name in one.stats if name.startswith("dropped_"))
    assert dropped == {"dropped_curly_bracket": 1, "dropped_top_2_gram": 1}
