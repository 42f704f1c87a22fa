"""Files of a remote store: found, pinned by what the store says, read as streams (a store in memory)."""

import gzip
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.core import remote
from tasks.core.errors import RecipeError, TransientError
from tasks.core.inputs import find_files, read_lines
from tasks.ingest import IngestSpec, ingest
from tests.data.kit import documents, read

ROOT = "memory://bucket"


@pytest.fixture
def store():
    system = fsspec.filesystem("memory")
    system.pipe({"/bucket/in/a.txt": b"one", "/bucket/in/.x/c.txt": b"hidden"})
    system.pipe("/bucket/in/sub/b.jsonl.gz", gzip.compress(b'{"text": "two"}\n'))
    yield system
    system.rm("/bucket", recursive=True)


def spec(*paths, **more):
    return IngestSpec(sources=({"kind": "files", "name": "test", "licence": "x", "paths": paths} | more,))


def test_a_folder_a_glob_and_a_file(store):
    assert [file.name for file in find_files([f"{ROOT}/in"])] == ["a.txt", "sub/b.jsonl.gz"]
    assert [file.name for file in find_files([f"{ROOT}/in/*.txt", f"{ROOT}/in/sub/b.jsonl.gz"])] == ["a.txt", "b.jsonl.gz"]
    (file,) = find_files([f"{ROOT}/in/sub/b.jsonl.gz"])
    assert [line.data for line in read_lines(file, 100)] == [b'{"text": "two"}']
    with pytest.raises(RecipeError, match="nowhere matches no file"):
        find_files([f"{ROOT}/nowhere"])


def test_remote_documents_equal_local_ones(site, store, tmp_path):
    pq.write_table(pa.table({"text": ["three", "four"]}), tmp_path / "c.parquet")
    store.put(str(tmp_path / "c.parquet"), "/bucket/in/c.parquet")
    corpus = ingest.build(spec(f"{ROOT}/in"), site=site)
    assert [row["text"] for row in documents(corpus)] == ["one", "three", "four", "two"]
    store.get("/bucket/in", str(tmp_path / "copy"), recursive=True)
    assert read(site, tmp_path / "copy", licence="x").digest == corpus.digest
    assert ingest.build(spec(f"file://{tmp_path}/copy"), site=site).digest == corpus.digest


def test_a_second_run_reuses_and_a_changed_file_rebuilds(site, store):
    assert [ingest.outcome(spec(f"{ROOT}/in"), site=site).result for _ in range(2)] == ["built", "reused"]
    store.pipe("/bucket/in/a.txt", b"two")
    assert ingest.outcome(spec(f"{ROOT}/in"), site=site).result == "built"


@pytest.mark.parametrize(
    ("facts", "stamp"),
    [
        ({"ETag": '"e"', "size": 3, "LastModified": "t"}, 'etag:"e"'),
        ({"md5Hash": "m", "etag": "e"}, "etag:e"),
        ({"blob_id": "b", "lfs": {"sha256": "s"}}, "sha256:s"),
        ({"size": 3, "LastModified": "t"}, "size+time:3@t"),
        ({"size": 0, "mtime": 9.5}, "size+time:0@9.5"),
    ],
)
def test_a_file_is_pinned_by_its_content_else_by_size_and_time(facts, stamp):
    assert remote._stamp("s3://b/x", facts) == stamp


def test_a_file_that_cannot_be_pinned_is_refused():
    with pytest.raises(RecipeError, match=r"https://x\.test/a cannot be pinned"):
        remote._stamp("https://x.test/a", {"size": 3})


class Page(BaseHTTPRequestHandler):
    """Answers every address with a page of links."""

    def do_GET(self):
        body = b'<a href="/in/other.html">other</a>'
        self.send_response(200)
        for name, value in {"ETag": '"one"', "Content-Length": str(len(body)), "Content-Type": "text/html"}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body if self.command == "GET" else b"")

    do_HEAD = do_GET

    def log_message(self, *_):
        """Says nothing."""


def test_a_page_with_links_is_a_file_and_no_folder():
    with HTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/in/page.html"
        (file,) = find_files([url])
        assert (file.name, file.url, file.stamp) == ("page.html", url, 'etag:"one"')
        server.shutdown()


def test_an_unknown_store_is_the_users_error():
    with pytest.raises(RecipeError, match="nosuch://b/x cannot be read"):
        find_files(["nosuch://b/x"])


def test_trouble_while_reading_is_passing_and_never_damage(site, store, monkeypatch):
    from fsspec.implementations.memory import MemoryFile

    def broken(self, *args):
        raise ConnectionResetError("gone")

    monkeypatch.setattr(MemoryFile, "read", broken)
    with pytest.raises(TransientError, match=r"bucket/in/a\.txt could not be read: ConnectionResetError: gone"):
        ingest.build(spec(f"{ROOT}/in"), site=site)


def test_denied_access_is_the_users_error(store, monkeypatch):
    def denied(path):
        raise PermissionError("no key")

    monkeypatch.setattr(store, "isdir", denied)
    with pytest.raises(RecipeError, match="access to memory://bucket/in is denied: no key"):
        find_files([f"{ROOT}/in"])
