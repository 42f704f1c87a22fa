"""The shipped data: sums, licences, the split, the keywords, and that it can be built again.

In: flows/recipes/data. The leak checks are written anew here and do not use the code that made the split.
"""

import gzip
import hashlib
import html
import json
import os
import re
import subprocess
import sys
import unicodedata
import zlib
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

REPO = Path(__file__).resolve().parents[2]
DATA = REPO / "flows" / "recipes" / "data"
SHARED = Path(os.environ.get("TEXTMILL_SHARED_DATA", REPO.parent / "shared" / "data"))
HANDBOOK = "corpus/debian_handbook.jsonl.gz"
ARTICLES = "corpus/linux_command_zh.jsonl.gz"
POEMS = "corpus/chinese_poetry.jsonl.gz"
CORPUS = (HANDBOOK, ARTICLES, POEMS)
TASKS = ("linux_command", "translate")
SIDES = ("train", "heldout")
INSTRUCTIONS = tuple(f"instructions/{task}_{name}.jsonl.gz" for task in TASKS for name in SIDES)
PAIRS = "preferences/translate_pairs.jsonl.gz"
SYNONYMS = "synonyms/wordnet_en.txt.gz"
FILES = (*CORPUS, *INSTRUCTIONS, PAIRS)
LICENCES = {
    "debian-handbook": "CC-BY-SA-3.0",
    "linux-command": "MIT",
    "chinese-poetry": "MIT",
    "debian": "as-the-package",
}
ZLIB = "1.2.13"  # the deflate that made the shipped bytes
MAX_BYTES = 5_000_000
MIN_ANSWER_CHARS = 8
PROMPT_SPAN_CHARS = 60
MAX_KEYWORD_SHARE = 0.05


@cache
def rows(name: str) -> tuple[dict[str, Any], ...]:
    with gzip.open(DATA / name, "rt", encoding="utf-8") as stream:
        return tuple(json.loads(line) for line in stream)


def side(task: str, name: str) -> tuple[dict[str, Any], ...]:
    return rows(f"instructions/{task}_{name}.jsonl.gz")


def prompt_of(row: dict[str, Any]) -> str:
    return row["messages"][0]["content"] if "messages" in row else f"{row['instruction']}\n{row['input']}"


def answer_of(row: dict[str, Any]) -> str:
    return row["messages"][1]["content"] if "messages" in row else row["output"]


