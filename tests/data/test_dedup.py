"""Dedup: exact and near copies found, the right one kept, nothing different removed, no cluster in two splits."""

import json
import random
from collections import defaultdict
from itertools import combinations

import numpy as np
import pytest

from tasks.cleaning import DedupSpec, clusters, dedup, ordered
from tasks.cleaning.clusters import buckets, join_similar, signatures
from tasks.cleaning.shingles import jaccard, shingle_sets
from tasks.cleaning.splits import assign_splits
from tasks.core import tables, workers
from tasks.core.errors import ContractError
from tasks.core.tables import read_rows
from tasks.core.text import normalized
from tasks.core.union_find import UnionFind
from tests.data.kit import chinese, clean_of, documents, english, filtered_of


def rows(*texts):
    return [{"id": f"d{number:03d}", "text": text} for number, text in enumerate(texts)]


def others(number):
    return [{"id": f"other {place:03d}", "text": (english if place % 2 else chinese)(place + 1_000)} for place in range(number)]


def removed(corpus):
    return {row["id"]: (row["reason"], row["kept_id"]) for row in read_rows(corpus.path / "removed.parquet")}


def shingles(text, size, by_character=True):
    return shingle_sets([normalized(text)], size, by_character)[0]


def test_shingles_are_sets_of_runs():
    assert len(shingles("天地玄黄宇宙", 5)) == 2
    assert len(shingles("one two three four five six", 5)) == 2
    assert len(shingles("a b a b a b", 2)) == 2
    assert len(shingles("天地", 5)) == 1
    assert len(shingles("天地玄黄 see 宇宙", 2, by_character=False)) == 2
    assert len(shingles("天地玄黄 see 宇宙", 2)) == 6
    assert shingles("。！？", 5).tolist() == [0]


def test_case_width_space_and_punctuation_do_not_count():
    assert shingles("Ａ天地，玄 黄", 3).tolist() == shingles("a天地玄黄。", 3).tolist()
    assert shingles("The cat, sat!", 3).tolist() == shingles("the CAT\nsat", 3).tolist()


def test_order_counts():
    assert jaccard(shingles("one two three", 3), shingles("three two one", 3)) == 0


def test_a_set_does_not_hang_on_the_texts_beside_it():
    texts = ["one two three four", "天地玄黄", "", "x", "one two three four five"]
    together = shingle_sets(texts, 3, by_character=True)
    assert [found.tolist() for found in together] == [shingles(text, 3).tolist() for text in texts]


def test_jaccard_by_hand():
    assert jaccard(np.array([1, 2, 3], np.uint64), np.array([2, 3, 4, 5], np.uint64)) == 2 / 5


def test_union_find_names_the_smallest():
    found = UnionFind(6)
    for first, second in ((4, 5), (1, 4), (2, 3)):
        found.join(first, second)
    assert [found.find(number) for number in range(6)] == [0, 1, 2, 2, 1, 1]


def test_buckets_are_groups_with_one_key():
    keys = np.array([[7, 1], [8, 2], [7, 3], [9, 2]], dtype=np.uint64)
    assert list(buckets(keys)) == [[0, 2], [1, 3]]


def test_signatures_do_not_change():
    sets = [np.arange(50, dtype=np.uint64), np.arange(1, 51, dtype=np.uint64), np.arange(1_000, 1_050, dtype=np.uint64)]
    keys = signatures(sets, num_bands=4, rows_per_band=3)
    assert keys.shape == (3, 4)
    assert keys.tolist() == signatures(sets, 4, 3).tolist()
    assert (keys[0] == keys[2]).sum() == 0


def test_candidates_below_the_threshold_are_not_joined():
    sets = [np.arange(10, dtype=np.uint64), np.arange(3, 13, dtype=np.uint64), np.arange(1, 11, dtype=np.uint64)]
    same_key = np.zeros((3, 1), dtype=np.uint64)
    found = UnionFind(3)
    join_similar(found, same_key, sets.__getitem__, threshold=0.8)
    assert [found.find(number) for number in range(3)] == [0, 1, 0]  # 9/11 is joined, 7/13 is not


def test_a_bucket_of_one_template_costs_a_bounded_number_of_comparisons(monkeypatch):
    monkeypatch.setattr(clusters, "_MAX_LEADERS", 10)
    sets = [np.arange(100 * number, 100 * number + 50, dtype=np.uint64) for number in range(300)]
    sets[205] = sets[200]  # within the last ten, though two hundred came before
    asked = []
    found = UnionFind(len(sets))
    num_left = join_similar(found, np.zeros((300, 1), dtype=np.uint64), lambda number: asked.append(number) or sets[number], 0.8)
    assert num_left == 299 - 10
    assert [number for number in range(300) if found.find(number) != number] == [205]
    assert len(asked) <= 2 * 10 * 300


