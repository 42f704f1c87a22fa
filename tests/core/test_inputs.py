"""Input files: found, named, pinned by content, read in bounded memory."""

import gzip
import json
import os

import pytest
import zstandard

from tasks.core.errors import ContractError, RecipeError
from tasks.core.inputs import InputFile, check_unchanged, find_files, pin, read_lines, read_whole


@pytest.fixture
def folder(tmp_path):
    for name in ("b/two.txt", "a.txt", "b/one.md", ".hidden/x.txt", "b/.secret"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_text(name)
    return tmp_path / "in"


def names(*patterns):
    return [file.name for file in find_files([str(pattern) for pattern in patterns])]


def test_a_folder_is_walked_without_hidden_files(folder):
    assert names(folder) == ["a.txt", "b/one.md", "b/two.txt"]


def test_linked_folders_are_walked_once_and_circles_end(folder, tmp_path):
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "three.txt").write_text("three")
    links = {
        "far": tmp_path / "far",
        "far-too": tmp_path / "far",
        "a-link-to-b": folder / "b",
        "b/back": folder,
        "b/up": tmp_path,
        "now": folder / ".v1",
    }
    (folder / ".v1").mkdir()
    (folder / ".v1" / "four.txt").write_text("four")
    for name, target in links.items():
        (folder / name).symlink_to(target)
    (tmp_path / "far" / "round").symlink_to(tmp_path / "far")
    assert names(folder) == ["a.txt", "b/one.md", "b/two.txt", "b/up/far/three.txt", "now/four.txt"]


def test_a_folder_that_may_not_be_read_is_refused(folder, monkeypatch):
    (folder / "b").chmod(0)
    monkeypatch.chdir(folder)  # the folders above are the superuser's own
    before = os.geteuid()
    try:
        if before == 0:
            os.seteuid(65_534)
        with pytest.raises(RecipeError, match=r"folder \./b cannot be read \(Permission denied\)"):
            find_files(["."])
    finally:
        os.seteuid(before)
        (folder / "b").chmod(0o700)


def test_a_glob_names_files_from_its_first_wildcard(folder):
    assert names(folder / "**/*.txt") == [".hidden/x.txt", "a.txt", "b/two.txt"]
    assert names(folder / "b" / "*.md") == ["one.md"]


def test_a_file_with_wildcard_characters_in_its_name_is_found(tmp_path):
    (tmp_path / "a[1].txt").write_text("x")
    assert names(tmp_path / "a[1].txt") == ["a[1].txt"]


def test_a_file_named_twice_is_read_once(folder):
    assert names(folder / "a.txt", folder / "a.txt") == ["a.txt"]


def test_nothing_found_names_the_pattern(tmp_path):
    (tmp_path / "empty").mkdir()
    for pattern in (tmp_path / "missing.txt", tmp_path / "*.txt", tmp_path / "empty"):
        with pytest.raises(RecipeError, match=f"{pattern.name.replace('*', '.')} matches no file"):
            find_files([str(pattern)])


def test_two_files_of_one_name_are_refused(folder):
    (folder / "b" / "a.txt").write_text("other")
    with pytest.raises(RecipeError, match=r"would both be called a.txt"):
        find_files([str(folder / "a.txt"), str(folder / "b" / "a.txt")])


@pytest.mark.parametrize(
    ("name", "format", "compression"), [("a.JSONL.GZ", "jsonl", "gzip"), ("a.tar.zst", "tar", "zstd"), ("a", "", None)]
)
def test_format_and_compression(tmp_path, name, format, compression):
    file = InputFile(name, tmp_path / name)
    assert (file.format, file.compression) == (format, compression)


def test_the_digest_is_of_names_and_contents_not_of_places(site, folder, tmp_path):
    before = pin(find_files([str(folder)]), site)
    folder.rename(tmp_path / "elsewhere")
    assert pin(find_files([str(tmp_path / "elsewhere")]), site) == before
    (tmp_path / "elsewhere" / "a.txt").write_text("other")
    assert pin(find_files([str(tmp_path / "elsewhere")]), site) != before


def test_digests_of_settled_files_are_remembered(site, folder):
    path = folder / "a.txt"
    os.utime(path, (1_000, 1_000))
    first = pin(find_files([str(path)]), site)
    known = json.loads((site.root / "cache" / "digests.json").read_text())
    assert list(known) == [str(path)]
    path.write_text("other")  # same size, other time
    assert pin(find_files([str(path)]), site) != first


def test_a_file_changed_a_moment_ago_is_hashed_again(site, folder):
    path = folder / "a.txt"
    first = pin(find_files([str(path)]), site)
    status = path.stat()
    path.write_text("b.txt")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert pin(find_files([str(path)]), site) != first


def test_a_damaged_cache_only_costs_time(site, folder):
    (site.root / "cache").mkdir(parents=True)
    (site.root / "cache" / "digests.json").write_text("{broken")
    assert pin(find_files([str(folder)]), site)


def test_a_broken_link_is_pinned_as_unreadable(site, tmp_path):
    (tmp_path / "gone.txt").symlink_to(tmp_path / "nowhere")
    assert pin(find_files([str(tmp_path / "gone.txt")]), site)


def test_change_while_reading_is_refused(site, folder):
    files = find_files([str(folder)])
    digest = pin(files, site)
    check_unchanged("source x", digest, files, site)
    (folder / "a.txt").write_text("late change")
    with pytest.raises(ContractError, match="the files of source x changed"):
        check_unchanged("source x", digest, files, site)


def compress(path, data, frames=1):
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(data) * frames)
    elif path.suffix == ".zst":
        path.write_bytes(zstandard.compress(data) * frames)
    else:
        path.write_bytes(data * frames)
    return InputFile(path.name, path)


@pytest.mark.parametrize("suffix", ["jsonl", "jsonl.gz", "jsonl.zst"])
def test_lines_of_plain_and_compressed_files(tmp_path, suffix):
    file = compress(tmp_path / f"a.{suffix}", b"one\n\ntwo\n", frames=2)
    assert [(line.number, line.data) for line in read_lines(file, 100)] == [
        (1, b"one"), (2, b""), (3, b"two"), (4, b"one"), (5, b""), (6, b"two"),
    ]  # fmt: skip


def test_the_last_line_needs_no_end(tmp_path):
    assert [line.data for line in read_lines(compress(tmp_path / "a.jsonl", b"one\ntwo"), 100)] == [b"one", b"two"]


def test_a_long_line_comes_without_its_bytes(tmp_path):
    file = compress(tmp_path / "a.jsonl.gz", b"short\n" + b"x" * 5_000_000 + b"\nend\n" + b"y" * 3_000_000)
    assert [line.data for line in read_lines(file, 1_000)] == [b"short", None, b"end", None]


def test_a_bomb_is_never_held_in_memory(tmp_path):
    import tracemalloc

    file = compress(tmp_path / "a.jsonl.gz", b"\0" * 300_000_000)
    tracemalloc.start()
    assert [line.data for line in read_lines(file, 1_000_000)] == [None]
    assert read_whole(file, 1_000_000) is None
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20_000_000


@pytest.mark.parametrize("suffix", ["gz", "zst"])
def test_a_stream_that_is_cut_off_is_an_error_after_what_could_be_read(tmp_path, suffix):
    file = compress(tmp_path / f"a.jsonl.{suffix}", os.urandom(3_000_000).replace(b"\n", b"") + b"\n" + os.urandom(3_000_000))
    file.path.write_bytes(file.path.read_bytes()[:-1_000])
    with pytest.raises(OSError, match="Truncated"):
        list(read_lines(file, 10_000_000))