def digest_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def normal(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()


def squeezed(text: str) -> str:
    return "".join(normal(text).split())


def plain(row: dict[str, Any]) -> str:
    """The squeezed text of a corpus line as a reader sees it, followed by the raw one."""
    raw = row["text"]
    if row["format"] != "html":
        return squeezed(raw)
    return squeezed(html.unescape(re.sub(r"<[^>]*>", "", raw))) + "\0" + squeezed(raw)


@cache
def corpus_text(name: str) -> str:
    return "\0".join(plain(row) for row in rows(name))


def quoted(needles: set[str], text: str) -> set[str]:
    return {needle for needle in needles if needle in text}


def spans(text: str) -> Iterator[str]:
    return (text[i : i + PROMPT_SPAN_CHARS] for i in range(len(text) - PROMPT_SPAN_CHARS + 1))


def heldout_answers() -> set[str]:
    answers = {squeezed(answer_of(row)) for task in TASKS for row in side(task, "heldout")}
    return {answer for answer in answers if len(answer) >= MIN_ANSWER_CHARS}


def heldout_prompt_spans() -> set[str]:
    texts = (prompt_of(row).split("\n", 1)[1] for row in side("translate", "heldout"))
    return {span for text in texts for span in spans(squeezed(text))}


def passes(row: dict[str, Any], answer: str) -> bool:
    wanted = any if row["match"] == "any" else all
    return wanted(word in normal(answer) for word in row["keywords"])


def test_sums_match_and_cover_every_data_file():
    lines = (DATA / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
    stated = {name: digest for digest, name in (line.split("  ") for line in lines)}
    actual = {path.relative_to(DATA).as_posix(): digest_of(path) for path in DATA.rglob("*.gz")}
    assert stated == actual
    assert set(stated) == {*FILES, SYNONYMS}


def test_pairs_prefer_the_translation_to_the_text_itself():
    asked = {row["id"]: row["messages"] for row in side("translate", "train")}
    assert [row["id"] for row in rows(PAIRS)] == list(asked)
    for row in rows(PAIRS):
        user, assistant = asked[row["id"]]
        assert (row["prompt"], row["chosen"]) == (user["content"], assistant["content"])
        assert row["prompt"].endswith("\n" + row["rejected"])
        assert row["rejected"] != row["chosen"]


def test_total_size_is_small():
    assert sum((DATA / name).stat().st_size for name in FILES) <= MAX_BYTES


@pytest.mark.parametrize("name", FILES)
def test_every_line_has_a_unique_id_a_source_and_its_licence(name):
    assert all(row["id"] and row["source"] for row in rows(name))
    assert len({row["id"] for row in rows(name)}) == len(rows(name))
    assert all(row["licence"] == LICENCES[row["source"].split("_")[0]] for row in rows(name))


@pytest.mark.parametrize("name", CORPUS)
def test_corpus_lines_have_the_common_fields(name):
    for row in rows(name):
        assert {"id", "source", "lang", "licence", "format", "text"} <= set(row)
        assert row["text"].strip()


def test_handbook_has_both_languages_and_its_markup():
    pages = rows(HANDBOOK)
    assert Counter(row["lang"] for row in pages) == {"zh": 127, "en": 127}
    assert all("<html" in row["text"] and 'class="docnav"' in row["text"] for row in pages)


def test_documents_under_the_gpl_alone_are_absent():
    sources = {row["source"] for name in CORPUS for row in rows(name)}
    kept = {"debian-handbook", "linux-command", "chinese-poetry"}
    assert {source.split("_")[0] for source in sources} == kept


def test_poems_hold_exact_copies_for_deduplication():
    copies = Counter(row["text"] for row in rows(POEMS))
    assert sum(count - 1 for count in copies.values()) >= 20


def test_no_group_is_on_both_sides_of_any_task():
    train = {row["group"] for task in TASKS for row in side(task, "train")}
    held = {row["group"] for task in TASKS for row in side(task, "heldout")}
    assert train.isdisjoint(held)


def test_articles_of_heldout_commands_are_absent():
    articles = {Path(row["id"]).name.removesuffix(".md") for row in rows(ARTICLES)}
    held = {row["group"] for row in side("linux_command", "heldout")}
    trained = {row["group"] for row in side("linux_command", "train")}
    assert articles.isdisjoint(held)
    assert articles == trained


@pytest.mark.parametrize("name", CORPUS)
def test_no_heldout_answer_stands_in_the_corpus(name):
    assert quoted(heldout_answers(), corpus_text(name)) == set()


@pytest.mark.parametrize("name", CORPUS)
def test_no_long_span_of_a_heldout_prompt_stands_in_the_corpus(name):
    assert heldout_prompt_spans().isdisjoint(spans(corpus_text(name)))


def test_no_heldout_answer_or_prompt_span_stands_in_the_training_items():
    items = [row for task in TASKS for row in side(task, "train")]
    trained = (text for row in items for text in (prompt_of(row), answer_of(row)))
    text = "\0".join(map(squeezed, trained))
    assert quoted(heldout_answers(), text) == set()
    assert heldout_prompt_spans().isdisjoint(spans(text))


def test_the_leak_checks_find_a_planted_answer():
    row = side("linux_command", "heldout")[0]
    page = {"format": "html", "text": f"<p>x <b>{row['output'][:4]}</b> {row['output'][4:]} y</p>"}
    assert quoted(heldout_answers(), plain(page)) == {squeezed(row["output"])}
    prompt = squeezed(prompt_of(side("translate", "heldout")[0]).split("\n", 1)[1])
    assert not heldout_prompt_spans().isdisjoint(spans(f"before{prompt}after"))


def test_there_are_enough_heldout_items():
    counts = {task: len(side(task, "heldout")) for task in TASKS}
    assert 60 <= counts["linux_command"] <= 75
    assert 90 <= counts["translate"] <= 120


@pytest.mark.parametrize("task", TASKS)
def test_keywords_are_normal_and_recognise_the_reference(task):
    for row in side(task, "heldout"):
        assert row["keywords"], row["id"]
        assert row["match"] in ("any", "all")
        answer = normal(answer_of(row))
        assert all(word == normal(word) and word in answer for word in row["keywords"]), row["id"]


@pytest.mark.parametrize("task", TASKS)
def test_only_copied_keywords_stand_in_the_prompt(task):
    for row in side(task, "heldout"):
        in_prompt = [word in normal(prompt_of(row)) for word in row["keywords"]]
        assert all(in_prompt) if row.get("copied") else not any(in_prompt), row["id"]


def test_only_translations_have_copied_keywords():
    assert not any("copied" in row for row in side("linux_command", "heldout"))
    assert 0 < sum(row.get("copied", False) for row in side("translate", "heldout")) < 40


@pytest.mark.parametrize("task", TASKS)
def test_keywords_are_not_common_among_the_answers(task):
    answers = [normal(answer_of(row)) for name in SIDES for row in side(task, name)]
    for word in {word for row in side(task, "heldout") for word in row["keywords"]}:
        assert sum(word in answer for answer in answers) <= MAX_KEYWORD_SHARE * len(answers) + 1, word


@pytest.mark.parametrize(("task", "bound"), [("linux_command", 0.02), ("translate", 0.05)])
def test_other_answers_seldom_pass(task, bound):
    held, others = side(task, "heldout"), [answer_of(row) for row in side(task, "train")]
    passed = sum(passes(row, other) for row in held for other in others)
    assert passed <= bound * len(held) * len(others)


@pytest.mark.parametrize("name", FILES)
def test_notice_states_each_file_with_its_lines(name):
    notice = (DATA / "NOTICE.md").read_text(encoding="utf-8")
    assert f"| `{name}` | {len(rows(name))} |" in notice


def test_notice_states_authors_and_licences():
    notice = (DATA / "NOTICE.md").read_text(encoding="utf-8")
    names = ("Raphaël Hertzog", "Roland Mas", "jaywcjlove", "JackeyGao")
    for words in (*names, "licenses/by-sa/3.0", "free of charge, to any person"):
        assert words in notice


@pytest.mark.slow
def test_data_can_be_built_again(tmp_path):
    if not SHARED.is_dir():
        pytest.skip(f"the source data is not at {SHARED}; set TEXTMILL_SHARED_DATA to its folder")
    command = [sys.executable, "-B", DATA / "make_data.py", SHARED, "--out", tmp_path]
    subprocess.run(command, check=True, capture_output=True, timeout=240)
    for name in FILES:
        built, shipped = (tmp_path / name).read_bytes(), (DATA / name).read_bytes()
        assert gzip.decompress(built) == gzip.decompress(shipped), name
        if zlib.ZLIB_RUNTIME_VERSION == ZLIB:
            assert built == shipped, name