def test_exact_copies_by_normalised_text(site, tmp_path):
    text = english(1)
    corpus = clean_of(site, tmp_path, [*rows(text, text.upper(), text.replace(" ", "\n"), text + " "), *others(20)])
    assert corpus.removed_by_reason == {"exact": 3}
    assert {kept for _, kept in removed(corpus).values()} == {"test/d000"}


def test_near_copies_and_the_longest_is_kept(site, tmp_path):
    text = english(1)
    corpus = clean_of(
        site, tmp_path, [*rows(text.replace("Then 1 came", "Then he came"), text, text + " And more."), *others(20)]
    )
    assert removed(corpus) == {"test/d000": ("near", "test/d002"), "test/d001": ("near", "test/d002")}


def test_among_equals_the_first_id_is_kept_in_any_order(site, tmp_path):
    text = chinese(1)
    for number, order in enumerate((("b", "a", "c"), ("c", "b", "a"))):
        corpus = clean_of(site, tmp_path / str(number), [{"id": id, "text": text} for id in order] + others(20))
        assert {kept for _, kept in removed(corpus).values()} == {"test/a"}


def test_near_can_be_off(site, tmp_path):
    text = english(1)
    corpus = clean_of(site, tmp_path, [*rows(text, text, text + " And more."), *others(20)], near=None)
    assert corpus.removed_by_reason == {"exact": 1}


def planted(kind, number, similarity, seed=0):
    """Pairs of texts of about the given similarity: units of one of them are replaced."""
    choose = random.Random(f"{kind}{similarity}{seed}")
    alphabet = [chr(0x4E00 + place) for place in range(3_000)] if kind == "zh" else [f"w{place}" for place in range(3_000)]
    join = ("" if kind == "zh" else " ").join
    pairs = []
    for _ in range(number):
        first = choose.choices(alphabet, k=300)
        # Each replaced unit changes 5 of 300 shingles on each side.
        changes = round(300 * (1 - similarity) / (5 * (1 + similarity)))
        second = list(first)
        for place in choose.sample(range(0, 300, 7), changes):
            second[place] = choose.choice(alphabet)
        pairs.append((join(first), join(second)))
    return pairs


@pytest.mark.parametrize("kind", ["zh", "en"])
def test_planted_near_copies_are_found_and_only_they(kind):
    spec = DedupSpec().near
    sets, truth = [], {}
    for similarity in (0.95, 0.9, 0.85, 0.6, 0.4):
        for first, second in planted(kind, 40, similarity):
            pair = shingle_sets([first, second], 5, kind == "zh")
            truth[len(sets)] = (similarity, jaccard(*pair))
            sets.extend(pair)
    found = UnionFind(len(sets))
    join_similar(found, signatures(sets, spec.num_bands, spec.rows_per_band), sets.__getitem__, spec.threshold)
    joined = {number for number in truth if found.find(number) == found.find(number + 1)}
    above = {number for number, (_, real) in truth.items() if real >= spec.threshold}
    assert len(above) >= 100
    assert joined <= above, "a pair below the threshold was joined"
    assert len(joined) >= 0.99 * len(above)
    for first, second in combinations(sorted(truth), 2):
        assert found.find(first) != found.find(second)


@pytest.mark.parametrize(("kind", "size", "other"), [("zh", "chars", "words"), ("en", "words", "chars")])
def test_shorter_shingles_find_what_longer_ones_do_not(site, tmp_path, kind, size, other):
    join, text, strange = ("", chinese(1), "月") if kind == "zh" else (" ", english(1), "moon")
    parts = list(text) if kind == "zh" else text.split()
    changed = [strange if place % 30 == 10 else part for place, part in enumerate(parts)]  # 0.7 alike by fives, 0.85 by pairs
    filtered = filtered_of(site, tmp_path, [*rows(text, join.join(changed)), *others(20)])
    for near, removed_by_reason in (({f"{size}_per_shingle": 2}, {"near": 1}), ({f"{other}_per_shingle": 2}, {}), ({}, {})):
        corpus = dedup.build(DedupSpec.model_validate({"near": near}), filtered, site=site)
        assert corpus.removed_by_reason == removed_by_reason, near


