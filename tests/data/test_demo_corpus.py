"""What the data stages make of the shipped corpus, seen in the shared run of the chain."""

import json
from collections import Counter, defaultdict

import pytest

from tasks.contracts import CleanCorpus, FilteredCorpus, QualityReport, RawCorpus, TokenizedCorpus, Tokenizer
from tasks.core.store import Store
from tasks.core.tables import read_rows
from tests.chain import ChainRun

pytestmark = pytest.mark.chain
KINDS = {
    "ingest": RawCorpus,
    "clean": FilteredCorpus,
    "dedup": CleanCorpus,
    "decontaminate": CleanCorpus,
    "check": QualityReport,
} | {
    "tokenizer": Tokenizer,
    "encode": TokenizedCorpus,
}


@pytest.fixture(scope="module")
def made(chain: ChainRun):
    store = Store(chain.site.store_dir)
    return {stage: store.load(kind, chain.folder(stage)) for stage, kind in KINDS.items()}


@pytest.fixture(scope="module")
def clean_rows(made):
    return list(read_rows(made["decontaminate"].path / "documents"))


def test_nothing_is_lost_between_the_stages(made):
    assert made["ingest"].num_records == made["ingest"].num_documents == 4_097
    assert made["clean"].num_documents_in == made["ingest"].num_documents
    assert made["dedup"].num_documents_in == made["clean"].num_documents
    assert sum(made["encode"].documents_by_split.values()) == made["decontaminate"].num_documents
    assert sum(made["encode"].bytes_by_split.values()) == made["decontaminate"].num_bytes


def test_no_held_out_item_stands_in_the_shipped_corpus(made):
    """The data were made so: what the stage would drop is a fault of the data, or of the stage."""
    assert made["decontaminate"].contaminated_by_reason == {}
    assert made["decontaminate"].num_documents == made["dedup"].num_documents


def test_most_of_every_source_survives(made, clean_rows):
    """Poems are short, articles are full of code, the handbook's pages are HTML: none of it is a reason to go."""
    kept = Counter(row["source"] for row in read_rows(made["clean"].path / "documents", ["source"]))
    shares = {source: kept[source] / count for source, count in made["ingest"].documents_by_source.items()}
    assert min(shares.values()) > 0.8, shares


def test_the_planted_copies_are_removed(made):
    removed = Counter((row["source"], row["reason"]) for row in read_rows(made["dedup"].path / "removed.parquet"))
    assert removed[("chinese-poetry", "exact")] >= 30  # the source has 39 exact copies
    assert made["dedup"].removed_by_reason["near"] > 0


def test_text_of_the_handbook_is_whole_and_without_navigation(clean_rows):
    page = next(row["text"] for row in clean_rows if row["id"].endswith("en-US/sect.apt-get.html"))
    assert page.startswith("## 6.2. `aptitude`, `apt-get`, and `apt` Commands")
    assert '```\n$ sudo apt -o "Acquire::PDiffs=false" update\n```' in page
    assert not [row["id"] for row in clean_rows if "Download the ebook" in row["text"] or "<div" in row["text"]]


def test_no_personal_data_is_left_that_the_rules_know(made, clean_rows):
    assert made["clean"].masked["mail"] > 50
    assert not [row["id"] for row in clean_rows if "hertzog@debian.org" in row["text"]]
    sections = [row for row in clean_rows if "#### 9.2.1.4." in row["text"]]
    assert sections, "section numbers are no addresses"


def test_every_language_is_in_every_split(clean_rows):
    seen = defaultdict(Counter)
    for row in clean_rows:
        seen[row["split"]][row["lang"]] += 1
    assert seen.keys() == {"train", "validation", "test"}
    assert all(counts["zh"] and counts["en"] for counts in seen.values())


def test_the_corpus_passes_its_checks(made):
    results = json.loads((made["check"].path / "results.json").read_text(encoding="utf-8"))
    assert made["check"].passed, made["check"].failures
    assert not any(row["broken"] for row in results)


def test_the_tokenizer_compresses_both_languages(made):
    assert made["tokenizer"].bytes_per_token["zh"] > 2.5
    assert made["tokenizer"].bytes_per_token["en"] > 2.5
    assert made["encode"].tokenizer_digest == made["tokenizer"].digest
