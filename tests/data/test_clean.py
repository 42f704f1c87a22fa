"""The clean stage: reasons, counts, masks, the same bytes with any number of workers, resumption."""

import pytest

from tasks.cleaning import CleanSpec, clean
from tasks.cleaning.document import cleaner
from tasks.core import tables
from tasks.core.errors import ContractError
from tasks.core.tables import read_rows
from tests.data.kit import PROSE, documents, english, filtered_of, raw_of, read, write_jsonl

POEM = "春眠不觉晓，处处闻啼鸟。\n夜来风雨声，花落知多少。"


def judge(text, format="plain", **settings):
    """What becomes of one text: its cleaned form, or the reason of its drop."""
    result = cleaner(CleanSpec.model_validate(settings))(
        {"id": "x", "source": "s", "licence": "l", "lang": None, "format": format, "text": text}
    )
    return result.reason or result.row["text"]


@pytest.mark.parametrize("text", [POEM, "白日依山盡，黃河入海流。\n欲窮千里目，更上一層樓。", PROSE])
def test_good_text_passes_the_default_filters(text):
    assert judge(text) == text.strip()


@pytest.mark.parametrize(
    ("text", "format", "reason"),
    [
        ("<html><body><nav>Menu</nav></body></html>", "html", "extract:no_text_in_html"),
        (".TH LS 1", "roff", "extract:unsupported_format"),
        ("\u200b\x00", "plain", "repair:nothing_left"),
        (
            "Der schnelle braune Fuchs springt ueber den faulen Hund und niemand stoert sich daran.",
            "plain",
            "language:not_wanted",
        ),
        ("1234 5678 9012", "plain", "language:not_wanted"),
        ("Save the money and the time today.\n" * 9, "plain", "gopher_repetition:dup_line_frac"),
        ("Too short to keep, and yet English.", "plain", "gopher_quality:gopher_short_doc"),
        (PROSE + "Use a { here.", "plain", "c4:curly_bracket"),
        (english(3).replace(".", ""), "plain", "c4:too_few_sentences"),
        ("关于我们\n联系方式\n网站地图\n友情链接\n版权所有\n客户服务", "plain", "fineweb_quality:list_ratio"),
    ],
)
def test_a_drop_has_its_reason(text, format, reason):
    assert judge(text, format) == reason


def test_a_wanted_language_that_is_unsure_is_dropped():
    assert judge("la la la doo wop xyzzy plugh", min_language_score=1.0).startswith("language:")
    assert judge(PROSE, languages=["zh"]) == "language:not_wanted"


SECOND = english(7)


def test_code_in_a_manual_does_not_count_as_bad_prose():
    code = "```\n" + "for f in *; do { echo ${f} | sed 's/a/b/' ; } ; done\n" * 8 + "```\n"
    page = f"## Loops\n\n{PROSE}\n\n{code}\n{SECOND}"
    assert judge(page) == page.replace(". \n", ".\n")


def test_a_bracket_in_a_code_span_is_no_reason_to_drop_a_page():
    page = f"{PROSE.strip()} Write `a{{1,2}}` for both."
    assert judge(page) == page


def test_c4_takes_lines_of_prose_out_and_leaves_structure():
    page = f"## TIP\n\nTIP\n\n{PROSE}\nPlease accept our cookie policy now.\n- ls\n```\nls\n```\n{SECOND}"
    assert judge(page) == f"## TIP\n\n{PROSE}\n- ls\n```\nls\n```\n{SECOND}".replace(". \n", ".\n").strip()


def test_a_long_chinese_text_that_repeats_is_dropped():
    assert judge("这个产品非常好用，大家都来买这个产品吧，" * 30).startswith("gopher_repetition:")


