"""What models are judged on, by hand."""

import json
from pathlib import Path

import pytest

from tasks.core.errors import ContractError
from tasks.core.tables import write_table
from tasks.evaluation.items import Item, draw_documents, foreign_prompts, read_items
from tests.modeling.kit import conversation

SCHEMA = dict.fromkeys(("id", "source", "lang", "text", "split"), "string")


def item(keywords: tuple[str, ...], match: str) -> Item:
    return Item("i", "i", "s", [{"role": "assistant", "content": "x"}], keywords, match, False)


@pytest.mark.parametrize(
    ("keywords", "match", "answer", "expected"),
    [
        (("目录", "文件"), "any", "列出目录", True),
        (("目录", "文件"), "all", "列出目录", False),
        (("目录", "文件"), "all", "目录和文件", True),
        (("FTP",), "any", "用于ｆｔｐ连线", True),  # full width, other case
        (("package manager",), "any", "the Package\n  Manager", True),
        (("目录",), "any", "", False),
    ],
)
def test_keywords(keywords: tuple[str, ...], match: str, answer: str, expected: bool) -> None:
    assert item(keywords, match).is_matched(answer) is expected


def write_documents(folder: Path, split: str = "test") -> Path:
    rows = [
        {"id": f"d{number}", "source": "s", "lang": ("en", "zh")[number % 2], "text": "字" * 9, "split": split}
        for number in range(8)
    ]
    write_table(folder / "documents", SCHEMA, rows)
    return folder / "documents"


def test_documents_are_drawn_by_id_and_seed_and_cut(tmp_path: Path) -> None:
    folder = write_documents(tmp_path)
    drawn = draw_documents(folder, 2, 4, seed=0)
    assert [document.lang for document in drawn] == ["en", "en", "zh", "zh"]
    assert [document.num_bytes for document in drawn] == [12] * 4
    assert drawn == draw_documents(folder, 2, 4, seed=0)
    draws = {tuple(document.id for document in draw_documents(folder, 2, 4, seed)) for seed in range(6)}
    assert len(draws) > 1
    assert len(draw_documents(folder, None, None, 0)) == 8
    assert not any(document.is_whole for document in drawn)
    assert all(document.is_whole for chars in (None, 9) for document in draw_documents(folder, None, chars, 0))


def test_a_corpus_without_a_test_split_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="no document in the test split"):
        draw_documents(write_documents(tmp_path, split="train"), None, None, 0)


def write_items(folder: Path, items: list[dict[str, object]]) -> Path:
    (folder / "conversations.jsonl").write_text("".join(json.dumps(one) + "\n" for one in items), encoding="utf-8")
    return folder


def test_items_without_keywords_are_refused_and_counted(tmp_path: Path) -> None:
    rows = [conversation(1, "test"), conversation(2, "test", keywords=()), conversation(3, "train")]
    items, refused = read_items(write_items(tmp_path, rows))
    assert [one.id for one in items] == ["i1"]
    assert refused == {"no_keywords": 1}


@pytest.mark.parametrize("rows", [[], [conversation(2, "test", keywords=())]])
def test_an_empty_set_is_an_error(tmp_path: Path, rows: list[dict[str, object]]) -> None:
    with pytest.raises(ContractError, match="no held-out item to judge by"):
        read_items(write_items(tmp_path, rows))


def test_foreign_prompts_are_other_items_of_the_same_source() -> None:
    sources, groups = ["a", "b", "a", "b", "a", "alone"], list("012345")
    foreign = foreign_prompts(sources, groups, 2, seed=3)
    assert [len(others) for others in foreign] == [2, 1, 2, 1, 2, 0]
    for number, others in enumerate(foreign):
        assert len(set(others)) == len(others)
        assert number not in others
        assert all(sources[other] == sources[number] for other in others)
    assert foreign == foreign_prompts(sources, groups, 2, seed=3)
    first = foreign_prompts(sources, groups, 1, seed=3)
    assert sorted(other for others in first for other in others) == [0, 1, 2, 3, 4]  # each prompt is shown once


def test_foreign_prompts_are_of_other_groups() -> None:
    """Five reference answers a question: each has its question as prompt."""
    groups = [str(number // 5) for number in range(40)] + ["one"] * 3
    foreign = foreign_prompts(["a"] * 40 + ["b"] * 3, groups, 4, seed=0)
    assert [len(set(others)) for others in foreign] == [4] * 40 + [0] * 3
    assert not any(groups[other] == groups[number] for number, others in enumerate(foreign) for other in others)
