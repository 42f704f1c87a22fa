"""Words and sentences among tokens, by hand."""

from tasks.modeling.boundaries import sentence_starts, word_starts


def test_a_word_of_white_space_is_one_group() -> None:
    assert word_starts([b"un", b"like", b"ly", b" tales", b" ", b"end", b"."], "en").tolist() == [0, 3, 4, 5]


def test_a_chinese_word_is_one_group_even_where_tokens_cut_characters() -> None:
    we, like = "我们".encode(), "喜欢".encode()  # jieba: 我们 / 喜欢 / 音乐
    tokens = [we[:2], we[2:], like[:3], like[3:], "音乐".encode()]
    assert word_starts(tokens, "zh").tolist() == [0, 2, 4]
    assert word_starts(tokens, "en").tolist() == [0]  # without jieba all of it is one word
    across = [we + like[:3], like[3:], "音乐".encode()]  # a token that holds a word and a half takes the other half along
    assert word_starts(across, "zh").tolist() == [0, 2]


def test_a_piece_that_begins_inside_a_character() -> None:
    assert word_starts(["天".encode()[1:], b" one"], "en").tolist() == [0, 1]


def test_sentences_of_both_languages() -> None:
    english = [b"It", b" is", b".", b" Is", b" it", b"?", b" 3", b".", b"14"]
    assert sentence_starts(english).tolist() == [0, 3, 6]  # a point inside a number ends nothing
    chinese = ["天地。".encode(), "玄黄！".encode(), "“宇宙？”".encode(), "洪荒".encode()]
    assert sentence_starts(chinese).tolist() == [0, 1, 2, 3]
    assert sentence_starts([b"title\nfirst", b" line", b"\n\n", b"next"]).tolist() == [0, 1, 3]
    assert sentence_starts([b"one", b" two"]).tolist() == [0]