def test_near_copies_are_found_across_language_labels(site, tmp_path):
    mixed = "，".join(map(chinese, range(3))) + "\n" + " ".join(" ".join(map(english, range(2))).split()[:140])
    longer = mixed + " " + " ".join(english(9).split()[:30])
    filtered = filtered_of(site, tmp_path, [*rows(mixed, longer), *others(20)])
    assert {row["id"]: row["lang"] for row in documents(filtered) if row["id"] < "test/e"} == {
        "test/d000": "zh",
        "test/d001": "en",
    }
    assert removed(dedup.build(DedupSpec(), filtered, site=site)) == {"test/d000": ("near", "test/d001")}


def test_no_cluster_lies_in_two_splits_and_every_split_has_documents(site, tmp_path):
    texts = [copy for number in range(60) for copy in (english(number), english(number) + " More.", chinese(number))]
    corpus = clean_of(site, tmp_path, rows(*texts), validation_share=0.2, test_share=0.2)
    splits, seen = defaultdict(set), set()
    for row in documents(corpus):
        splits[row["cluster"]].add(row["split"])
        seen.add((row["lang"], row["split"]))
    assert all(len(found) == 1 for found in splits.values())
    assert seen == {(lang, split) for lang in ("zh", "en") for split in ("train", "validation", "test")}
    assert corpus.removed_by_reason["near"] >= 60


def test_splits_hang_on_the_cluster_alone():
    few = [(f"c{number}", "en") for number in range(200)]
    many = few + [(f"c{number}", "en") for number in range(200, 400)]
    first, second = assign_splits(few, 0.1, 0.1, 0), assign_splits(many, 0.1, 0.1, 0)
    assert all(second[name] == split for name, split in first.items())
    assert assign_splits(few, 0.1, 0.1, 1) != first
    counts = [list(second.values()).count(split) for split in ("train", "validation", "test")]
    assert counts[0] > 300
    assert min(counts) > 20


@pytest.mark.parametrize("number", [3, 4, 5, 10])
def test_few_documents_still_fill_every_split(number):
    for seed in range(30):
        splits = assign_splits([(f"c{place}", "zh") for place in range(number)], 0.01, 0.01, seed)
        assert set(splits.values()) == {"train", "validation", "test"}, seed
        large = assign_splits([(f"c{place}", "zh") for place in range(number)], 0.49, 0.49, seed)
        assert set(large.values()) == {"train", "validation", "test"}, seed


def test_too_few_documents_is_an_error_that_says_what_to_do(site, tmp_path):
    with pytest.raises(ContractError, match=r"2 documents are left after dedup.*Add documents"):
        clean_of(site, tmp_path, rows(english(1), chinese(2)))


def test_order_workers_and_chunks_change_no_byte(site, tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "_GROUP_ROWS", 20)
    texts = [*rows(*(english(number // 3) + " x" * (number % 3) for number in range(30))), *others(30)]
    one = clean_of(site, tmp_path / "one", texts)
    shuffled = filtered_of(site, tmp_path / "two", random.Random(0).sample(texts, len(texts)))
    monkeypatch.setattr(workers, "_WORTH_BYTES", 0)
    monkeypatch.setattr(ordered, "_CHUNK_CHARS", 5_000)
    two = dedup.build(DedupSpec(), shuffled, site=site.model_copy(update={"data_workers": 2}))
    assert one.fingerprint != two.fingerprint
    assert one.digest == two.digest
    ids = [row["id"] for row in documents(one)]
    assert ids == sorted(ids)
    assert len(ids) == 40


def test_a_second_build_gives_the_same_bytes(site, tmp_path):
    filtered = filtered_of(site, tmp_path, [*rows(english(1), english(1)), *others(30)])
    one = dedup.build(DedupSpec(), filtered, site=site)
    two = dedup.build(DedupSpec(), filtered, site=site.model_copy(update={"state_dir": tmp_path / "other"}))
    assert one.digest == two.digest
    assert one.uri != two.uri


def test_example_clusters_are_cut_and_name_who_was_kept(site, tmp_path):
    text = english(1) * 3
    corpus = clean_of(site, tmp_path, [*rows(text, text, text, text, text, text), *others(20)])
    clusters = json.loads((corpus.path / "clusters.json").read_text(encoding="utf-8"))
    assert clusters[0]["size"] == 6
    assert [member["kept"] for member in clusters[0]["members"]].count(True) == 1
    assert all(len(member["text"]) <= 300 for member in clusters[0]["members"])


def test_the_work_folder_is_not_part_of_the_artifact(site, tmp_path):
    corpus = clean_of(site, tmp_path, others(20))
    assert sorted(path.name for path in corpus.path.iterdir()) == [
        "clusters.json",
        "documents",
        "manifest.json",
        "removed.parquet",
        "repeated_lines.json",
    ]
