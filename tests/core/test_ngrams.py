"""N-grams: what a unit is, which runs are equal, and that a batch is its texts one by one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.core.ngrams import is_by_character, run_hashes, unit_hashes, unit_spans
from tasks.core.text import normalized

TEXTS = st.lists(
    st.text(st.sampled_from("aB1_ ,.-\n　天地カ가ไé\U00020000\U0001f600") | st.characters(codec="utf-8"), max_size=30), max_size=6
)


def units(text, **options):
    return unit_hashes([normalized(text)], **options)[0].tolist()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The CAT, sat!", ["the", "cat", "sat"]),
        ("天地ab玄 x_1", ["天", "地", "ab", "玄", "x_1"]),
        ("한국어 テスト", ["한국어", "テ", "ス", "ト"]),
        ("。！ -- ", []),
    ],
)
def test_units_by_hand(text, expected):
    plain = normalized(text)
    assert [plain[start:end] for start, end in unit_spans(plain)] == expected
    assert len(units(text)) == len(expected)


def test_case_width_space_and_punctuation_do_not_count():
    assert units("Ａ天地，玄 黄") == units("a 天地玄黄。")
    assert len(set(units("one two one"))) == 2


def test_scripts_without_spaces_can_be_words():
    assert units("天地 玄黄", by_character=False) == units("天地, 玄黄", by_character=False)
    assert len(units("天地 玄黄", by_character=False)) == 2


@settings(max_examples=50, deadline=None, database=None)
@given(TEXTS)
def test_a_batch_is_its_texts_one_by_one_and_both_ways_of_cutting_agree(texts):
    plain = [normalized(text) for text in texts]
    together, bounds = unit_hashes(plain)
    assert len(bounds) == len(texts) + 1
    for text, start, end in zip(plain, bounds, bounds[1:], strict=False):
        assert together[start:end].tolist() == unit_hashes([text])[0].tolist()
        assert end - start == len(unit_spans(text))


def test_runs_hang_on_units_and_their_order():
    first, second = unit_hashes(["a b c a b", "b a"])[0][:5], unit_hashes(["b a"])[0]
    runs = run_hashes(first, 2)
    assert runs[0] == runs[3]
    assert len(set(runs.tolist())) == 3
    assert run_hashes(second, 2)[0] not in runs
    assert len(run_hashes(second, 3)) == 0


def test_the_hashes_are_the_same_on_every_machine():
    assert units("one 天") == [345509121258010360, 17990660755485384619]
    assert run_hashes(np.array([1, 2, 3], dtype=np.uint64), 2).tolist() == [10905525725756348110, 12918135221727111561]


def test_no_two_of_many_words_share_a_hash():
    words = [f"w{number}" for number in range(50_000)]
    assert len(np.unique(unit_hashes([" ".join(words)])[0])) == 50_000


def test_a_text_is_by_character_where_most_units_are():
    assert is_by_character("显示目录内容 ls")
    assert not is_by_character("the command ls 目录")
    assert not is_by_character("")
