"""Prose: code and mark-up are taken out of what quality rules see."""

import pytest

from tasks.cleaning.prose import code_lines, is_structure, prose

PAGE = (
    "# Title\n\nUse `ls -l` and **look**.\n\n```sh\n$ ls\n### no heading\n```\n\n- first item\n| a | b |\n|---|---|\n> quoted\n"
)


def test_marks_and_code_go_and_words_stay():
    assert prose(PAGE) == "Title\n\nUse ls -l and look.\n\nfirst item\na b \nquoted"


def test_plain_text_is_itself():
    text = "春眠不觉晓，\n处处闻啼鸟。\n    indented"
    assert prose(text) is text


def test_a_text_that_is_nearly_all_code_is_seen_whole():
    text = "x\n```\n" + "code line\n" * 20 + "```"
    assert prose(text) == text


def test_a_fence_that_is_never_closed_runs_to_the_end():
    assert (
        prose("A sentence of text that is long enough to stay.\n```\ncode") == "A sentence of text that is long enough to stay."
    )


def test_lines_of_code_by_number():
    assert code_lines(PAGE) == {4, 5, 6, 7}


@pytest.mark.timeout(20)
def test_fences_cost_no_more_than_their_length():
    assert len(code_lines("x\n```\ny\n```\n" * 200_000)) == 600_000


def test_structure_is_told_from_prose():
    assert [is_structure(line) for line in ("", "# head", "- item", "a | b", "----", "A line of prose.")] == [True] * 5 + [False]


@pytest.mark.parametrize("line", ["---", " *** \t", "|:-|", " --", "\t -- ", "- - -", "   ", "\t   \t", "=====", "\t|--"])
def test_a_rule_is_no_prose(line):
    assert is_structure(line)
    assert prose(f"`code` before\n{line}\nafter\n{line}") == "code before\nafter"


@pytest.mark.parametrize("line", ["--", "--\t", "\t--", "--x", "-=:", ":\t:::", "=-: "])
def test_what_is_nearly_a_rule_is_prose(line):
    assert not is_structure(line)
    assert prose(f"`code` before\n{line}\nafter") == f"code before\n{line}\nafter"


def test_cells_are_parted_by_one_space():
    assert prose("`a`  |\t b || c | | d  e\n |") == "a b  c  d  e"


@pytest.mark.parametrize("gap", [" ", "\t", "- ", "   \t"])
def test_spaces_cost_no_more_than_their_length(gap):
    spaces = gap * (300_000 // len(gap))
    assert prose(f"`x`\n{spaces}y\nz{spaces}y").startswith("x\n")
    assert not is_structure(f"{spaces}y") or gap == "- "
