"""Language: zh and en are told apart from each other and from the rest, code and verse included."""

import pytest

from tasks.cleaning.language import _said, identify

WANTED = ("zh", "en")


@pytest.mark.parametrize(
    ("text", "lang"),
    [
        ("The quick brown fox jumps over the lazy dog, and nobody minds.", "en"),
        ("THE QUICK BROWN FOX JUMPS OVER THE LAZY DOG, AND NOBODY MINDS.", "en"),
        ("我们在系统中使用命令行工具来管理文件和目录。", "zh"),
        ("我們在系統中使用命令列工具來管理檔案。", "zh"),
        ("春眠不覺曉，處處聞啼鳥。", "zh"),
        ("片逐銀蟾落醉觥。", "zh"),
        ("## 选项\n\n```\n-h --help display this help and exit when it is done\n```\n用于停止指定的打印机。", "zh"),
        ("使用 `apt-get install package` 命令安装 package 软件包，然后重启 systemd 服务。", "zh"),
        ("江碧鳥逾白・山青花欲燃・今春看又過・何日是歸年", "zh"),
        ("江碧鳥逾白の山青花欲燃，今春看又過，何日是歸年。", "zh"),
        ("Der schnelle braune Fuchs springt ueber den faulen Hund und niemand stoert sich daran.", "de"),
        ("素早い茶色の狐がのろまな犬を飛び越える。", "ja"),
        ("Быстрая коричневая лиса прыгает через ленивую собаку.", "ru"),
        ("빠른 갈색 여우가 게으른 개를 뛰어넘는다.", "ko"),
    ],
)
def test_the_language_is_found(text, lang):
    found, score = identify(text, WANTED)
    assert found == lang
    assert score >= 0.65


def test_a_text_half_chinese_half_english_is_surely_one_of_the_two():
    found, score = identify("APT 是个大计划。Both tools are built on top of the same library and are very close. " * 3, WANTED)
    assert found in WANTED
    assert score >= 0.65


def test_a_text_without_letters_is_no_language():
    assert identify("1234 5678 --- 9999", WANTED) == ("unknown", 0.0)


def test_text_without_spaces_costs_no_more_than_its_length():
    assert all(identify("我们在系统中使用命令行工具" * 2_000 + str(number), WANTED) == ("zh", 1.0) for number in range(50))


def test_a_word_without_spaces_is_looked_at_once():
    assert _said("a" * 1_000_000 + " words of prose that are enough to stay") == "a" * 20_000


def test_identifiers_do_not_decide():
    chinese = "返回值=0表示成功，其余的值表示出错，请查看日志文件来了解详细原因。"
    assert _said(chinese) == chinese.replace("=0", " ")
    assert (
        _said("plain words of english prose /usr/bin a@b.c x_y=z http://a.b/c end") == "plain words of english prose         end"
    )
