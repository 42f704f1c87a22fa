"""Repair: broken encodings are mended and Chinese punctuation is left alone."""

import gzip
import json

import pytest

from tasks.cleaning.repair import repair


@pytest.mark.parametrize(
    ("broken", "mended"),
    [
        ("It\u00e2\u20ac\u2122s caf\u00c3\u00a9", "It\u2019s caf\u00e9"),
        ("a\r\nb\rc", "a\nb\nc"),
        ("red \x1b[31mtext\x1b[0m", "red text"),
        ("nul\x00 and bell\x07", "nul and bell"),
        ("e\u0301", "\u00e9"),
        ("line  \t \nnext", "line\nnext"),
        ("a\n\n\n\n\nb", "a\n\nb"),
        ("\ufeffmark \u200bzero\u202e", "mark zero"),
    ],
)
def test_what_is_broken_is_mended(broken, mended):
    assert repair(broken) == mended


@pytest.mark.parametrize(
    "text",
    [
        "中文，标点；“引号”和（括号）：全角ＡＢＣ１２３！",
        "  indented code\n    stays",
        "&lt;div&gt; &amp;amp; is explained here",
        "\u201ccurly\u201d \u2018quotes\u2019 \u2014 dashes\u2026",
        "逐銀蟾落醉觥。",
    ],
)
def test_what_is_right_stays(text):
    assert repair(text) == text


def test_repairing_twice_changes_nothing():
    text = "caf\u00c3\u00a9 \x00 \u201cx\u201d  \n\n\n\n中文，"
    assert repair(repair(text)) == repair(text)


def test_spaces_inside_a_line_cost_no_more_than_their_length():
    text = "a" + " " * 1_000_000 + "b"
    assert repair(text + " \u3000\t") == text


def test_real_chinese_text_keeps_every_han_character_and_mark(shared_data):
    changed = 0
    for name in ("chinese_poetry_sample", "linux_command_zh"):
        with gzip.open(shared_data / "corpus" / f"{name}.jsonl.gz", "rt", encoding="utf-8") as file:
            for row in [json.loads(line) for line in file][:600]:
                found = repair(row["text"])
                changed += _marks(found) != _marks(row["text"])
    assert changed == 0


def _marks(text: str) -> list[str]:
    """Han characters and full-width punctuation, in order."""
    return [char for char in text if "\u3001" <= char <= "\u9fff" or "\uff01" <= char <= "\uff5e" or char in "“”‘’—…"]
