"""Repeated lines: navigation goes, code and rare lines stay, every line is counted."""

import json

import pytest

from tests.data.kit import chinese, clean_of, documents, english

FOOTER = "Home | Download | 版权所有"
CODE = "```\nmake install\n```"
RULES = {"min_documents": 10, "min_share": 0.25}


def rows(number=40):
    """A footer in every text, code in every text, a line in nine, and a line under one other source's name."""
    texts = [(english if place % 2 else chinese)(place) for place in range(number)]
    return [
        {"id": f"{place:03d}", "text": "\n".join([text, CODE, "Rare but not unique." if place < 9 else f"Line {place}.", FOOTER])}
        for place, text in enumerate(texts)
    ]


def build(site, folder, given=None, **rules):
    return clean_of(site, folder, rows() if given is None else given, repeated_lines=RULES | rules, test_share=0.1)


def test_repeated_lines_go_and_are_counted_with_examples(site, tmp_path):
    corpus = build(site, tmp_path)
    texts = [row["text"] for row in documents(corpus)]
    assert not [text for text in texts if FOOTER in text]
    assert all(text.endswith(".") and CODE in text for text in texts), "code stays"
    assert sum("Rare but not unique." in text for text in texts) == 9
    assert corpus.repeated_lines == {"test": 40}
    assert corpus.num_bytes == sum(len(text.encode()) for text in texts)
    examples = json.loads((corpus.path / "repeated_lines.json").read_text(encoding="utf-8"))
    assert examples == [{"source": "test", "line": FOOTER, "documents": 40}]


def test_off_is_the_default_and_changes_nothing(site, tmp_path):
    corpus = clean_of(site, tmp_path, rows(), test_share=0.1)
    assert corpus.repeated_lines == {}
    assert all(FOOTER in row["text"] for row in documents(corpus))


@pytest.mark.parametrize(
    ("rules", "taken"),
    [
        ({"min_documents": 41}, {}),
        ({"min_documents": 9, "min_share": 0.2}, {"test": 49}),
        ({"min_documents": 9, "min_share": 0.25}, {"test": 40}),
        ({"min_chars": len(FOOTER) + 1}, {}),
    ],
)
def test_each_bound_counts(site, tmp_path, rules, taken):
    assert build(site, tmp_path, **rules).repeated_lines == taken


def test_texts_that_differ_only_in_such_lines_are_copies(site, tmp_path):
    given = [*rows(), {"id": "copy", "text": rows()[20]["text"].replace("\n" + FOOTER, "")}]
    assert build(site, tmp_path, given).removed_by_reason == {"exact": 1}


def test_a_document_of_nothing_else_stays_whole(site, tmp_path):
    corpus = build(site, tmp_path, [*rows(), {"id": "only", "text": FOOTER}])
    assert [row["text"] for row in documents(corpus) if row["id"] == "test/only"] == [FOOTER]
    assert corpus.repeated_lines == {"test": 40}


def test_an_article_that_stands_often_is_not_reduced_to_its_date(site, tmp_path):
    article = "\n".join(english(number) for number in range(100, 130))
    copies = [{"id": f"copy-{day}", "text": f"{article}\nPrinted in {1990 + day}"} for day in range(20)]
    corpus = build(site, tmp_path, [*rows(), *copies])
    assert corpus.repeated_lines == {"test": 40}
    assert [row["text"] for row in documents(corpus) if "copy-" in row["id"]] == [copies[0]["text"]]
    assert corpus.removed_by_reason == {"near": 19}
