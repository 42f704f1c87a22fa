"""The real corpora, a cut of each, through the preset that names them all."""

import bz2
import gzip
from collections import Counter
from itertools import islice

import pytest

from flows.presets import load_recipe
from tasks.core.errors import RecipeError
from tasks.core.site import current_site
from tasks.core.tables import read_rows
from tasks.ingest import ingest
from tests.data.kit import documents

NUM_RECORDS = 12
CUTS = {
    "debian_docs_zh_en.jsonl.gz": NUM_RECORDS,
    "manpages_zh.jsonl.gz": NUM_RECORDS,
    "linux_command_zh.jsonl.gz": NUM_RECORDS,
    "chinese_poetry_sample.jsonl.gz": NUM_RECORDS,
    "spamassassin_part1.jsonl.gz": NUM_RECORDS,
    "c4_demo.jsonl": NUM_RECORDS,
    "wiki_demo.txt": 5,
    "tinyshakespeare.txt": 200,
}
PAIRS = {("debian-docs", "html"), ("manpages-zh", "markdown"), ("linux-command", "markdown"), ("chinese-poetry", "plain")} | {
    *(("mail", "plain"), ("wikipedia", "markdown"), ("wikipedia-articles", "plain"), ("shakespeare", "plain")),
    ("web", "plain"),
}


def cut(whole, to, num_lines):
    opened = gzip.open if whole.suffix == ".gz" else open
    with opened(whole, "rb") as lines, opened(to, "wb") as kept:
        kept.writelines(islice(lines, num_lines))


@pytest.fixture
def data(shared_data, tmp_path, monkeypatch):
    """A data folder whose files are beginnings of the real ones."""
    folder = tmp_path / "data" / "corpus"
    folder.mkdir(parents=True)
    for name, num_lines in CUTS.items():
        cut(shared_data / "corpus" / name, folder / name, num_lines)
    with bz2.open(shared_data / "corpus" / "enwiki_raw_shard.xml.bz2", "rb") as dump:
        pages = dump.read(300_000).rpartition(b"</page>")[0]
    (folder / "enwiki_raw_shard.xml.bz2").write_bytes(bz2.compress(pages + b"</page></mediawiki>"))
    monkeypatch.setenv("TEXTMILL_DATA_DIR", str(folder.parent))
    return folder


def test_every_shared_corpus_is_read_in_its_format(data, site):
    current_site.cache_clear()
    assert sorted(path.name for path in data.iterdir()) == sorted([*CUTS, "enwiki_raw_shard.xml.bz2"])
    corpus = ingest.build(load_recipe("shared-corpus").resolved().ingest, site=site)
    texts = {row["id"]: row for row in documents(corpus)}
    formats = {(row["source"], row["format"]) for row in texts.values()}
    assert formats >= PAIRS
    assert {name for name, count in corpus.documents_by_source.items() if count} == {name for name, _ in formats}
    reasons = Counter((row["source"], row["reason"]) for row in read_rows(corpus.path / "quarantine.parquet"))
    assert set(reasons) <= {("wikipedia", "redirect"), ("wikipedia", "other_namespace")}
    assert corpus.documents_by_source["wikipedia-articles"] == CUTS["wiki_demo.txt"]
    articles = [row["text"] for row in texts.values() if row["source"] == "wikipedia-articles"]
    assert "(libertarian socialism) of the socialist movement" in articles[0]
    assert " and socialism.\n\nHumans lived" in articles[0]
    page = texts["manpages-zh/manpages-zh_1.6.4.0/ac.1.gz"]["text"]
    assert page.startswith("# ac(1)\n\n## NAME\n\nac - 输出用户连接时间")
    assert not [name for name, row in texts.items() if row["source"] == "manpages-zh" and "\\fB" in row["text"]]
    mail = [row["text"] for row in texts.values() if row["source"] == "mail" and row["format"] == "plain"]
    assert all(text.startswith("Subject: ") and "Received:" not in text for text in mail)
    wiki = [row["text"] for row in texts.values() if row["source"] == "wikipedia"]
    assert all(text.startswith("# ") and "{{Infobox" not in text and "[[Category" not in text for text in wiki)


def test_without_a_data_folder_the_recipe_says_what_to_set(site, monkeypatch):
    monkeypatch.delenv("TEXTMILL_DATA_DIR", raising=False)
    current_site.cache_clear()
    with pytest.raises(RecipeError, match="set TEXTMILL_DATA_DIR"):
        load_recipe("shared-corpus").resolved()
