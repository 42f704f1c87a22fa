"""Decontaminate: planted items are found in documents, dropped or marked, counted by reason, with their evidence."""

import json

import pyarrow.parquet as pq
import pytest

from tasks.cleaning import DecontaminateSpec, decontaminate
from tasks.cleaning.decontamination import reasons_of
from tasks.core import tables, workers
from tasks.core.errors import ContractError
from tasks.core.tables import read_rows
from tasks.instructions import InstructionsSpec, read_conversations
from tests.data.kit import chinese, clean_of, documents, english, write_jsonl

QUESTION = "Which of the seven bridges over the long river was built by the monks of the northern abbey?"
ANSWER = "依次按下开机键和音量键"
HELD = [{"prompt": QUESTION, "response": "The ninth."}, {"prompt": "怎样重启这台设备", "response": ANSWER}]
SPEC = {"action": "drop"}


@pytest.fixture
def corpus(site, tmp_path):
    rows = [{"id": f"{place:03d}", "text": (english if place % 2 else chinese)(place)} for place in range(60)]
    rows[7]["text"] += " " + QUESTION.upper().replace(" ", "\n")
    rows[8]["text"] += f"他说{ANSWER}就行。"
    rows[9]["text"] += " Which of the seven bridges over the long river was built by others?"
    return clean_of(site, tmp_path, rows, validation_share=0.1, test_share=0.1)


def conversations(site, folder, heldout=HELD):
    files = {"train": [{"prompt": "Q", "response": "A"}], "held": heldout}
    sets = {
        name: {"name": name, "licence": "MIT", "paths": [str(write_jsonl(folder / f"{name}.jsonl", rows))]}
        for name, rows in files.items()
    }
    spec = {"train": [sets["train"]], "heldout": [sets["held"]] if heldout else []}
    return read_conversations.build(InstructionsSpec.model_validate(spec), site=site)


def build(site, folder, corpus, heldout=HELD, **settings):
    spec = DecontaminateSpec.model_validate(SPEC | settings)
    return decontaminate.build(spec, corpus, conversations(site, folder, heldout), site=site)


def evidence(corpus):
    return [(row["id"], row["item"], row["reason"]) for row in read_rows(corpus.path / "contamination.parquet")]


def test_documents_that_hold_an_item_are_dropped_and_counted(site, tmp_path, corpus):
    found = build(site, tmp_path, corpus)
    assert evidence(found) == [("test/007", "held/1", "ngram"), ("test/008", "held/2", "answer")]
    assert found.contaminated_by_reason == {"ngram": 1, "answer": 1}
    assert found.num_documents == corpus.num_documents - 2
    assert found.num_documents_in == corpus.num_documents_in
    before, after = ([row["id"] for row in documents(one)] for one in (corpus, found))
    assert after == [id for id in before if id not in ("test/007", "test/008")]
    assert found.summary().endswith("looked for 2 held-out items")
    assert "dropped: 1 answer, 1 ngram;" in found.summary()


def test_the_evidence_says_what_was_found(site, tmp_path, corpus):
    rows = list(read_rows(build(site, tmp_path, corpus).path / "contamination.parquet"))
    assert rows[0]["excerpt"].startswith("which of the seven bridges")
    assert rows[0]["num_ngrams"] == 18 - 13 + 1
    assert rows[1]["excerpt"] == ANSWER
    shown = json.loads((build(site, tmp_path, corpus).path / "results.json").read_text(encoding="utf-8"))
    assert [row["seen"] for row in shown] == [row["excerpt"] for row in rows]


def test_marked_documents_stay(site, tmp_path, corpus):
    found = build(site, tmp_path, corpus, action="mark")
    assert found.num_documents == corpus.num_documents
    assert (found.marked_by_reason, found.contaminated_by_reason) == ({"ngram": 1, "answer": 1}, {})
    marks = {row["id"]: row["contamination"] for row in documents(found) if row["contamination"]}
    assert marks == {"test/007": "ngram", "test/008": "answer"}
    assert "none dropped, 2 marked;" in found.summary()


def test_nothing_found_leaves_the_documents_as_they_are(site, tmp_path, corpus):
    found = build(site, tmp_path, corpus, [{"prompt": f"This is nowhere: {english(99)}", "response": "A"}])
    assert documents(found) == documents(corpus)
    assert evidence(found) == []
    for name in ("removed.parquet", "clusters.json", "repeated_lines.json"):
        assert (found.path / name).read_bytes() == (corpus.path / name).read_bytes()


def test_lengths_are_the_recipes(site, tmp_path, corpus):
    strict = build(site, tmp_path, corpus, overlap={"words_per_ngram": 10})
    assert {id for id, *_ in evidence(strict)} == {"test/007", "test/008", "test/009"}
    loose = build(site, tmp_path, corpus, overlap={"words_per_ngram": 18, "chars_per_ngram": 8, "min_answer_units": 12})
    assert [row[0] for row in evidence(loose)] == ["test/007", "test/008"]
    assert evidence(build(site, tmp_path, corpus, overlap={"words_per_ngram": 18, "min_answer_units": None}))[1:] == []


