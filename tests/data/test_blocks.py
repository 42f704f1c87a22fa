"""Our blocks decide as datatrove's own filters, and the numbers they decide by are those of its strings."""

import json
import random
from collections import Counter
from typing import get_args

import pytest
from datatrove.data import Document
from datatrove.pipeline.filters import C4QualityFilter, FineWebQualityFilter, GopherQualityFilter, GopherRepetitionFilter
from datatrove.pipeline.filters.base_filter import get_filter_result
from datatrove.pipeline.filters.gopher_repetition_filter import find_all_duplicate, find_top_duplicate, get_n_grams

from tasks.cleaning.blocks import C4Block, FineWebBlock, QualityBlock, RepetitionBlock
from tasks.cleaning.c4 import C4
from tasks.cleaning.fineweb import FineWebQuality
from tasks.cleaning.gopher_quality import GopherQuality
from tasks.cleaning.gopher_repetition import GopherRepetition
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


def distinct(first, number):
    return " ".join(f"w{chr(97 + place // 26)}{chr(97 + place % 26)}" for place in range(first, first + number))


SENTENCES = PROSE.strip()
SHORT_LINES = "\n".join(f"It is line {distinct(number, 1)} here." for number in range(9))
COPIED_LINES = "\n".join(["No."] * 4 + [distinct(number * 12, 12) for number in range(4)])
COPIED_TEXT = "\n".join([distinct(0, 20)] * 2 + [distinct(30 + number * 9, 9) for number in range(6)])
RUNS = distinct(0, 200) + " " + distinct(0, 11)  # a run of 11 words stands there twice
RULES = [
    (C4, "lines_need_end_mark", True, SENTENCES + "\nA line without an end", "kept", "cut"),
    (C4, "min_sentences", None, "Only one sentence is here.", "too_few_sentences", "kept"),
    (C4, "min_words_per_line", None, SENTENCES + "\nTwo words.", "cut", "kept"),
    (C4, "max_word_chars", None, SENTENCES + f"\nThis {'x' * 1_200} is long.", "cut", "kept"),
    (C4, "drop_lorem_ipsum", False, SENTENCES + "\nLorem ipsum dolor sit amet.", "lorem_ipsum", "kept"),
    (C4, "drop_javascript_lines", False, SENTENCES + "\nUse JavaScript here, please do.", "cut", "kept"),
    (C4, "drop_curly_brackets", False, SENTENCES + "\nThis line of prose has a { in it.", "curly_bracket", "kept"),
    (C4, "drop_policy_lines", False, SENTENCES + "\nOur privacy policy is here for you.", "cut", "kept"),
    (C4, "remove_citations", True, SENTENCES + "\nSee [1] and more of it.", "kept", "cut"),
    (FineWebQuality, "min_end_marks", None, "\n".join(distinct(9 * n, 9) for n in range(9)), "line_punct_ratio", "kept"),
    (FineWebQuality, "max_short_lines", None, SHORT_LINES, "short_line_ratio", "kept"),
    (FineWebQuality, "short_line_chars", 10, SHORT_LINES, "short_line_ratio", "kept"),
    (FineWebQuality, "max_dup_line_chars", None, "This line is longer than others and copied.\n" * 2, "char_dup_ratio", "kept"),
    (FineWebQuality, "max_new_lines_per_word", None, "\n".join(f"{'x' * 40}{n}." for n in "abcdefghi"), "list_ratio", "kept"),
    (GopherQuality, "min_words", None, "The cat sat on the mat and looked at the birds.", "gopher_short_doc", "kept"),
    (GopherQuality, "max_words", 60, SENTENCES, "kept", "gopher_long_doc"),
    (GopherQuality, "min_mean_word_chars", None, "the of a I it is to be " * 10, "gopher_below_avg_threshold", "kept"),
    (GopherQuality, "max_mean_word_chars", None, "the " + "internationalisation of " * 30, "gopher_above_avg_threshold", "kept"),
    (GopherQuality, "max_symbols_per_word", 0.001, SENTENCES + " #", "kept", "gopher_too_many_hashes"),
    (GopherQuality, "max_bullet_lines", None, "• " + SENTENCES.replace(". ", ".\n• "), "gopher_too_many_bullets", "kept"),
    (GopherQuality, "max_ellipsis_lines", None, SENTENCES.replace(". ", "...\n"), "gopher_too_many_end_ellipsis", "kept"),
    (GopherQuality, "min_alphabetic_words", None, SENTENCES + " 12" * 40, "gopher_below_alpha_threshold", "kept"),
    (GopherQuality, "min_stop_words", None, distinct(0, 60), "gopher_enough_stop_words", "kept"),
    (GopherQuality, "stop_words", ("waa", "wab"), distinct(0, 60), "gopher_enough_stop_words", "kept"),
    (GopherRepetition, "dup_lines", None, COPIED_LINES, "dup_line_frac", "kept"),
    (GopherRepetition, "dup_line_chars", None, COPIED_TEXT, "dup_line_char_frac", "duplicated_5_n_grams"),
    (GopherRepetition, "dup_paragraphs", None, COPIED_LINES.replace("\n", "\n\n"), "dup_para_frac", "dup_line_frac"),
    (
        GopherRepetition,
        "dup_paragraph_chars",
        None,
        COPIED_TEXT.replace("\n", "\n\n"),
        "dup_para_char_frac",
        "dup_line_char_frac",
    ),
    (GopherRepetition, "min_words_for_runs", 81, "buy now " * 40, "top_2_gram", "kept"),
    *((GopherRepetition, f"top_{n}_gram", 0.01, RUNS, "kept", f"top_{n}_gram") for n in range(2, 5)),
    *((GopherRepetition, f"dup_{n}_grams", 0.01, RUNS, "kept", f"duplicated_{n}_n_grams") for n in range(5, 11)),
]


def verdict(rules, text):
    kept, reason = rules.build()(text, "en")
    return reason or ("kept" if kept == text else "cut")


@pytest.mark.parametrize(("filter", "field", "value", "text", "before", "after"), RULES, ids=lambda value: str(value)[:40])
def test_every_field_of_a_filter_decides(filter, field, value, text, before, after):
    (kind,) = get_args(filter.model_fields["kind"].annotation)
    assert verdict(filter(kind=kind), text) == before
    changed = filter.model_fields["en"].default.model_copy(update={field: value})
    assert verdict(filter(kind=kind, en=changed), text) == after


def test_every_field_has_a_text():
    fields = {(filter, field) for filter, field, *_ in RULES}
    filters = (C4, FineWebQuality, GopherQuality, GopherRepetition)
    assert fields == {(filter, field) for filter in filters for field in type(filter.model_fields["en"].default).model_fields}
