"""Filters that a recipe may add: each of their settings changes something, and good text passes their named sets."""

import gzip
import json

import pytest
from pydantic import ValidationError

from tasks.cleaning import CleanSpec
from tasks.cleaning.datatrove_block import DatatroveBlock
from tasks.cleaning.filters import FILTERS
from tasks.cleaning.presets import PRESETS
from tasks.core.errors import RecipeError
from tests.data.kit import PROSE
from tests.data.test_clean import POEM, judge

MADE = {str(one.model_fields["kind"].annotation.__args__[0]): one for one in FILTERS}


def ask(kind, text, lang="zh", **settings):
    kept, reason = MADE[kind].model_validate({"kind": kind} | settings).build()(text, lang)
    return reason or kept


LISTING = "1 a\n2 b\n3 c\n4 d"
MENU = "首页\n新闻\n产品\n正文在这里。\n首页\n新闻\n产品"


@pytest.mark.parametrize(
    ("kind", "text", "settings", "result"),
    [
        ("line_numbers", LISTING, {}, "a\nb\nc\nd"),
        ("line_numbers", LISTING, {"min_lines": 5}, LISTING),
        ("menus", MENU, {}, "正文在这里。"),
        ("menus", MENU, {"min_lines": 4}, MENU),
        ("menus", MENU, {"max_line_chars": 1}, MENU),
        ("share_lines", "正文。\n还有。\n点赞关注转发", {}, "正文。\n还有。"),
        ("share_lines", "正文。\n还有。\n点赞关注转发", {"max_line_chars": 5}, "正文。\n还有。\n点赞关注转发"),
        ("share_lines", "正文。\n还有。\n点赞关注转发", {"max_share": 0.3}, "mostly_share_lines"),
        ("formulas", "x=1x=1x=1", {}, "x=1"),
        ("formulas", "x=1x=1x=1", {"min_chars": 4}, "x=1x=1x=1"),
        ("garbled", "字\ufffd" + "字" * 300, {}, "字\ufffd" + "字" * 300),
        ("garbled", "字\ufffd" + "字" * 300, {"max_share": 0.001}, "lost_characters"),
        ("chinese_text", "下载 abcdefgh", {}, "few_han"),
        ("chinese_text", "下载 abcdefgh", {"min_han": 0.1}, "下载 abcdefgh"),
        ("chinese_text", "字" * 101, {}, "no_pauses"),
        ("chinese_text", "字" * 101, {"max_unbroken_han": None}, "字" * 101),
        ("chinese_text", "你好,世界.", {}, "你好,世界."),
        ("chinese_text", "你好,世界.", {"min_full_width": 0.5}, "half_width_marks"),
        ("word_list", "傻逼", {}, "傻逼"),
        ("word_list", "傻逼", {"min_different": 1}, "abuse"),
        ("word_list", "傻逼", {"min_different": 1, "topics": ["adult"]}, "傻逼"),
        ("word_list", "坏词", {"min_different": 1, "more_words": {"abuse": ["坏词"]}}, "abuse"),
        ("word_list", "你是傻逼。", {"action": "mark"}, "你是<word>。"),
        ("datatrove", "short", {"block": "LambdaFilter"}, None),
    ],
)
def test_each_setting_changes_something(kind, text, settings, result):
    if result is None:
        with pytest.raises(RecipeError, match="LambdaFilter does not take the settings"):
            ask(kind, text, **settings)
    else:
        assert ask(kind, text, **settings) == result


def test_a_block_of_datatrove_that_does_not_exist_is_named():
    with pytest.raises(RecipeError, match="no filter 'C5'; there are: C4BadWordsFilter"):
        DatatroveBlock(kind="datatrove", block="C5").build()


def test_words_that_are_marked_are_counted(site, tmp_path):
    from tests.data.kit import documents, filtered_of

    filters = [{"kind": "word_list", "action": "mark"}]
    rows = [{"text": PROSE + "You asshole, you bitch."}, {"text": PROSE + "Write `cut <word>`."}]
    made = filtered_of(site, tmp_path, rows, filters=filters)
    assert documents(made)[0]["text"].endswith("You <word>, you <word>.")
    assert made.masked == {"listed_word": 2}


def test_a_set_of_filters_has_a_name_and_enters_the_recipe_in_full():
    named = CleanSpec.model_validate({"filters": "chinese_web"})
    assert named.filters == PRESETS["chinese_web"]
    assert named.identity()["filters"][0]["kind"] == "line_numbers"
    assert CleanSpec().filters == PRESETS["default"]
    with pytest.raises(ValidationError, match="there are: default, english_web, chinese_web"):
        CleanSpec.model_validate({"filters": "english"})


DIALOGUE = "“你來了？”\n“來了。”\n“坐。”\n“不坐。”\n“那就走。”\n“走。”"


@pytest.mark.parametrize(("name", "text"), [("chinese_web", POEM), ("chinese_web", DIALOGUE), ("english_web", PROSE)])
def test_good_text_passes_the_set_of_its_language(name, text):
    assert judge(text, filters=name) == text.strip()


def test_real_articles_and_poems_pass_the_chinese_set(shared_data):
    kept = {}
    for name in ("chinese_poetry_sample", "linux_command_zh"):
        with gzip.open(shared_data / "corpus" / f"{name}.jsonl.gz", "rt", encoding="utf-8") as file:
            rows = [json.loads(next(file)) for _ in range(60)]
        seen = [judge(row["text"], filters="chinese_web") for row in rows]
        plain = [judge(row["text"]) for row in rows]
        kept[name] = sum(one.partition(":")[0] in MADE for one in seen) - sum(one.partition(":")[0] in MADE for one in plain)
    assert max(kept.values()) <= 1, kept