def test_a_reference_file_is_searched_too_and_pinned(site, tmp_path, corpus):
    text = next(row["text"] for row in documents(corpus) if row["id"] == "test/011")
    path = write_jsonl(tmp_path / "bench.jsonl", [{"question": text[:200]}])
    reference = {"name": "bench", "paths": [str(path)], "text_column": "question"}
    assert ("test/011", "bench/bench.jsonl:1", "ngram") in evidence(build(site, tmp_path, corpus, references=[reference]))
    spec = DecontaminateSpec.model_validate(SPEC | {"references": [reference]}).pinned(site)
    assert spec.references[0].digest
    assert str(tmp_path) not in json.dumps(spec.identity())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"reference bench holds no item: .*mend or remove it"),
        (
            '{"text": "fine"}\n{"other": 1}\n',
            r"^bench\.jsonl:2 of reference bench cannot be read: its 'text' is no text; mend it, or",
        ),
        ("{broken\n", r"^bench\.jsonl:1 of reference bench .*: broken_json"),
        ('{"text": 3}\n', r"'text' is no text"),
        ("[]\n", r"^bench\.jsonl:1 of reference bench .*: no object"),
    ],
)
def test_a_reference_that_cannot_be_read_is_an_error(site, tmp_path, corpus, content, message):
    path = tmp_path / "bench.jsonl"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ContractError, match=message):
        build(site, tmp_path, corpus, references=[{"name": "bench", "paths": [str(path)]}])


def test_a_reference_may_be_a_table_and_have_answers(site, tmp_path, corpus):
    """A question that the corpus does not have, whose answer stands in it word for word."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    text = next(row["text"] for row in documents(corpus) if row["id"] == "test/011")
    asked = {
        "question": "What does nobody in this whole corpus ever ask, in so very many words?",
        "answer": " ".join(text.split()[:10]),
        "choices": ["a", "b"],
    }
    pq.write_table(pa.Table.from_pylist([asked]), tmp_path / "bench.parquet")
    reference = {"name": "bench", "paths": [str(tmp_path / "bench.parquet")], "text_column": "question"}
    assert "bench/bench.parquet:1" not in {item for _, item, _ in evidence(build(site, tmp_path, corpus, references=[reference]))}
    answered = evidence(build(site, tmp_path, corpus, references=[reference | {"answer_column": "answer"}]))
    assert ("test/011", "bench/bench.parquet:1", "answer") in answered
    with pytest.raises(ContractError, match=r"bench\.parquet has no column 'text', only question, answer, choices"):
        build(site, tmp_path, corpus, references=[reference | {"text_column": "text"}])


def test_an_empty_reference_is_an_error(site, tmp_path, corpus):
    with pytest.raises(ContractError, match=r"has no held-out item, so nothing could be found"):
        build(site, tmp_path, corpus, [])
    with pytest.raises(ContractError, match="none of 1 held-out items can be found; they are shorter than a run"):
        build(site, tmp_path, corpus, [{"prompt": "Why?", "response": "A"}])


def test_a_passage_is_found_however_many_questions_are_asked_about_it(site, tmp_path, corpus):
    text = next(row["text"] for row in documents(corpus) if row["id"] == "test/011")
    path = write_jsonl(tmp_path / "bench.jsonl", [{"text": text[:200], "answer": str(year)} for year in range(1900, 1916)])
    found = build(site, tmp_path, corpus, references=[{"name": "bench", "paths": [str(path)], "answer_column": "answer"}])
    assert [id for id, item, _ in evidence(found) if item.startswith("bench/")] == ["test/011"] * 16


def test_a_reference_set_of_which_nothing_can_be_found_is_an_error(site, tmp_path, corpus):
    """Beside held-out conversations that can be found."""
    path = write_jsonl(tmp_path / "exam.jsonl", [{"text": f"第{number}题：水的化学式是？"} for number in range(20)])
    with pytest.raises(ContractError, match=r"none of the 20 items of exam can be found; .*under decontaminate\.overlap"):
        build(site, tmp_path, corpus, references=[{"name": "exam", "paths": [str(path)]}])


def test_held_out_conversations_too_short_to_be_found_are_warned_of(site, tmp_path, corpus, caplog):
    text = next(row["text"] for row in documents(corpus) if row["id"] == "test/011")
    path = write_jsonl(tmp_path / "bench.jsonl", [{"text": text[:200]}])
    short = [{"prompt": "Why?", "response": "A"}]
    found = build(site, tmp_path, corpus, short, references=[{"name": "bench", "paths": [str(path)]}])
    assert found.num_heldout_items == 1
    assert "none of the 1 items of held can be found" in caplog.text


def test_a_split_left_without_documents_is_an_error(site, tmp_path, corpus):
    texts = [{"text": row["text"]} for row in documents(corpus) if row["split"] == "validation"]
    path = write_jsonl(tmp_path / "bench.jsonl", texts)
    with pytest.raises(ContractError, match=r"drops \d+ documents and leaves none for validation"):
        build(site, tmp_path, corpus, references=[{"name": "bench", "paths": [str(path)]}])


def test_the_number_of_workers_changes_no_byte(site, tmp_path, corpus, monkeypatch):
    monkeypatch.setattr(tables, "_GROUP_ROWS", 20)
    monkeypatch.setattr(workers, "_WORTH_BYTES", 0)
    small = build(site, tmp_path, corpus)
    assert pq.read_metadata(small.path / "documents" / "00000.parquet").num_row_groups == 3
    spec, held = DecontaminateSpec.model_validate(SPEC), conversations(site, tmp_path)
    one, two = (
        decontaminate.build(spec, small, held, site=site.model_copy(update={"state_dir": tmp_path / str(n), "data_workers": n}))
        for n in (1, 2)
    )
    assert one.uri != two.uri
    assert one.digest == two.digest


def test_an_answer_counts_before_ngrams():
    rows = [{"id": "a", "reason": reason} for reason in ("ngram", "answer", "ngram")]
    assert reasons_of(rows) == {"a": "answer"}
