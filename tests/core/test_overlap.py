"""Overlap: items are found by a whole run or a whole answer, never by less; template proves nothing."""

import pytest

from tasks.core.overlap import OverlapRules, Reference, ReferenceItem

RULES = OverlapRules(words_per_ngram=5, chars_per_ngram=6, min_answer_units=4, max_items_per_ngram=2)
ITEMS = [
    ReferenceItem("en", "a", ("Which river runs through the old town of Basel?", "It is the Rhine.")),
    ReferenceItem("zh", "a", ("哪一个命令可以显示目录的内容", "用 ls 命令"), "用 ls 命令"),
]


def found(text, items=ITEMS, **rules):
    reference = Reference(items, RULES.model_copy(update=rules))
    return [(items[match.item].id, match.reason, match.num_ngrams, match.excerpt) for match in reference.matches([text])]


def test_a_shared_run_is_found_in_any_case_width_and_punctuation():
    assert found("He asked: WHICH river, runs\nthrough the NEW town?") == [("en", "ngram", 1, "which river, runs through the")]
    assert found("他问哪一个命令，可以显示什么") == [("zh", "ngram", 4, "哪一个命令,可以显示")]


def test_one_unit_less_than_a_run_is_not_found():
    assert found("Which river runs through a town") == []
    assert found("可以显示目 可以显示目") == []
    assert found("a river runs through the x old town of") == []


def test_the_length_of_a_run_is_that_of_its_way_of_writing():
    assert found("which river runs through", words_per_ngram=5) == []
    assert found("which river runs through the", words_per_ngram=6) == []
    assert found("which river runs through the", chars_per_ngram=20)
    assert found("可以显示目", chars_per_ngram=5)


def test_an_answer_is_found_whole_or_not_at_all():
    assert found("列目录时用ls命令。") == [("zh", "answer", 0, "用ls命令")]
    assert [row[:3] for row in found("列目录时：用 ls 命令。")] == [("zh", "answer", 0)]
    assert found("用 ls 命", min_answer_units=4) == []
    assert found("列目录时：用 ls 命令。", min_answer_units=5) == []
    assert found("列目录时：用 ls 命令。", min_answer_units=None) == []


def test_a_long_answer_is_compared_to_its_end():
    item = [ReferenceItem("x", "a", (), "one two three four five six")]
    assert found("say one two three four five six now", item) == [("x", "answer", 0, "one two three four five six")]
    assert found("say one two three four five seven now", item) == []


def test_no_run_crosses_from_one_text_into_the_next():
    reference = Reference(ITEMS, RULES)
    assert list(reference.matches(["which river runs", "through the old", "", "town"])) == []
    assert [match.text for match in reference.matches(["", "x", "which river runs through the"])] == [2]
    assert list(reference.matches([])) == []


TEMPLATE = "Translate this line into plain words please: "


def templated(number):
    ends = ("a cat sat on the warm mat", "rain fell over hills all night", "ships sail when tides turn north")
    return [ReferenceItem(str(place), "a", (TEMPLATE + end,)) for place, end in enumerate(ends[:number])]


def test_a_run_of_many_items_and_what_touches_it_prove_nothing():
    assert [row[0] for row in found(TEMPLATE, templated(2))] == ["0", "1"]
    assert found(TEMPLATE, templated(3)) == []
    assert found(TEMPLATE + "a cat", templated(3)) == []
    assert [row[0] for row in found("a cat sat on the", templated(3))] == ["0"]
    assert len(found(TEMPLATE, templated(3), max_items_per_ngram=None)) == 3
    assert Reference(templated(3), RULES).num_template_ngrams == 3


def test_items_of_nothing_but_template_are_not_counted_as_short():
    reference = Reference([*templated(3), ReferenceItem("t", "a", (TEMPLATE,)), ReferenceItem("s", "a", ("Short.",))], RULES)
    assert reference.unreachable == {3, 4}
    assert reference.num_too_short == 1


def test_a_passage_that_many_items_ask_about_is_one_text_and_no_template():
    passage = "In 1492 three small ships left the harbour of Palos in August"
    items = [ReferenceItem(str(number), "a", (passage, f"What is {number}?")) for number in range(16)]
    assert [row[0] for row in found(f"A page. {passage}. The end.", items)] == [item.id for item in items]
    assert found(f"A page. {passage}. The end.", templated(3)) == []


def test_items_that_nothing_can_find_are_counted():
    short = [ReferenceItem("s", "a", ("Too short.", "Yes."), "Yes.")]
    assert Reference([*ITEMS, *short], RULES).unreachable == {2}
    assert Reference([*ITEMS, *short], RULES).num_too_short == 1
    assert Reference(ITEMS, RULES).unreachable == frozenset()
    assert Reference([], RULES).unreachable == frozenset()
    assert list(Reference([], RULES).matches(["anything"])) == []


@pytest.mark.parametrize("copies", [1, 5])
def test_an_ngram_counts_once_however_often_it_stands_there(copies):
    assert found("which river runs through the. " * copies)[0][2] == 1


def test_a_text_that_is_a_benchmark_is_split_once_not_once_for_each_item():
    items = [ReferenceItem(str(number), "a", (" ".join(f"q{number}w{word}" for word in range(6)),)) for number in range(2_000)]
    filler = " ".join(f"f{number}" for number in range(150_000))
    text = f"{filler} {'. '.join(item.texts[0] for item in items)}"
    assert found(text, items) == [(item.id, "ngram", 2, item.texts[0]) for item in items]


def test_excerpts_are_those_of_their_own_text():
    matches = Reference(ITEMS, RULES).matches(
        ["用 ls 命令；so which river runs through the town", "", "x, which river runs through the"]
    )
    assert [(match.text, match.item, match.excerpt) for match in matches] == [
        (0, 0, "which river runs through the"),
        (0, 1, "用 ls 命令"),
        (2, 0, "which river runs through the"),
    ]