def test_every_document_is_kept_or_dropped_and_counted(site, tmp_path):
    texts = [POEM, PROSE, "Too short to keep, and yet English.", "1234", PROSE + " Mail me: a@b.cn or c@d.cn."]
    raw = raw_of(site, tmp_path, [{"id": f"d{number}", "text": text} for number, text in enumerate(texts)])
    found = clean.build(CleanSpec(), raw, site=site)
    assert found.num_documents_in == 5
    assert found.drops_by_reason == {"gopher_quality:gopher_short_doc": 1, "language:not_wanted": 1}
    assert found.documents_by_language == {"en": 2, "zh": 1}
    assert found.masked == {"mail": 2}
    assert [row["id"] for row in documents(found)] == ["test/d0", "test/d1", "test/d4"]
    assert "<email> or <email>" in documents(found)[2]["text"]
    dropped = {row["id"]: (row["reason"], row["text"]) for row in read_rows(found.path / "dropped")}
    assert dropped["test/d2"] == ("gopher_quality:gopher_short_doc", texts[2])
    assert found.num_bytes == sum(len(row["text"].encode()) for row in documents(found))


def test_a_dropped_text_is_masked_too(site, tmp_path):
    raw = raw_of(site, tmp_path, [{"text": PROSE}, {"text": "Write to someone@company.cn, my friend."}])
    found = clean.build(CleanSpec(), raw, site=site)
    assert [row["text"] for row in read_rows(found.path / "dropped")] == ["Write to <email>, my friend."]
    assert found.masked == {}


def test_masking_can_be_off():
    assert judge(f"{PROSE} Write to someone@company.cn.", mask_personal_data=[]).count("someone@company.cn") == 1


def test_nothing_left_is_an_error_that_says_why(site, tmp_path):
    with pytest.raises(ContractError, match=r"cleaning leaves none of 2 documents: \{'language:not_wanted': 2\}"):
        clean.build(CleanSpec(), raw_of(site, tmp_path, [{"text": "12"}, {"text": "34"}]), site=site)


def many(number):
    return [{"id": f"d{place:05d}", "text": f"{PROSE} {place} {POEM if place % 3 else '1'}"} for place in range(number)]


@pytest.fixture
def small_pieces(monkeypatch):
    monkeypatch.setattr(tables, "_GROUP_ROWS", 100)


def test_the_output_does_not_depend_on_the_number_of_workers(site, tmp_path, small_pieces):
    raw = raw_of(site, tmp_path, many(250))
    other = site.model_copy(update={"state_dir": tmp_path / "other", "data_workers": 2})
    one = clean.build(CleanSpec(filters=()), raw, site=site.model_copy(update={"data_workers": 1}))
    two = clean.build(CleanSpec(filters=()), raw, site=other)
    assert one.digest == two.digest
    assert one.uri != two.uri
    assert one.num_documents == 250


def test_the_same_documents_in_other_files_are_cleaned_alike(site, tmp_path):
    rows = many(40)
    one = read(site, write_jsonl(tmp_path / "one" / "a.jsonl", rows))
    two = read(site, write_jsonl(tmp_path / "two" / "a.jsonl", rows[:20]), write_jsonl(tmp_path / "two" / "b.jsonl", rows[20:]))
    assert clean.build(CleanSpec(), one, site=site).digest == clean.build(CleanSpec(), two, site=site).digest


def test_an_interrupted_run_does_only_what_is_left(site, tmp_path, monkeypatch, small_pieces):
    from tasks.cleaning import filtering

    raw = raw_of(site, tmp_path, many(250))
    alone = site.model_copy(update={"data_workers": 1})
    clean_piece, done = filtering.clean_piece, []

    def failing(piece):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(piece.number)
        clean_piece(piece)

    monkeypatch.setattr(filtering, "clean_piece", failing)
    with pytest.raises(KeyboardInterrupt):
        clean.build(CleanSpec(filters=()), raw, site=alone)
    assert done == [0, 1]
    monkeypatch.setattr(filtering, "clean_piece", lambda piece: (done.append(piece.number), clean_piece(piece)))
    resumed = clean.build(CleanSpec(filters=()), raw, site=alone)
    assert done == [0, 1, 2]
    fresh = clean.build(CleanSpec(filters=()), raw, site=alone.model_copy(update={"state_dir": tmp_path / "fresh"}))
    assert resumed.digest == fresh.digest


def test_nothing_of_the_work_is_left_in_the_artifact(site, tmp_path):
    found = filtered_of(site, tmp_path, many(3))
    assert sorted(path.relative_to(found.path).as_posix() for path in found.path.rglob("*") if path.is_file()) == [
        "documents/00000.parquet",
        "dropped/00000.parquet",
        "manifest.json",
    ]
